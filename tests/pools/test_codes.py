"""Sets of targets as codes: by hand, and round trips of random mappings."""

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_xlstm.imaging.label_look_up import look_up
from nnunet_xlstm.pools.codes import make_codes, members_of, painting_order

LIVER = {"liver": [1, 2], "liver_tumor": [2]}  # MSD03


VESSELS = {"vessel": [1], "liver_tumor": [2]}  # MSD08


AMOS = {"liver": [6], "kidney": [2, 3], "kidney_right": [2], "kidney_left": [3]}


KITS = {"kidney": [1, 2, 3], "kidney_tumor": [2], "kidney_cyst": [3]}


GROUPS = {
    "liver": "organ", "liver_tumor": "lesion", "vessel": "vessel", "kidney": "organ", "kidney_tumor": "lesion",
    "kidney_cyst": "lesion", "kidney_right": "organ", "kidney_left": "organ",
}  # fmt: skip


OVER = (("liver", "liver_tumor"), ("kidney", "kidney_cyst", "kidney_tumor"))


def codes_of(*sources, targets=tuple(GROUPS), groups=GROUPS, over=OVER):
    return make_codes(targets, groups, sources, over)


def test_codes_by_hand():
    codes = codes_of(LIVER, VESSELS, targets=("liver", "liver_tumor", "vessel"), over=(("liver", "liver_tumor"),))
    assert codes.order == ("liver", "vessel", "liver_tumor")
    sets = [set(members) for _, members in sorted(codes.sets.items())]
    assert sets == [{"liver"}, {"liver_tumor"}, {"vessel"}, {"liver", "liver_tumor"}]
    assert codes.labels() == {"background": 0, "liver": [1, 4], "vessel": 3, "liver_tumor": [2, 4]}
    assert codes.labels(ignore=True)["ignore"] == 5
    assert codes.class_order() == [1, 3, 4]  # a tumour is painted as part of the liver, also one from MSD08
    assert codes.table(LIVER, [1, 2]) == {1: 1, 2: 4}
    assert codes.table(VESSELS, [1, 2, 7]) == {1: 3, 2: 2, 7: 0}


def test_unions_are_painted_with_their_parts():
    codes = codes_of(LIVER, VESSELS, AMOS, KITS)
    right = codes.sets[codes.painted["kidney_right"]]
    assert right == {"kidney", "kidney_right"} and codes.sets[codes.painted["kidney"]] == {"kidney"}
    assert codes.sets[codes.painted["kidney_cyst"]] == {"kidney", "kidney_cyst"}
    order = codes.order
    assert order.index("kidney_cyst") < order.index("kidney_tumor")  # as the chain says, not as listed
    assert max(map(order.index, ("liver", "kidney", "kidney_left"))) < order.index("vessel")


def test_a_target_that_is_a_part_in_one_source_only_is_no_part():
    """Where two sources disagree on inclusion, neither is taken for granted."""
    codes = codes_of({"a": [1, 2], "b": [2]}, {"a": [1], "b": [2]}, targets=("a", "b"),
                     groups={"a": "organ", "b": "organ"}, over=())  # fmt: skip
    assert codes.sets[codes.painted["b"]] == {"b"}


def test_nnunet_trains_sigmoids_even_where_nothing_overlaps():
    codes = codes_of({"a": [1]}, {"b": [1]}, targets=("a", "b"), groups={"a": "organ", "b": "organ"}, over=())
    manager = LabelManager(codes.labels(), codes.class_order())
    assert manager.has_regions and manager.num_segmentation_heads == 2
    assert codes.labels() == {"background": 0, "a": [1, 3], "b": 2}


def test_a_merged_map_decodes():
    """Stock nnU-Net paints a voxel of liver and tumour with a code that is both."""
    codes = codes_of(LIVER, VESSELS, AMOS, KITS)
    manager = LabelManager(codes.labels(), codes.class_order())
    on = np.full((len(codes.order), 1, 1, 3), -9.0, np.float32)
    for voxel, targets in enumerate((("liver",), ("liver", "liver_tumor"), ("kidney", "kidney_left"))):
        for t in targets:
            on[codes.order.index(t), 0, 0, voxel] = 9
    merged = manager.convert_logits_to_segmentation(on).ravel()
    assert [codes.sets[int(code)] for code in merged] == [
        {"liver"}, {"liver", "liver_tumor"}, {"kidney", "kidney_left"}
    ]  # fmt: skip


def test_chains_that_contradict_each_other():
    with pytest.raises(ValueError, match="over: a, b would each have to be painted before the other"):
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
    codes = make_codes(names, groups, sources, ())
    labels = codes.labels()
    manager = LabelManager(labels, codes.class_order())
    assert manager.has_regions and set(manager.all_labels) == {0, *codes.sets}
    for source in sources:
        native = rng.integers(0, 7, (4, 5, 6))
        mapped = look_up(native, codes.table(source, range(1, 7)))
        assert mapped.dtype == np.uint8
        for t in names:
            region = labels[t] if isinstance(labels[t], list) else [labels[t]]
            assert np.array_equal(np.isin(mapped, region), np.isin(native, source.get(t, [])))


def test_members_of():
    assert members_of(LIVER, 2) == {"liver", "liver_tumor"} and members_of(LIVER, 9) == frozenset()
