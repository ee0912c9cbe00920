"""`nnunet_xlstm features` from end to end on the tiny data set, and its errors."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from support.image_files import tree
from support.small_disk import LARGE, resize, used

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.datasets.case_index import CaseRecord, PoolCases

CASES = [f"case_{i}" for i in range(6)]


@pytest.fixture
def run(pretrained_file, nnunet_tree, tmp_path, monkeypatch):
    """run(*options) -> exit code, on the tiny data set with two test subjects."""
    monkeypatch.setenv("nnUNet_raw", str(nnunet_tree / "raw"))
    (tmp_path / "test.json").write_text(json.dumps(["case_1", "case_4"]))

    def _run(*options, data="901", checkpoint=pretrained_file, test=True):
        arguments = ["--checkpoint", checkpoint, "-d", data, "-o", tmp_path / "out", "--voxels", "600", *options]
        arguments += ["--test-subjects", tmp_path / "test.json"] if test else []
        return main(["features", *map(str, arguments)])

    return _run


@pytest.fixture
def copy(nnunet_tree, tmp_path):
    """A copy of the raw data set that a test may change."""
    return shutil.copytree(nnunet_tree / "raw" / "Dataset901_Ellipsoids", tmp_path / "Dataset901_Ellipsoids")


def read(tmp_path):
    return json.loads((tmp_path / "out" / "features.json").read_text())


def test_everything(run, tmp_path, nnunet_tree, capsys):
    (tmp_path / "half.json").write_text(json.dumps({case: "ab"[i % 2] for i, case in enumerate(CASES)}))
    assert run("--probe", "--each-layer", "--pca", "1", "--knn", f"half={tmp_path / 'half.json'}") == 0
    found = read(tmp_path)
    assert set(found["encoders"]) == {"trained", "untrained", "permuted", "histogram"}
    assert found["test_cases"] == ["case_1", "case_4"] and len(found["train_cases"]) == 4
    assert len(found["checkpoint"]["sha256"]) == 64 and found["labels"] == {"half": {"a": 3, "b": 3}}
    for encoder_name in ("trained", "untrained", "permuted"):
        row = found["encoders"][encoder_name]
        assert 1 <= row["effective_rank"] <= 6 and 0 <= row["feature_sd"] <= 1
        assert 0 <= row["knn"]["half"]["bottleneck"] <= 1
        # bright nested ellipsoids: intensity alone tells them apart, and any first layer holds it
        assert row["probe"]["mean Dice"] > 0.5, encoder_name
        assert [stage["stage"] for stage in row["stages"]] == list(range(len(row["stages"])))
        for case in found["test_cases"]:
            made, reference = (
                sitk.ReadImage(str(folder / f"{case}.nii.gz"))
                for folder in (
                    tmp_path / "out" / encoder_name,
                    nnunet_tree / "raw" / "Dataset901_Ellipsoids" / "labelsTr",
                )
            )
            assert made.GetSize() == reference.GetSize() and made.GetSpacing() == reference.GetSpacing()
        assert json.loads((tmp_path / "out" / encoder_name / "dataset.json").read_text())["labels"]["core"] == 2
    assert found["encoders"]["histogram"]["knn"]["half"]["histogram"] is not None
    assert len(list((tmp_path / "out").glob("pca_*.png"))) == 1
    out = capsys.readouterr().out
    assert "effective rank" in out and "Dice shell" in out and "histogram" in out
    line = next(line for line in out.splitlines() if line.startswith("intervals: "))
    assert main([*line.removeprefix("intervals: nnunet_xlstm ").split(), "--bootstrap", "50"]) == 0


def test_no_input_is_replaced(run, copy, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "subjects.json").write_text(json.dumps({case: case for case in CASES}))
    (tmp_path / "out" / "features.json").write_text(json.dumps(dict.fromkeys(CASES, "a")))
    (tmp_path / "out" / "trained").symlink_to(copy / "labelsTr")
    before = tree(tmp_path)
    for options in (
        ["--subjects", tmp_path / "out" / "subjects.json", "--encoders", "untrained"],
        ["--knn", f"half={tmp_path / 'out' / 'features.json'}", "--encoders", "untrained"],
        ["--encoders", "trained"],
    ):
        assert run("--probe", *options, data=str(copy)) == 1
        assert "would replace" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_the_same_seed_gives_the_same_numbers(run, tmp_path):
    assert run("--encoders", "untrained", "--probe", "--seed", "3") == 0
    first = read(tmp_path)
    assert run("--encoders", "untrained", "--probe", "--seed", "3") == 0
    assert read(tmp_path) == first


def test_a_full_disk(run, disk, tmp_path, capsys):
    (tmp_path / "out").symlink_to(disk)
    options = ["--encoders", "untrained", "--probe"]
    assert run(*options) == 0
    before = tree(disk)
    resize(disk, used(disk))
    options += ["--seed", "4"]  # other results for the same files
    assert run(*options) == 1
    assert "make room on that disk" in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path: content for path, (content, _) in tree(disk).items()} == {p: c for p, (c, _) in before.items()}
    resize(disk, LARGE)
    assert run(*options) == 0
    assert {path: content for path, (content, _) in tree(disk).items()} != {p: c for p, (c, _) in before.items()}


def test_pool_columns_subjects_and_few_cases(run, copy, tmp_path):
    rows = {case: CaseRecord("ab"[i % 2], f"person_{i // 2}", "CT" if i < 4 else "MR") for i, case in enumerate(CASES)}
    (copy / "pool_cases.json").write_text(json.dumps(PoolCases(rows).to_json()))
    shutil.rmtree(copy / "labelsTr")  # neighbours need no labels
    options = ["--encoders", "trained", "--knn", "modality", "source", "--cases", "5", "--neighbors", "1"]
    assert run(*options, data=copy, test=False) == 0
    found = read(tmp_path)
    assert len(found["cases"]) == 5 and set(found["encoders"]["trained"]["knn"]) == {"modality", "source"}
    # one case of each person before a second one of any
    assert {rows[case].subject for case in found["cases"]} == {"person_0", "person_1", "person_2"}


def test_regions_and_an_ignore_label(run, copy, tmp_path):
    content = json.loads((copy / "dataset.json").read_text())
    content["labels"] = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    (copy / "dataset.json").write_text(json.dumps(content | {"regions_class_order": [1, 2]}))
    for path in (copy / "labelsTr").iterdir():
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        array[:4] = 3
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    assert run("--encoders", "untrained", "--probe", data=copy) == 0
    dice = read(tmp_path)["encoders"]["untrained"]["probe"]["Dice"]
    assert set(dice) == {"whole", "core"} and dice["whole"] > 0.5
    made = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "untrained" / "case_1.nii.gz")))
    assert set(np.unique(made)) <= {0, 1, 2}


def test_one_of_several_channels(run, copy, tmp_path, capsys):
    content = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(content | {"channel_names": {"0": "T1", "1": "MR"}}))
    for case in CASES:
        shutil.copy(copy / "imagesTr" / f"{case}_0000.nii.gz", copy / "imagesTr" / f"{case}_0001.nii.gz")
    assert run("--encoders", "trained", data=copy) == 1
    assert "gives 2 channel(s) ('T1', 'MR'), the encoder was trained on 1" in capsys.readouterr().err
    assert run("--encoders", "trained", "--channel", "2", data=copy) == 1
    assert "--channel 2" in capsys.readouterr().err
    assert run("--encoders", "trained", "--channel", "1", data=copy) == 0


def test_another_spacing_changes_what_is_seen_and_not_the_grid_of_the_result(run, tmp_path, nnunet_tree):
    assert run("--encoders", "untrained", "--probe") == 0
    first = read(tmp_path)
    assert run("--encoders", "untrained", "--probe", "--spacing", "2", "1", "1") == 0
    second = read(tmp_path)
    assert first["settings"]["spacing"] == [1, 1, 1] and second["settings"]["spacing"] == [2, 1, 1]
    assert first["encoders"]["untrained"]["feature_sd"] != second["encoders"]["untrained"]["feature_sd"]
    assert second["encoders"]["untrained"]["probe"]["mean Dice"] > 0.5
    made = sitk.ReadImage(str(tmp_path / "out" / "untrained" / "case_1.nii.gz"))
    assert made.GetSize() == (28, 24, 20)


def test_not_a_pretraining_checkpoint(run, tmp_path, capsys):
    torch.save({"network_weights": {}}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no")
    for name, words in (
        ("other.pth", "not a checkpoint of pre-training"),
        ("text.pth", "not a readable checkpoint"),
        ("absent.pth", "no such file"),
    ):
        assert run(checkpoint=tmp_path / name) == 1
        assert words in capsys.readouterr().err


def test_missing_labels(run, copy, capsys):
    (copy / "labelsTr" / "case_4.nii.gz").unlink()
    assert run("--probe", data=copy) == 1
    assert "case 'case_4' has no label map" in capsys.readouterr().err


def test_a_label_that_no_training_case_has(run, copy, capsys):
    for case in set(CASES) - {"case_1"}:
        path = copy / "labelsTr" / f"{case}.nii.gz"
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        sitk.WriteImage(sitk.GetImageFromArray(np.minimum(array, 1)), str(path))
    assert run("--probe", data=copy) == 1
    assert "label 2 is in the test cases but in none of the 4 training cases" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, words",
    [
        (["--knn", "modality"], "pool_cases.json"),
        (["--knn", "modality=absent.csv"], "absent.csv"),
        (["--spacing", "1", "2"], "spacing 1 2: give 3 positive numbers"),
        (["--spacing", "1", "2", "0"], "spacing 1 2 0: give 3 positive numbers"),
        (["--layers", "top"], "--layers top: give all"),
        (["--layers", "9"], "stage 9: this encoder has"),
        (["--voxels", "0"], "--voxels 0 is too small"),
        (["--probe", "--subject", "case"], "leaves no test case"),
        (["--probe", "--subject", "(x)"], "finds no subject"),
    ],
)
def test_wrong_options(run, options, words, capsys):
    assert run("--encoders", "trained", *options) == 1
    assert words in capsys.readouterr().err


def test_probe_needs_test_subjects(run, capsys):
    assert run("--probe", test=False) == 1
    assert "give --test-subjects FILE" in capsys.readouterr().err


def test_no_such_data_set(run, capsys, tmp_path):
    assert run(data="777") == 1
    assert "-d 777: no data set" in capsys.readouterr().err
