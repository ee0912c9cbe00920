"""`nnunet_xlstm view` on a small folder."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.cli.main import main


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    label = np.zeros((6, 16, 16), dtype=np.uint8)
    label[1:5, 4:12, 4:12] = 1
    for i, case in enumerate("abc"):
        maps = {"images": rng.normal(size=label.shape), "ref": label, "pred": np.roll(label, i, axis=2)}
        for folder, array in maps.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            name = f"{case}_0000.nii.gz" if folder == "images" else f"{case}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / folder / name))
    content = {"labels": {"background": 0, "box": 1}, "channel_names": {"0": "MR"}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def view(folders, *options):
    arguments = ["-i", folders / "images", "-o", folders / "out", "-djfile", folders / "dataset.json", *options]
    return main(["view", *map(str, arguments)])


def pictures(folders):
    return sorted(p.name for p in (folders / "out").iterdir())


def test_every_case(folders):
    assert view(folders, "-ref", folders / "ref", "-pred", folders / "pred", "--style", "errors") == 0
    assert pictures(folders) == ["a.png", "b.png", "c.png"]


def test_images_alone_and_chosen_cases(folders):
    assert view(folders, "--cases", "b") == 0
    assert pictures(folders) == ["b.png"]


def test_worst_cases_and_sheet(folders, capsys):
    both = ["-ref", folders / "ref", "-pred", folders / "pred"]
    assert view(folders, *both, "--worst", "2") == 1
    assert "not a summary.json" in capsys.readouterr().err
    main(["evaluate", *map(str, both), "-djfile", str(folders / "dataset.json")])
    assert view(folders, *both, "--worst", "2") == 0
    assert pictures(folders) == ["b.png", "c.png", "sheet.png"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--cases", "z"], "--cases z: not among the 3 cases"),
        (["--channel", "1"], "holds no *_0001.nii.gz"),
        (["-ref", "nowhere"], "no such folder"),
        (["--worst", "2"], "--worst needs scores"),
        (["--worst", "0"], "1 or more"),
        (["--ct-window", "0", "0"], "width must be more than 0"),
    ],
)
def test_wrong_options(folders, options, words, capsys):
    assert view(folders, *options) == 1
    assert words in capsys.readouterr().err


def test_damaged_image(folders, capsys):
    (folders / "images" / "a_0000.nii.gz").write_bytes(b"nothing")
    assert view(folders) == 1
    assert "a_0000.nii.gz: cannot be read" in capsys.readouterr().err
