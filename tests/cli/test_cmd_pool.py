"""`nnunet_xlstm unlabelled` and `pool`: what they print, and stock planning and preprocessing of what they write."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.cli.main import main


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """nnU-Net's folders, and a folder `in` with six images in two formats and a cine."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()

    def image(*shape):
        array = rng.normal(0, 1, shape)
        array[..., 3:-3, 4:-4, 4:-4] += 60
        return sitk.GetImageFromArray(array.astype(np.float32), isVector=False)

    for i in range(5):
        sitk.WriteImage(image(20, 24, 28), str(tmp_path / "in" / f"s{i}.{'mha' if i % 2 else 'nii.gz'}"))
    sitk.WriteImage(image(3, 20, 24, 28), str(tmp_path / "in" / "cine.nii.gz"))
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"")
    return tmp_path


def run(*arguments):
    return main([str(a) for a in arguments])


def test_unlabelled_says_what_it_did(tree, capsys):
    options = ("unlabelled", "-i", tree / "in", "--modality", "MR", "-d", 5)
    assert run(*options) == 0
    text = capsys.readouterr().out
    assert "Dataset005_Unlabelled: 6 subjects, 8 cases, 8 of them new" in text
    assert "left out: 1, see" in text and "next: nnUNetv2_plan_and_preprocess -d 5" in text
    assert run(*options) == 0
    assert "0 of them new" in capsys.readouterr().out
    (tree / "preprocessed" / "Dataset005_Unlabelled" / "nnUNetPlans.json").write_text("{}")  # it is planned
    sitk.WriteImage(sitk.ReadImage(str(tree / "in" / "s0.nii.gz")), str(tree / "in" / "late.nii.gz"))
    assert run(*options) == 0
    assert "plan and preprocess again, with --clean" in capsys.readouterr().out


def test_pool_says_what_it_did(tree, capsys):
    run("unlabelled", "-i", tree / "in" / "s0.nii.gz", "--modality", "MR", "-d", 5)
    sources = [
        {"dataset": "Dataset005_Unlabelled", "modality": "MR"},
        {"dataset": "in/s1.mha", "modality": "CT", "name": "ct"},
    ]
    (tree / "POOL.json").write_text(json.dumps({"sources": sources}))
    capsys.readouterr()
    assert run("pool", "build", tree / "POOL.json", "-d", 6, "--name", "Both") == 0
    text = capsys.readouterr().out
    assert "Dataset005_Unlabelled: 1 subjects, 1 cases" in text and "Dataset006_Both: 2 subjects, 2 cases" in text
    assert "train with fold `all`" in text


def test_errors_are_one_line(tree, capsys):
    assert run("unlabelled", "-i", tree / "gone", "--modality", "MR", "-d", 5) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert run("pool", "build", tree / "gone.json", "-d", 5) == 1
    assert "No such file" in capsys.readouterr().err
    for wrong in (["pool", "make", "x", "-d", "5"], ["unlabelled", "-i", "x", "-d", "5"]):
        with pytest.raises(SystemExit) as stop:
            run(*wrong)
        assert stop.value.code == 2


@pytest.mark.slow
def test_stock_plans_and_preprocesses_both(tree, plan_and_preprocess):
    run("unlabelled", "-i", tree / "in", "--modality", "MR", "-d", 905)
    sources = [
        {"dataset": "Dataset905_Unlabelled", "modality": "MR"},
        {"dataset": "in/s1.mha", "modality": "CT", "name": "ct"},
    ]
    sources[0]["exclude"] = ["s1"]
    (tree / "POOL.json").write_text(json.dumps({"name": "Pool", "sources": sources}))
    run("pool", "build", tree / "POOL.json", "-d", 906)
    for number in (905, 906):
        plan_and_preprocess(number, check=number == 906)
    for name in ("Dataset905_Unlabelled", "Dataset906_Pool"):
        folder = tree / "preprocessed" / name
        plans = json.loads((folder / "nnUNetXLSTMUNetTinyPlans.json").read_text())
        assert plans["configurations"]["3d_fullres"]["normalization_schemes"] == ["ZScoreNormalization"]
        assert plans["image_reader_writer"] == "SimpleITKIO"
        (data,) = (path for path in folder.iterdir() if path.is_dir() and path.name != "gt_segmentations")
        cases = json.loads((folder / "pool_cases.json").read_text())["cases"]
        assert {path.name.removesuffix(".b2nd") for path in Path(data).glob("*.b2nd")} == {
            *cases,
            *(f"{case}_seg" for case in cases),
        }
        folds = json.loads((folder / "splits_final.json").read_text())
        assert {case for fold in folds for case in fold["val"]} == set(cases)
