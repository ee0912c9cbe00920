"""No command replaces a file that it reads, whatever way leads to it; each command that writes is in this file."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.image_files import tree

from nnunet_xlstm.cli.commands import COMMANDS
from nnunet_xlstm.cli.main import main

WRITE_NOTHING = {"status", "config", "cost", "check"}
# Tested with what is made for the other tests of the command: file, and what the command says.
ELSEWHERE = {
    "features": ("cli/test_cmd_features.py", "would replace"),
    "adapt": ("nnunet/transfer/test_adapt.py", "would replace"),
    "study": ("studies/test_few_label.py", "would replace"),
    "restrict": ("pools/restrict/test_folder.py", "is the folder of the predictions"),
    "unlabelled": ("datasets/test_unlabelled.py", "did not make"),  # these three write to a data set of their own alone
    "convert": ("catalogue/test_convert.py", "did not make"),
    "pool": ("datasets/test_unlabelled.py", "did not make"),
    "demo": ("demo/test_run.py", "lies inside"),
    "split": ("datasets/test_splits.py", "--overwrite replaces them"),
    "register": ("nnunet/install/test_registration.py", "was not written by nnunet_xlstm"),
}
OF_NNUNET = {"plan_like", "plan_and_preprocess"}  # nnU-Net's planning writes nnU-Net's plans
LABELS = {"background": 0, "LV": 1, "RV": 2}
SCORE = {"Dice": 0.5, "n_ref": 1, "n_pred": 1}


def image(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


@pytest.fixture
def work(tmp_path):
    """A folder for each kind of input, and links to all of them."""
    heart = np.zeros((4, 9, 9), np.uint8)
    heart[1:3, 2:7, 2:5], heart[1:3, 2:7, 5:7] = 1, 2
    for folder in ("ref", "pred"):
        for phase in ("ED", "ES"):
            image(tmp_path / f"heart_{folder}" / f"a_{phase}.tif", heart)
            (tmp_path / f"heart_{folder}" / f"a_{phase}.json").write_text('{"spacing": [1, 1, 1]}')
        for name in ("a_ED", "a_ES"):
            image(tmp_path / folder / f"{name}.nii.gz", heart)
        image(tmp_path / f"png_{folder}" / "a.png", heart[1])
        image(tmp_path / f"tif_{folder}" / "a.tif", heart)
        (tmp_path / f"tif_{folder}" / "a.json").write_text('{"spacing": [1, 1, 1]}')
    image(tmp_path / "png" / "a_0000.png", heart[1] * 90)
    image(tmp_path / "png" / "a_0000_0000.png", heart[1] * 90)  # its picture would have the name of the other's image
    for ending in (".nii.gz", ".png", ".tif"):
        content = {"labels": LABELS, "file_ending": ending, "channel_names": {"0": "MR"}}
        (tmp_path / f"dataset{ending}.json").write_text(json.dumps(content))
    rows = [{"prediction_file": f"{c}.nii.gz", "metrics": {"1": SCORE}} for c in "xyz"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparison.json").write_text(json.dumps({"metric_per_case": rows}))
    (tmp_path / "out" / "summary.json").write_text(json.dumps({"metric_per_case": rows}))
    (tmp_path / "out" / "scores.csv").write_text("case,subject,modality\nx,1,CT\ny,1,CT\nz,2,CT\n")
    (tmp_path / "out" / "meshes.json").write_text(json.dumps({"labels": LABELS}))
    (tmp_path / "hearts.csv").write_text("subject,ed,es,bsa\na,a_ED,a_ES,2\n")
    (tmp_path / "hearts.json").write_text(json.dumps({"labels": LABELS}))
    return tmp_path


EVALUATE = "evaluate -ref {0}ref -pred {0}pred -djfile dataset{1}.json"
VIEW = "view -i png -djfile dataset.png.json"
ATTEMPTS = [
    (EVALUATE.format("", ".nii.gz"), "-o", "dataset.nii.gz.json"),
    (EVALUATE.format("tif_", ".tif"), "-o", "tif_ref/a.json"),  # the spacing of a TIFF
    (EVALUATE.format("tif_", ".tif"), "-o", "tif_pred/a.json"),
    (VIEW, "-o", "png"),
    (f"{VIEW} -ref png_ref --cases a", "-o", "png_ref"),
    (f"{VIEW} -pred png_pred --cases a", "-o", "png_pred"),
    ("mesh -i ref -djfile out/meshes.json", "-o", "out"),
    ("cardiac -i pred -djfile hearts.json", "-o", "hearts.json"),
    ("cardiac -i pred -djfile dataset.png.json --pairs hearts.csv", "-o", "hearts.json"),
    ("cardiac -i pred -djfile dataset.png.json --bsa hearts.csv", "-o", "hearts.json"),
    ("cardiac -i heart_pred -djfile dataset.tif.json", "-o", "heart_pred/a_ED.json"),
    ("cardiac -i heart_pred -ref heart_ref -djfile dataset.tif.json", "-o", "heart_ref/a_ES.json"),
    ("compare A=out/comparison.json", "-o", "out"),
    ("compare A=out --subjects out/scores.csv", "-o", "out"),
    ("compare A=out --modality out/scores.csv", "-o", "out"),
]  # fmt: skip


WAYS = ["as it is", "spelled otherwise", "by a link", "links in its place"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("command", "option", "target"), ATTEMPTS)
def test_no_input_is_replaced(work, monkeypatch, capsys, command, option, target, way):
    monkeypatch.chdir(work)
    if way == "spelled otherwise":
        target = os.path.join("ref", "..", target)
    elif way == "by a link":
        (work / "link").symlink_to(work, target_is_directory=True)
        target = os.path.join(work, "link", target)
    elif way == "links in its place":
        real = work / target
        for path in [real] if real.is_dir() else real.parent.glob(f"{real.stem}.*"):
            (work / f"there{path.suffix}").symlink_to(path, target_is_directory=path.is_dir())
        target = f"there{real.suffix}"
    before = tree(work)
    assert main([*command.split(), option, target]) == 1
    error = capsys.readouterr().err
    assert "would replace" in error and "which this command reads" in error
    assert tree(work) == before


def test_every_command_that_writes_is_tried():
    tried = {command.split()[0] for command, _, _ in ATTEMPTS}
    assert tried | WRITE_NOTHING | OF_NNUNET | set(ELSEWHERE) == {command.name for command in COMMANDS}
    for name, words in ELSEWHERE.values():
        assert words in (Path(__file__).parents[1] / name).read_text(encoding="utf-8"), name
