"""Predictions of a pool's network, restricted: the rule by hand and as properties, folders, and stock nnU-Net."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from support.image_files import tree, write
from support.pool_predictions import ideal, make_dataset_json, stock_map, write_case
from support.raw_datasets import claiming, cut, sheared, zero_pixdim

from nnunet_xlstm.catalogue.entries import PoolTarget, load_pool, shipped_pools
from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.io import write as files
from nnunet_xlstm.pools.manifest import make_manifest
from nnunet_xlstm.pools.manifest_json import header_of, read_manifest
from nnunet_xlstm.pools.mapping import SourceMapping
from nnunet_xlstm.pools.restrict import folder as restrict_files
from nnunet_xlstm.pools.restrict.folder import restrict_folder
from nnunet_xlstm.pools.restrict.painting import (
    Request,
    deepest_last,
    layers_of,
    masks_of,
    merged_of,
    omitted_targets,
    paint,
    resolve_exclusive,
)

ABDOMEN = {  # target -> group, in the order of painting
    "liver": "organ",
    "kidney": "organ",
    "kidney_right": "organ",
    "kidney_left": "organ",
    "spleen": "organ",
    "vein": "vessel",
    "liver_tumor": "lesion",
    "kidney_cyst": "lesion",
    "kidney_tumor": "lesion",
}
SOURCES = {
    "LiverSet": {"liver": [1, 2], "liver_tumor": [2]},
    "KidneySet": {"kidney": [1, 2, 3], "kidney_tumor": [2], "kidney_cyst": [3]},
    "Organs": {"spleen": [1], "kidney": [2, 3], "kidney_right": [2], "kidney_left": [3], "liver": [6]},
    "Swapped": {"liver": [7], "spleen": [6], "kidney_right": [3], "kidney_left": [2], "kidney": [3, 2]},
    "Vessels": {"vein": [1], "liver_tumor": [2]},
}
HIERARCHY = [["liver", "liver_tumor"], ["kidney", "kidney_cyst", "kidney_tumor"]]
MUTUALLY_EXCLUSIVE = [["kidney_left", "kidney_right"]]


@pytest.fixture(scope="module")
def dataset():
    return make_dataset_json(ABDOMEN, SOURCES, HIERARCHY, MUTUALLY_EXCLUSIVE)


@pytest.fixture(scope="module")
def pool(dataset):
    return read_manifest(dataset)


def native(pool, source, columns, modality=None):
    omitted = omitted_targets(pool, Request(source, modality))
    allowed = [name for name in pool.names if name not in omitted]
    active, p = resolve_exclusive(np.asarray(columns, np.float32), pool.names, allowed, pool.mutually_exclusive)
    return paint(active, p, layers_of(pool, pool.source(source), allowed))


def voxel(pool, source, **probabilities):
    """The id of one voxel with these probabilities; the other targets have 0.1."""
    column = [probabilities.get(name, 0.1) for name in pool.names]
    return int(native(pool, source, np.array(column)[:, None])[0])


# Hand-computed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "probabilities", "expected"),
    [
        ("LiverSet", {"liver": 0.9}, 1),
        ("LiverSet", {"liver": 0.9, "liver_tumor": 0.6}, 2),
        ("LiverSet", {"liver": 0.2, "liver_tumor": 0.6}, 2),  # a lesion need not lie in what was found of the organ
        ("LiverSet", {"liver": 0.5}, 0),  # above the threshold, not at it
        ("LiverSet", {"spleen": 0.99, "liver": 0.6}, 1),  # nobody labelled the spleen there
        ("LiverSet", {"kidney_tumor": 0.99}, 0),
        ("KidneySet", {"kidney": 0.9}, 1),
        ("KidneySet", {"kidney": 0.9, "kidney_cyst": 0.9, "kidney_tumor": 0.6}, 2),  # cyst before tumour
        ("KidneySet", {"kidney": 0.9, "kidney_cyst": 0.6}, 3),
        ("KidneySet", {"kidney_left": 0.9}, 0),
        ("Organs", {"liver": 0.9, "spleen": 0.6}, 1),  # the order of painting, as they exclude nothing
        ("Organs", {"kidney_left": 0.8, "kidney_right": 0.7}, 3),
        ("Organs", {"kidney_left": 0.7, "kidney_right": 0.8}, 2),
        ("Organs", {"kidney_left": 0.8, "kidney_right": 0.8}, 3),  # equal: the first of the group
        ("Organs", {"kidney": 0.9, "kidney_left": 0.3, "kidney_right": 0.4}, 2),  # the union adds where no part won
        ("Organs", {"kidney": 0.9, "kidney_left": 0.4, "kidney_right": 0.3}, 3),
        ("Organs", {"kidney": 0.9}, 0),  # no side is likelier
        ("Organs", {"kidney": 0.3, "kidney_left": 0.6}, 3),
        ("Swapped", {"kidney": 0.9, "kidney_left": 0.6}, 2),
        ("Vessels", {"vein": 0.9, "liver_tumor": 0.6}, 2),
        ("Vessels", {"vein": 0.9, "liver": 0.9}, 1),
    ],
)
def test_one_voxel(pool, source, probabilities, expected):
    assert voxel(pool, source, **probabilities) == expected


def test_a_lesion_in_two_organs_takes_the_organ_that_is_nearer():
    groups = {"a": "organ", "b": "organ", "lesion": "lesion"}
    pool = read_manifest(make_dataset_json(groups, {"S": {"a": [1, 2], "b": [3, 4], "lesion": [2, 4]}}))
    assert voxel(pool, "S", a=0.4, b=0.3, lesion=0.9) == 2
    assert voxel(pool, "S", a=0.3, b=0.9, lesion=0.9) == 4


def test_a_union_that_is_listed_after_its_parts_does_not_hide_them():
    groups = {"left": "organ", "right": "organ", "lungs": "organ"}
    source = {"left": [1], "right": [2], "lungs": [1, 2]}
    pool = read_manifest(make_dataset_json(groups, {"S": source}, (), [["left", "right"]]))
    assert [voxel(pool, "S", lungs=0.9, **{side: 0.6}) for side in ("left", "right")] == [1, 2]
    active, _ = resolve_exclusive(np.array([[0.9], [0.1], [0.9]]), pool.names, pool.names, pool.mutually_exclusive)
    assert merged_of(pool, active).tolist() == [1]
    assert deepest_last(["core", "edema", "whole"], {"core": {"whole", "edema"}, "edema": {"whole"}, "whole": ()}) == [
        "whole",
        "edema",
        "core",
    ]


def test_a_target_that_is_left_out_gives_its_own_ids_to_nobody(pool):
    assert omitted_targets(pool, Request("LiverSet", "MR")).keys() == set(pool.names) - {"liver", "liver_tumor"}
    groups = ABDOMEN | {"liver_tumor": ("lesion", ["CT"], ["abdomen"])}
    pool = read_manifest(make_dataset_json(groups, SOURCES, HIERARCHY))
    column = np.full((len(pool.names), 2), 0.1)
    column[pool.names.index("liver_tumor")] = 0.9
    column[pool.names.index("liver"), 1] = 0.9
    assert native(pool, "LiverSet", column, "MR").tolist() == [0, 1]


def test_a_union_without_ids_takes_those_of_organs_that_may_be_there():
    """Not those of its lesions, nor of parts that are left out."""
    groups = {"kidney": "organ", "left": ("organ", ["CT"], ["abdomen"]), "right": "organ", "cyst": "lesion"}
    source = {"kidney": [1, 2, 3], "left": [1], "right": [2], "cyst": [3]}
    pool = read_manifest(make_dataset_json(groups, {"S": source}))
    assert voxel(pool, "S", kidney=0.9, left=0.3, right=0.2, cyst=0.4) == 1
    column = np.array([[0.9], [0.4], [0.2], [0.1]])
    assert native(pool, "S", column).tolist() == [1]
    assert native(pool, "S", column, "MR").tolist() == [2]
    only_lesions = {"kidney": [1, 2], "cyst": [1], "left": [2]}
    pool = read_manifest(make_dataset_json(groups, {"S": only_lesions}))
    assert native(pool, "S", column, "MR").tolist() == [1]


def test_what_a_lesion_brings_along_overrides_what_excludes_it():
    groups = {"liver": "organ", "spleen": "organ", "liver_tumor": "lesion"}
    source = {"liver": [1, 2], "liver_tumor": [2], "spleen": [3]}
    dataset = make_dataset_json(groups, {"S": source}, [["liver", "liver_tumor"]], [["liver", "spleen"]])
    pool = read_manifest(dataset)
    active, _ = resolve_exclusive(
        np.array([[0.2, 0.2], [0.9, 0.9], [0.6, 0.1]]), pool.names, pool.names, pool.mutually_exclusive
    )
    assert masks_of(pool, active, pool.names).astype(int).tolist() == [[1, 0], [0, 1], [1, 0]]


# Properties -----------------------------------------------------------------------------------------------------------


def random_pool(rng):
    """Sets of targets drawn at random for every id of three sources: swaps, unions, chains and gaps in the ids."""
    names = [f"t{i}" for i in range(rng.integers(2, 8))]
    order = sorted(rng.permutation(names), key=lambda _: rng.random())
    groups = dict.fromkeys(order, "organ")
    rivals = [list(rng.choice(names, 2, replace=False))] if len(names) > 3 else []
    sources = {}
    for s in range(3):
        ids = {}
        seen = set()
        for number in rng.permutation(np.arange(1, 20))[: rng.integers(1, 8)]:
            chosen = frozenset(n for n in names if rng.random() < 0.4) or frozenset(rng.choice(names, 1))
            if chosen not in seen and not any(set(group) <= chosen for group in rivals):
                seen.add(chosen)
                for name in chosen:
                    ids.setdefault(str(name), []).append(int(number))
        if ids:
            sources[f"S{s}"] = ids
    return make_dataset_json(groups, sources or {"S": {"t0": [3]}}, (), rivals)


@pytest.mark.parametrize("seed", range(40))
def test_round_trip(seed):
    rng = np.random.default_rng(seed)
    dataset = random_pool(rng)
    pool = read_manifest(dataset)
    assert json.loads(json.dumps(header_of(pool)["pool"])) == dataset["pool"]
    for name, source in pool.sources.items():
        labels = rng.choice([0, *{i for ids in source.targets.values() for i in ids}], 300)
        for doubt in (None, rng):
            assert np.array_equal(native(pool, name, ideal(dataset, name, labels, doubt)), labels)


@pytest.mark.parametrize("name", shipped_pools())
def test_shipped_pools_give_back_the_labels_of_all_their_sources(name):
    """From probabilities and from stock nnU-Net's merged map."""
    plan = load_pool(name)
    targets = [PoolTarget(t.name, t.group, tuple(t.modality), tuple(t.region)) for t in plan.targets]
    mappings = {
        source.dataset.name: SourceMapping(modality="CT", labels={}, targets=source.targets) for source in plan.sources
    }
    order = make_manifest(targets, mappings, plan.hierarchy).names
    rows = {target.name: (target.group, target.modality, target.region) for target in plan.targets}
    sources = {source.dataset.name: source.targets for source in plan.sources}
    dataset = make_dataset_json({t: rows[t] for t in order}, sources, plan.hierarchy, plan.mutually_exclusive)
    pool = read_manifest(dataset)
    for source, targets in sources.items():
        labels = np.array(sorted({i for ids in targets.values() for i in ids}))
        p = ideal(dataset, source, labels)
        assert native(pool, source, p).tolist() == labels.tolist()
        merged = [pool.codes[code] for code in stock_map(dataset, p).tolist()]
        decoded = np.array([[name in members for members in merged] for name in pool.names])
        assert native(pool, source, decoded).tolist() == labels.tolist()


@pytest.mark.parametrize("source", SOURCES)
def test_round_trip_through_the_merged_map_of_stock_nnunet(tmp_path, dataset, source):
    rng = np.random.default_rng(0)
    ids = sorted({i for group in SOURCES[source].values() for i in group})
    labels = rng.choice([0, *ids], (3, 4, 5))
    folder = write_case(tmp_path / "in", "case", dataset, ideal(dataset, source, labels), npz=False)
    report = restrict_folder(folder, tmp_path / "out", Request(source))
    assert np.array_equal(read(tmp_path / "out" / "case.nii.gz"), labels)
    assert report["from_merged_maps"]["cases"] == ["case"] and report["from_merged_maps"]["not_possible"]


@pytest.mark.parametrize("seed", range(10))
def test_all_targets(seed, pool):
    rng = np.random.default_rng(seed)
    p = rng.random((len(pool.names), 500))
    allowed = [name for name in pool.names if rng.random() < 0.8]
    active, _ = resolve_exclusive(p, pool.names, allowed, pool.mutually_exclusive)
    masks = dict(zip(pool.names, masks_of(pool, active, allowed), strict=True))
    assert not any(masks[name].any() for name in pool.names if name not in allowed)
    assert not (masks["kidney_left"] & masks["kidney_right"]).any()
    for organ, *lesions in HIERARCHY:
        for lesion in lesions:
            assert organ not in allowed or not (masks[lesion] & ~masks[organ]).any()
    merged = merged_of(pool, active)
    for row, name in enumerate(pool.names):
        assert masks[name][merged == row + 1].all()
    assert np.array_equal(merged > 0, active.any(0))


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_decided_by_the_likeliest(seed):
    rng = np.random.default_rng(seed)
    p = rng.random((4, 200)).astype(np.float16)
    p[:, :50] = p[0, :50]  # ties
    active, q = resolve_exclusive(p, list("abcd"), list("abcd"), [list("cab")])
    group = p[[2, 0, 1]]
    expected = (np.arange(3)[:, None] == group.argmax(0)) & (group > 0.5)
    assert np.array_equal(active[[2, 0, 1]], expected)
    assert np.array_equal(active[3], p[3] > 0.5)
    assert not q[:3][(p[:3] > 0.5) & ~active[:3]].any()


# What a scan cannot contain -------------------------------------------------------------------------------------------

BODY = {
    "brain": ("organ", ["MR", "CT"], ["head"]),
    "lung": ("organ", ["CT"], ["thorax"]),
    "liver": ("organ", ["CT", "MR"], ["abdomen"]),
}
BODY_SOURCES = {
    "Head": ({"brain": [1]}, "MR", ["head"]),
    "Trunk": ({"lung": [1], "liver": [2]}, "CT", ["thorax", "abdomen"]),
    "Odd": ({"lung": [1]}, "MR", ["abdomen"]),  # labels what its own field of view does not name
}


def test_suppression():
    pool = read_manifest(make_dataset_json(BODY, BODY_SOURCES))

    def out_of_scope_targets(*args, **kwargs):
        omitted = omitted_targets(pool, Request(*args, **kwargs))
        return {name for name, row in omitted.items() if row.out_of_scope}

    assert omitted_targets(pool, Request()) == {}
    assert out_of_scope_targets(modality="MR") == {"lung"}
    assert out_of_scope_targets(modality="PET") == {"brain", "lung", "liver"}
    assert out_of_scope_targets(regions=("thorax", "abdomen")) == {"brain"}
    assert out_of_scope_targets(modality="MR", regions=("abdomen",)) == {"brain", "lung"}
    assert omitted_targets(pool, Request(modality="MR"))["lung"].why == "MR cannot show it"
    assert out_of_scope_targets("Trunk", universal=True) == {"brain"}
    assert out_of_scope_targets("Head", universal=True) == {"lung", "liver"}
    assert out_of_scope_targets("Head", "CT", ("thorax", "head"), universal=True) == {"liver"}
    assert out_of_scope_targets("Odd") == {"brain"}  # its own target stays
    assert omitted_targets(pool, Request("Odd"))["liver"].why == "Odd does not label it"
    assert out_of_scope_targets("Odd", "MR") == {"brain", "lung"}  # unless the user says so


# Stock nnU-Net --------------------------------------------------------------------------------------------------------


def logits(p):
    return np.log(p / (1 - p))


def test_stock_nnunet_decodes_the_merged_map(dataset, pool):
    """Region channels are the targets in their order, and what stock paints are codes with the painted target."""
    manager = LabelManager(dataset["labels"], dataset["regions_class_order"])
    assert manager.has_regions and manager.num_segmentation_heads == len(pool.names)
    assert list(manager.foreground_regions) == [tuple(dataset["labels"][name]) for name in pool.names]
    rng = np.random.default_rng(0)
    for source in SOURCES:
        labels = rng.choice([0, *{i for ids in SOURCES[source].values() for i in ids}], (2, 3, 40))
        p = ideal(dataset, source, labels, rng)
        merged = manager.convert_logits_to_segmentation(logits(p).astype(np.float32))
        assert np.array_equal(merged, stock_map(dataset, p))
        columns = np.array([[name in pool.codes.get(int(c), ()) for c in merged.ravel()] for name in pool.names])
        assert np.array_equal(native(pool, source, columns).reshape(labels.shape), labels)


def test_saved_probabilities_are_of_the_original_grid_in_the_order_of_the_targets(tmp_path, dataset):
    """nnU-Net's own export, with axes transposed and a crop, then restricted."""
    rng = np.random.default_rng(0)
    labels = np.zeros((5, 6, 7), np.int64)
    labels[1:4, 2:6, 1:5] = rng.choice([0, 1, 2, 3, 6], (3, 4, 4))
    p = ideal(dataset, "Organs", labels)
    forward, backward, box = [2, 0, 1], [1, 2, 0], [[1, 5], [1, 4], [2, 6]]  # the box in transposed axes
    crop = np.clip(p.transpose(0, 3, 1, 2)[:, 1:5, 1:4, 2:6], 0.01, 0.99)
    network = SimpleNamespace(spacing=[1, 1, 1], resampling_fn_probabilities=lambda data, *_: data)
    plans = SimpleNamespace(transpose_forward=forward, transpose_backward=backward)
    properties = {
        "spacing": [1, 1, 1],
        "shape_before_cropping": (7, 5, 6),
        "shape_after_cropping_and_before_resampling": crop.shape[1:],
        "bbox_used_for_cropping": box,
    }
    manager = LabelManager(dataset["labels"], dataset["regions_class_order"])
    merged, saved = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits(crop).astype(np.float32), plans, network, manager, properties, True, 1
    )
    assert saved.shape == (len(ABDOMEN), 5, 6, 7) and saved.dtype == np.float32
    write_case(tmp_path / "in", "case", dataset, p, npz=False)
    sitk.WriteImage(sitk.GetImageFromArray(merged), str(tmp_path / "in" / "case.nii.gz"))
    np.savez_compressed(tmp_path / "in" / "case.npz", probabilities=saved)
    restrict_folder(tmp_path / "in", tmp_path / "out", Request("Organs"))
    assert np.array_equal(read(tmp_path / "out" / "case.nii.gz"), labels)


def test_order_survives_the_way_nnunet_saves_dataset_json(tmp_path, dataset):
    save_json(dataset, str(tmp_path / "kept.json"), sort_keys=False)
    read_manifest(load_json(str(tmp_path / "kept.json")))
    save_json(dataset, str(tmp_path / "sorted.json"))
    with pytest.raises(ValueError, match="in their order"):
        read_manifest(load_json(str(tmp_path / "sorted.json")))


# Folders --------------------------------------------------------------------------------------------------------------


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def header(path):
    image = sitk.ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def oblique(shape, seed=0):
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(np.zeros(shape, np.uint8))
    image.SetSpacing(rng.uniform(0.3, 4, 3))
    image.SetOrigin(rng.uniform(-200, 200, 3))
    image.SetDirection(np.linalg.qr(rng.normal(size=(3, 3)))[0].ravel())
    return image


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha"])
def test_geometry_is_equal_bit_for_bit(tmp_path, ending):
    dataset = make_dataset_json(ABDOMEN, SOURCES, HIERARCHY, MUTUALLY_EXCLUSIVE, ending)
    for seed in range(5):
        like = oblique((3, 4, 5), seed)
        write_case(tmp_path / "in", f"c{seed}", dataset, ideal(dataset, "LiverSet", np.ones((3, 4, 5), int)), like)
    if ending == ".nii.gz":  # as nnU-Net's NibabelIO leaves it: an affine alone
        plain = nibabel.load(tmp_path / "in" / "c4.nii.gz")
        affine_alone = nibabel.Nifti1Image(np.asarray(plain.dataobj), plain.affine)
        nibabel.save(affine_alone, tmp_path / "in" / "c4.nii.gz")
    restrict_folder(tmp_path / "in", tmp_path / "out", Request(universal=True))
    for seed in range(5):
        name = f"c{seed}{ending}"
        for found in (tmp_path / "out" / name, tmp_path / "out" / "masks" / "liver" / name):
            assert header(found) == header(tmp_path / "in" / name)
            assert read(found).all()
    if ending == ".nii.gz":
        one, other = (nibabel.load(tmp_path / f / "c4.nii.gz").header for f in ("in", "out"))
        for field in ("pixdim", "srow_x", "srow_z", "quatern_b", "qoffset_x", "sform_code", "qform_code"):
            assert one[field].tobytes() == other[field].tobytes()
    assert not [p for p in (tmp_path / "out").rglob("*") if "tmp" in p.name.split(".")]


def test_counts_and_report(tmp_path):
    dataset = make_dataset_json(BODY, BODY_SOURCES)
    p = np.zeros((3, 4, 6, 6), np.float32)
    p[0, 0, 0, :3] = 0.9  # brain: 3 voxels in a row
    p[0, 3, 5, 5] = p[0, 2, 4, 4] = 0.9  # two that touch by their corners
    p[1, 1:3, 2, 2] = 0.8
    p[2, 1:3, 2:4, 2:4] = 0.7
    like = sitk.GetImageFromArray(np.zeros((4, 6, 6), np.uint8))
    like.SetSpacing((1.0, 2.0, 5.0))
    folder = write_case(tmp_path / "in", "a", dataset, p, like)
    write_case(folder, "b", dataset, np.zeros_like(p), like)
    report = restrict_folder(folder, tmp_path / "out", Request("Trunk"))
    assert report == json.loads((tmp_path / "out" / "restrict.json").read_text())
    brain = report["cases"]["a"]["targets"]["brain"]
    assert brain == {
        "before": {"voxels": 5, "components": 2, "ml": pytest.approx(0.05)},
        "after": {"voxels": 0, "components": 0, "ml": 0},
    }
    assert report["false_positives"]["targets"] == ["brain"]
    assert report["false_positives"]["before"] == {
        "cases": 1,
        "voxels": 5,
        "components": 2,
        "ml": pytest.approx(0.05),
    }
    assert report["false_positives"]["after"]["voxels"] == 0
    assert report["targets"]["brain"]["why_left_out"] == "lies in head, not in thorax, abdomen"
    lung, liver = (report["cases"]["a"]["targets"][name] for name in ("lung", "liver"))
    assert (lung["before"]["voxels"], lung["after"]["voxels"]) == (2, 0)  # the liver is painted over it
    assert (liver["before"]["voxels"], liver["after"]["voxels"]) == (8, 8)
    lines = (tmp_path / "out" / "restrict.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3
    assert lines[1] == 'a,brain,probabilities,"lies in head, not in thorax, abdomen",True,5,0,2,0,0.05,0.0'
    out = read(tmp_path / "out" / "a.nii.gz")
    assert np.array_equal(out == 2, p[2] > 0.5) and set(np.unique(out)) == {0, 2}
    assert not read(tmp_path / "out" / "b.nii.gz").any()
    labels = json.loads((tmp_path / "out" / "legend.json").read_text())["labels"]
    assert labels == {"background": 0, "label 1": 1, "label 2": 2}


def test_an_organ_that_is_left_out_counts_as_such_where_its_lesion_stays(tmp_path):
    groups = {"liver": ("organ", ["CT"], ["abdomen"]), "liver_tumor": "lesion"}
    dataset = make_dataset_json(groups, {"S": {"liver": [1, 2], "liver_tumor": [2]}}, [["liver", "liver_tumor"]])
    folder = write_case(tmp_path / "in", "a", dataset, ideal(dataset, "S", np.array([[[0, 1, 2]]])))
    report = restrict_folder(folder, tmp_path / "out", Request("S", "MR"))
    assert read(tmp_path / "out" / "a.nii.gz").ravel().tolist() == [0, 0, 2]
    after = {name: row["after"]["voxels"] for name, row in report["targets"].items()}
    assert after == {"liver": 0, "liver_tumor": 1}
    assert report["never_painted"] == {"label 1": 1}


def test_all_targets_of_a_folder(tmp_path, dataset):
    labels = np.random.default_rng(0).choice([0, 1, 2, 3], (3, 4, 5))
    folder = write_case(tmp_path / "in", "a", dataset, ideal(dataset, "KidneySet", labels))
    write_case(folder, "b", dataset, ideal(dataset, "KidneySet", labels), npz=False)
    report = restrict_folder(folder, tmp_path / "out", Request())
    assert report["mode"] == "universal" and report["false_positives"]["targets"] == []
    legend = json.loads((tmp_path / "out" / "legend.json").read_text())
    rows = {row["name"]: row for row in legend["targets"]}
    assert rows["kidney"]["includes"] == ["kidney_right", "kidney_left", "kidney_cyst", "kidney_tumor"]
    for case in "ab":
        merged = read(tmp_path / "out" / f"{case}.nii.gz")
        for name, ids in {"kidney": [1, 2, 3], "kidney_tumor": [2], "kidney_cyst": [3], "liver": []}.items():
            mask = read(tmp_path / "out" / "masks" / name / f"{case}.nii.gz")
            assert np.array_equal(mask, np.isin(labels, ids))
            assert (mask[merged == rows[name]["id"]] == 1).all()


def test_one_case_without_probabilities_is_told(tmp_path, dataset, caplog):
    p = ideal(dataset, "Organs", np.full((2, 2, 2), 2))
    p[3] = 0.7  # left, while right has 1
    folder = write_case(tmp_path / "in", "with", dataset, p)
    write_case(folder, "without", dataset, p, npz=False)
    report = restrict_folder(folder, tmp_path / "out", Request("Organs"))
    assert [report["cases"][case]["from"] for case in ("with", "without")] == ["probabilities", "merged map"]
    assert "1 of 2 cases have no .npz (without" in caplog.text and "likelier" in caplog.text
    assert (read(tmp_path / "out" / "with.nii.gz") == 2).all()
    assert (read(tmp_path / "out" / "without.nii.gz") == 3).all()  # stock painted the left one last


@pytest.mark.parametrize("npz", [True, False])
def test_2d(tmp_path, npz):
    dataset = make_dataset_json(ABDOMEN, SOURCES, HIERARCHY, MUTUALLY_EXCLUSIVE, ".png")
    labels = np.random.default_rng(0).choice([0, 1, 2, 3], (8, 9))
    folder = write_case(tmp_path / "in", "a", dataset, ideal(dataset, "KidneySet", labels), npz=npz)
    report = restrict_folder(folder, tmp_path / "out", Request("KidneySet"))
    assert np.array_equal(read(tmp_path / "out" / "a.png"), labels)
    assert report["cases"]["a"]["targets"]["kidney"]["after"]["ml"] is None


def test_ids_above_255_and_ids_that_nothing_tells_apart(tmp_path):
    dataset = make_dataset_json({"heart": "organ", "aorta": "vessel"}, {"S": {"heart": [500, 600], "aorta": [70000]}})
    p = ideal(dataset, "S", np.array([[[0, 500, 600, 70000]]]))
    report = restrict_folder(write_case(tmp_path / "in", "a", dataset, p), tmp_path / "out", Request("S"))
    assert read(tmp_path / "out" / "a.nii.gz").ravel().tolist() == [0, 500, 500, 70000]
    assert report["ids_of_same_targets"] == [[500, 600]]


def test_one_output_that_numpy_saved_in_reverse_order(tmp_path):
    dataset = make_dataset_json({"only": "organ"}, {"S": {"only": [4]}})
    labels = np.random.default_rng(0).choice([0, 4], (2, 3, 4))
    p = ideal(dataset, "S", labels)
    folder = write_case(tmp_path / "in", "a", dataset, p)
    np.savez_compressed(folder / "a.npz", probabilities=np.asfortranarray(p))
    restrict_folder(folder, tmp_path / "out", Request("S"))
    assert np.array_equal(read(tmp_path / "out" / "a.nii.gz"), labels)


def damage(folder, what):
    npz = folder / "a.npz"
    whole = npz.read_bytes()
    p = np.load(npz)["probabilities"]
    if what == "cut":
        npz.write_bytes(whole[: len(whole) // 2])
    elif what == "flipped":
        npz.write_bytes(whole[:-200] + bytes([whole[-200] ^ 255]) + whole[-199:])
    elif what == "text":
        npz.write_text("nothing")
    elif what == "empty":
        npz.write_bytes(b"")
    elif what == "key":
        np.savez(npz, softmax=p)
    elif what == "shape":
        np.savez(npz, probabilities=p[:-1])
    elif what == "integers":
        np.savez(npz, probabilities=p.astype(int))
    elif what == "NaN":
        np.savez(npz, probabilities=np.where(p > 0, np.nan, p))
    elif what == "logits":
        np.savez(npz, probabilities=p * 9 - 4)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("cut", "damaged or cut off"),
        ("flipped", "damaged or cut off"),
        ("text", "damaged or cut off"),
        ("empty", "damaged or cut off"),
        ("key", "no array `probabilities`"),
        ("shape", r"has the shape \(8, 6, 7, 8\), but the pool has 9 targets"),
        ("integers", "holds int64 values"),
        ("NaN", "outside of 0 to 1, or NaN"),
        ("logits", "outside of 0 to 1, or NaN"),
    ],
)
def test_damaged_probabilities(tmp_path, dataset, what, message):
    rng = np.random.default_rng(0)
    p = ideal(dataset, "LiverSet", rng.choice([0, 1, 2], (6, 7, 8)), rng if what in ("cut", "flipped") else None)
    folder = write_case(tmp_path / "in", "a", dataset, p)
    damage(folder, what)
    with pytest.raises(ValueError, match=message) as error:
        restrict_folder(folder, tmp_path / "out", Request("LiverSet"))
    assert "a.npz" in str(error.value) and "--save_probabilities" in str(error.value)
    assert not (tmp_path / "out" / "restrict.json").exists() and not (tmp_path / "out" / "a.nii.gz").exists()


MAPS = {
    "cut": (cut, "is damaged or cut off"),
    "empty": (lambda path: cut(path, 0), "a.nii.gz"),
    "no spacing": (zero_pixdim, "its header says pixdim"),
    "claim": (claiming, "claims 900 x 900 x 900 voxels"),
    "NaN": (lambda path: write(path, np.full((6, 7, 8), np.nan)), "holds NaN"),
    "fraction": (lambda path: write(path, np.full((6, 7, 8), 0.5)), "holds 0.5, which is no whole number"),
}


@pytest.mark.parametrize("what", MAPS)
@pytest.mark.parametrize("npz", [True, False])
def test_damaged_label_maps(tmp_path, dataset, what, npz):
    """All bad cases are named, the good ones are written, and the report of an earlier run stays."""
    p = ideal(dataset, "LiverSet", np.ones((6, 7, 8), int))
    folder, out = tmp_path / "in", tmp_path / "out"
    for case in "abc":
        write_case(folder, case, dataset, p, npz=npz)
    restrict_folder(folder, out, Request("LiverSet"))
    before = tree(out)
    (out / "b.nii.gz").unlink()
    damage, said = MAPS[what]
    damage(folder / "a.nii.gz")
    cut(folder / "c.nii.gz")
    with pytest.raises(DatasetError, match=r"2 of 3 cases cannot be used; .* without a new report") as error:
        restrict_folder(folder, out, Request("LiverSet"))
    assert said in str(error.value) and "c.nii.gz: is damaged" in str(error.value)
    assert {name: data for name, (data, _) in tree(out).items()} == {name: data for name, (data, _) in before.items()}


def test_sheared_maps_keep_their_geometry(tmp_path, dataset):
    folder = write_case(tmp_path / "in", "a", dataset, ideal(dataset, "LiverSet", np.ones((6, 7, 8), int)))
    sheared(folder / "a.nii.gz")
    affine = nibabel.load(folder / "a.nii.gz").affine
    assert affine[0, 1] == pytest.approx(0.02)
    restrict_folder(folder, tmp_path / "out", Request("LiverSet"))
    made = nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert np.array_equal(made.affine, affine) and (np.asarray(made.dataobj) == 1).all()


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha"])
def test_a_killed_run_leaves_the_old_report_and_a_rerun_ends_as_one_that_was_not(tmp_path, monkeypatch, ending):
    dataset = make_dataset_json(ABDOMEN, SOURCES, HIERARCHY, MUTUALLY_EXCLUSIVE, ending)
    rng = np.random.default_rng(0)
    folder, out = tmp_path / "in", tmp_path / "out"
    for case in "abc":
        write_case(folder, case, dataset, ideal(dataset, "KidneySet", rng.choice([0, 1, 2, 3], (3, 4, 5)), rng))
    restrict_folder(folder, tmp_path / "whole", Request())
    restrict_folder(folder, out, Request(), progress=True)
    old = {name: (out / name).read_bytes() for name in ("restrict.json", "restrict.csv", "legend.json")}
    real, written = restrict_files.write_checked, []

    def killed(image, temporary, path, compress=True):
        real(image, temporary, path, compress)
        written.append(path)
        if len(written) == 14:
            host = files._owner().rpartition("-")[0]
            path.with_name(f".{path.name}.{host}-99999999.1.tmp{ending}").write_bytes(b"half")
            raise KeyboardInterrupt

    monkeypatch.setattr(restrict_files, "write_checked", killed)
    with pytest.raises(KeyboardInterrupt):
        restrict_folder(folder, out, Request())
    assert {name: (out / name).read_bytes() for name in old} == old
    monkeypatch.setattr(restrict_files, "write_checked", real)
    restrict_folder(folder, out, Request())
    made, expected = ({name: data for name, (data, _) in tree(place).items()} for place in (out, tmp_path / "whole"))
    assert made == expected


def test_what_is_left_of_an_earlier_run_is_told(tmp_path, dataset, caplog):
    folder = write_case(tmp_path / "in", "a", dataset, ideal(dataset, "KidneySet", np.ones((3, 4, 5), int)))
    restrict_folder(folder, tmp_path / "out", Request())
    assert "earlier run" not in caplog.text
    restrict_folder(folder, tmp_path / "out", Request("KidneySet"))
    assert f"{len(ABDOMEN)} label maps in {tmp_path / 'out'} are of an earlier run" in caplog.text


def test_no_input_is_overwritten(tmp_path, dataset):
    """Predictions that lie where masks would be written."""
    p = ideal(dataset, "KidneySet", np.ones((3, 4, 5), int))
    (tmp_path / "masks").mkdir()
    folder = write_case(tmp_path / "masks" / "liver", "a", dataset, p)
    before = tree(folder)
    with pytest.raises(ConfigError, match=r"masks/liver/a.nii.gz would replace .*, which this command reads"):
        restrict_folder(folder, tmp_path, Request())
    assert tree(folder) == before


def test_damaged_folders(tmp_path, dataset):
    p = ideal(dataset, "LiverSet", np.ones((2, 3, 4), int))
    folder = write_case(tmp_path / "in", "a", dataset, p)
    out = tmp_path / "out"

    def error(request=Request(), where=folder, to=out):  # noqa: B008 (immutable)
        with pytest.raises(ValueError) as caught:
            restrict_folder(where, to, request)
        return str(caught.value)

    assert 'source "Liver" is unknown (did you mean LiverSet?); use LiverSet, KidneySet' in error(Request("Liver"))
    assert "is the folder of the predictions" in error(to=tmp_path / "." / "in")
    assert "has no dataset.json" in error(where=tmp_path)
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), 99, np.uint8)), str(folder / "a.nii.gz"))
    assert "holds the value 99, which is no code of the pool" in error()
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 5), np.uint8)), str(folder / "a.nii.gz"))
    assert "the label map (2, 3, 5) voxels" in error()
    (folder / "a.nii.gz").unlink()
    assert "a.npz has no label map a.nii.gz" in error()
    (folder / "a.npz").unlink()
    assert "holds no predictions (*.nii.gz)" in error()
    (folder / "dataset.json").write_text(json.dumps({k: v for k, v in dataset.items() if k != "pool"}))
    assert "key `pool` is missing" in error()
    (folder / "dataset.json").write_text("{")
    assert "not valid JSON" in error()
