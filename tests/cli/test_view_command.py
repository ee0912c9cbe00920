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
    assert "summary.json: cannot be read" in capsys.readouterr().err
    main(["evaluate", *map(str, both), "-djfile", str(folders / "dataset.json")])
    assert view(folders, *both, "--worst", "2") == 0
    assert pictures(folders) == ["_sheet.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--cases", "z"], "--cases z: not among the 3 cases"),
        (["--channel", "1"], "holds no *_0001.nii.gz"),
        (["-ref", "nowhere"], "no such folder"),
        (["--worst", "2"], "--worst needs scores"),
        (["--worst", "0"], "1 or more"),
        (["--ct-window", "0", "0"], "width must be more than 0"),
        (["--style", "errors"], "give -ref and -pred"),
    ],
)
def test_wrong_options(folders, options, words, capsys):
    assert view(folders, *options) == 1
    assert words in capsys.readouterr().err


def test_nothing_is_left_out_or_shifted_in_silence(folders, capsys):
    both = ["-ref", folders / "ref", "-pred", folders / "pred"]
    shifted = sitk.ReadImage(str(folders / "pred" / "b.nii.gz"))
    shifted.SetOrigin((0, 9, 0))
    sitk.WriteImage(shifted, str(folders / "pred" / "b.nii.gz"))
    assert view(folders, *both) == 1
    assert "case 'b': the grids of image and prediction are up to 9 mm apart" in capsys.readouterr().err
    (folders / "ref" / "b.nii.gz").unlink()
    assert view(folders, *both) == 1
    assert "no reference of b" in capsys.readouterr().err
    (folders / "pred" / "b.nii.gz").unlink()
    main(["evaluate", *map(str, both), "-djfile", str(folders / "dataset.json"), "-o", str(folders / "s.json")])
    (folders / "images" / "b_0000.nii.gz").unlink()
    sitk.WriteImage(shifted, str(folders / "pred" / "b.nii.gz"))
    sitk.WriteImage(shifted, str(folders / "ref" / "b.nii.gz"))
    assert view(folders, *both) == 1
    assert "no image of b" in capsys.readouterr().err


def test_worst_needs_the_scores_of_these_cases(folders, capsys):
    both = ["-ref", folders / "ref", "-pred", folders / "pred"]
    main(["evaluate", *map(str, both), "-djfile", str(folders / "dataset.json"), "-o", str(folders / "s.json")])
    content = json.loads((folders / "s.json").read_text())
    content["metric_per_case"] = content["metric_per_case"][:2]
    (folders / "s.json").write_text(json.dumps(content))
    assert view(folders, *both, "--worst", "1", "--summary", folders / "s.json") == 1
    assert "no score of c among 2 cases" in capsys.readouterr().err


def test_damaged_files_are_named_and_the_others_drawn(folders, capsys):
    (folders / "images" / "a_0000.nii.gz").write_bytes(b"nothing")
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(folders / "ref" / "b.nii.gz"))).astype(np.float32)
    label[0, 0, 0] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(label), str(folders / "ref" / "b.nii.gz"))
    assert view(folders, "-ref", folders / "ref") == 1
    error = capsys.readouterr().err
    assert "2 of 3 cases could not be drawn" in error and "a_0000.nii.gz: is not a NIfTI file" in error
    assert "b.nii.gz: holds NaN" in error and pictures(folders) == ["c.png"]
