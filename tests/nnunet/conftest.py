"""Pools of two tiny data sets that label different things, planned and preprocessed once per session."""

import json

import pytest
import SimpleITK as sitk

from nnunet_xlstm.data.pool_sources import build_pool

TARGETS = [{"name": "whole"}, {"name": "core", "group": "lesion"}]
SOURCES = [
    {"dataset": "Dataset901_Ellipsoids", "name": "Both", "modality": "MR", "targets": {"whole": [1, 2], "core": [2]}},
    {"dataset": "Dataset904_Whole", "name": "Whole", "modality": "MR", "targets": {"whole": [1]}},
]


@pytest.fixture(scope="session")
def whole(nnunet_tree):
    """Dataset904_Whole labels the whole only, and its cores are background."""
    raw = nnunet_tree / "raw"
    original, whole = raw / "Dataset901_Ellipsoids", raw / "Dataset904_Whole"
    for name in ("imagesTr", "labelsTr"):
        (whole / name).mkdir(parents=True)
    for i in range(4):
        image = sitk.ReadImage(str(original / "imagesTr" / f"case_{i}_0000.nii.gz"))
        sitk.WriteImage(image, str(whole / "imagesTr" / f"w{i}_0000.nii.gz"))
        label = sitk.ReadImage(str(original / "labelsTr" / f"case_{i}.nii.gz")) > 0
        sitk.WriteImage(label, str(whole / "labelsTr" / f"w{i}.nii.gz"))
    facts = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "whole": 1}, "numTraining": 4}
    (whole / "dataset.json").write_text(json.dumps(facts | {"file_ending": ".nii.gz"}))
    return whole


def planned_pool(tree, prepare, number, name, **rules):
    path = tree / f"{name}.json"
    path.write_text(
        json.dumps({"name": name, "targets": TARGETS, "over": [["whole", "core"]], "sources": SOURCES} | rules)
    )
    dataset, _ = build_pool(path, number)
    prepare(number, check=True)
    return dataset


@pytest.fixture(scope="session")
def pool(nnunet_tree, whole, plan_and_preprocess):
    """Dataset905_Two: `Both` labels whole and core, `Whole` the whole alone."""
    return planned_pool(nnunet_tree, plan_and_preprocess, 905, "Two")


@pytest.fixture(scope="session")
def pool_apart(nnunet_tree, whole, plan_and_preprocess):
    """Dataset906_Apart: the same, with targets of their own for each source."""
    return planned_pool(nnunet_tree, plan_and_preprocess, 906, "Apart", merge="none")
