"""`nnunet_xlstm restrict`: what it prints and how it fails."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from support.pool_predictions import ideal, make_dataset_json, write_case

from nnunet_xlstm.cli.main import main

TARGETS = {
    "brain": ("organ", ["CT", "MR"], ["head"]),
    "liver": ("organ", ["CT", "MR"], ["abdomen"]),
    "tumor": ("lesion", ["CT"], ["abdomen"]),
}
SOURCES = {"Head": ({"brain": [1]}, "MR", ["head"]), "Liver": ({"liver": [1, 2], "tumor": [2]}, "CT", ["abdomen"])}


@pytest.fixture
def folder(tmp_path):
    dataset = make_dataset_json(TARGETS, SOURCES, [["liver", "tumor"]])
    p = ideal(dataset, "Liver", np.array([[[0, 1, 2, 0, 0, 0]]]))
    p[0, ..., 4:] = 0.9  # a brain in the abdomen
    return write_case(tmp_path / "in", "a", dataset, p)


def run(*arguments):
    return main(["restrict", *map(str, arguments)])


def ids(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).ravel().tolist()


def test_one_source(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("-i", folder, "-o", out, "--source", "Liver") == 0
    assert ids(out / "a.nii.gz") == [0, 1, 2, 0, 0, 0]
    assert sorted(p.name for p in out.iterdir()) == ["a.nii.gz", "legend.json", "restrict.csv", "restrict.json"]
    text = capsys.readouterr().out
    assert "lies in head, not in abdomen" in text
    assert "before -> after: voxels 2 -> 0, components 1 -> 0" in text


def test_universal(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("-i", folder, "-o", out) == 0
    assert "Nothing is known of the scans" in capsys.readouterr().out
    assert ids(out / "a.nii.gz") == [0, 2, 3, 0, 1, 1]
    assert run("-i", folder, "-o", out, "--modality", "MR", "--region", "abdomen") == 0
    assert ids(out / "a.nii.gz") == [0, 2, 2, 0, 0, 0]
    assert ids(out / "masks" / "liver" / "a.nii.gz") == [0, 1, 1, 0, 0, 0]
    assert ids(out / "masks" / "tumor" / "a.nii.gz") == [0] * 6  # nothing stays of the run before
    assert "4 voxels" not in capsys.readouterr().out
    assert run("-i", folder, "-o", out, "--source", "Liver", "--universal") == 0
    assert ids(out / "a.nii.gz") == [0, 2, 3, 0, 0, 0]
    report = json.loads((out / "restrict.json").read_text())
    assert (report["mode"], report["modality"], report["regions"]) == ("universal", "CT", ["abdomen"])


def test_legend_serves_evaluate(folder, tmp_path, capsys):
    out = tmp_path / "out"
    run("-i", folder, "-o", out, "--source", "Liver")
    assert main(["evaluate", *map(str, ("-ref", out, "-pred", out, "-djfile", out / "legend.json"))]) == 0
    assert "label 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "Live"], 'source "Live" is unknown (did you mean Liver?); use Head, Liver'),
        (["--modality", "US"], "invalid choice"),
        (["--region", "foot"], "invalid choice"),
    ],
)
def test_wrong_use(folder, tmp_path, capsys, options, message):
    try:
        assert run("-i", folder, "-o", tmp_path / "out", *options) == 1
    except SystemExit as stop:
        assert stop.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
