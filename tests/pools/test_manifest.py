"""Sets of targets as codes: by hand, and round trips of random mappings."""

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_xlstm.catalogue.entries import PoolTarget
from nnunet_xlstm.imaging.label_look_up import look_up
from nnunet_xlstm.pools.manifest import make_manifest, painting_order
from nnunet_xlstm.pools.mapping import SourceMapping

LIVER = {"liver": [1, 2], "liver_tumor": [2]}  # MSD03


VESSELS = {"vessel": [1], "liver_tumor": [2]}  # MSD08


AMOS = {"liver": [6], "kidney": [2, 3], "kidney_right": [2], "kidney_left": [3]}


KITS = {"kidney": [1, 2, 3], "kidney_tumor": [2], "kidney_cyst": [3]}


GROUPS = {
    "liver": "organ", "liver_tumor": "lesion", "vessel": "vessel", "kidney": "organ", "kidney_tumor": "lesion",
    "kidney_cyst": "lesion", "kidney_right": "organ", "kidney_left": "organ",
}  # fmt: skip


HIERARCHY = (("liver", "liver_tumor"), ("kidney", "kidney_cyst", "kidney_tumor"))


def mapping(targets, ids=(), **more):
    """Of a source whose labels are called as their ids."""
    return SourceMapping(modality="CT", labels={str(i): i for i in ids}, targets=targets, **more)


def manifest_of(*sources, targets=tuple(GROUPS), groups=GROUPS, hierarchy=HIERARCHY):
    rows = [PoolTarget(name, groups[name], ("CT",), ("abdomen",)) for name in targets]
    mappings = [source if isinstance(source, SourceMapping) else mapping(source) for source in sources]
    return make_manifest(rows, {str(i): one for i, one in enumerate(mappings)}, hierarchy)


def members(pool, code):
    return set(pool.codes[code])


def test_codes_by_hand():
    pool = manifest_of(
        LIVER, VESSELS, targets=("liver", "liver_tumor", "vessel"), hierarchy=(("liver", "liver_tumor"),)
    )
    assert pool.names == ("liver", "vessel", "liver_tumor")
    sets = [set(names) for _, names in sorted(pool.codes.items())]
    assert sets == [{"liver"}, {"liver_tumor"}, {"vessel"}, {"liver", "liver_tumor"}]
    assert pool.labels() == {"background": 0, "liver": [1, 4], "vessel": 3, "liver_tumor": [2, 4]}
    assert manifest_of(mapping(LIVER, ignore=3), VESSELS, hierarchy=HIERARCHY[:1]).labels()["ignore"] == 5
    assert pool.class_order() == [1, 3, 4]  # a tumour is painted as part of the liver, also one from MSD08
    assert pool.table(mapping(LIVER)) == {1: 1, 2: 4}
    assert pool.table(mapping(VESSELS, [7])) == {1: 3, 2: 2, 7: 0}


def test_unions_are_painted_with_their_parts():
    pool = manifest_of(LIVER, VESSELS, AMOS, KITS)
    right = members(pool, pool.representative["kidney_right"])
    assert right == {"kidney", "kidney_right"} and members(pool, pool.representative["kidney"]) == {"kidney"}
    assert members(pool, pool.representative["kidney_cyst"]) == {"kidney", "kidney_cyst"}
    order = pool.names
    assert order.index("kidney_cyst") < order.index("kidney_tumor")  # as the chain says, not as listed
    assert max(map(order.index, ("liver", "kidney", "kidney_left"))) < order.index("vessel")


def test_a_target_that_is_a_part_in_one_source_only_is_no_part():
    """Where two sources disagree on inclusion, neither is taken for granted."""
    pool = manifest_of({"a": [1, 2], "b": [2]}, {"a": [1], "b": [2]}, targets=("a", "b"),
                     groups={"a": "organ", "b": "organ"}, hierarchy=())  # fmt: skip
    assert members(pool, pool.representative["b"]) == {"b"}


def test_nnunet_trains_sigmoids_even_where_nothing_overlaps():
    pool = manifest_of({"a": [1]}, {"b": [1]}, targets=("a", "b"), groups={"a": "organ", "b": "organ"}, hierarchy=())
    manager = LabelManager(pool.labels(), pool.class_order())
    assert manager.has_regions and manager.num_segmentation_heads == 2
    assert pool.labels() == {"background": 0, "a": [1, 3], "b": 2}


def test_a_merged_map_decodes():
    """Stock nnU-Net paints a voxel of liver and tumour with a code that is both."""
    pool = manifest_of(LIVER, VESSELS, AMOS, KITS)
    manager = LabelManager(pool.labels(), pool.class_order())
    on = np.full((len(pool.names), 1, 1, 3), -9.0, np.float32)
    for voxel, targets in enumerate((("liver",), ("liver", "liver_tumor"), ("kidney", "kidney_left"))):
        for t in targets:
            on[pool.names.index(t), 0, 0, voxel] = 9
    merged = manager.convert_logits_to_segmentation(on).ravel()
    assert [members(pool, int(code)) for code in merged] == [
        {"liver"}, {"liver", "liver_tumor"}, {"kidney", "kidney_left"}
    ]  # fmt: skip


def test_chains_that_contradict_each_other():
    with pytest.raises(ValueError, match="hierarchy: a, b would each have to be painted before the other"):
        painting_order(["a", "b"], {"a": "organ", "b": "organ"}, [("a", "b"), ("b", "a")])


@pytest.mark.parametrize("seed", range(20))
def test_round_trip_of_random_mappings(seed):
    """Swaps, cycles, unions, ids without target: the codes of a source give back the targets of every voxel."""
    rng = np.random.default_rng(seed)
    names = [f"t{i}" for i in range(rng.integers(1, 6))]
    groups = {t: str(rng.choice(["organ", "vessel", "lesion"])) for t in names}
    sources = []
    for _ in range(rng.integers(1, 4)):
        kept = [t for t in names if rng.random() < 0.8] or names[:1]
        sources.append({t: rng.choice(range(1, 7), rng.integers(1, 4), replace=False).tolist() for t in kept})
    names = [t for t in names if any(t in source for source in sources)]
    pool = manifest_of(*sources, targets=names, groups=groups, hierarchy=())
    labels = pool.labels()
    manager = LabelManager(labels, pool.class_order())
    assert manager.has_regions and set(manager.all_labels) == {0, *pool.codes}
    for source in sources:
        native = rng.integers(0, 7, (4, 5, 6))
        mapped = look_up(native, pool.table(mapping(source, range(1, 7))))
        assert mapped.dtype == np.uint8
        for t in names:
            region = labels[t] if isinstance(labels[t], list) else [labels[t]]
            assert np.array_equal(np.isin(mapped, region), np.isin(native, source.get(t, [])))


def test_members():
    assert mapping(LIVER).members(2) == {"liver", "liver_tumor"} and mapping(LIVER).members(9) == frozenset()
