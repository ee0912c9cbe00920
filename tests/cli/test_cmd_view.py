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


@pytest.fixture
def models(folders):
    """Two more folders: of a model that is right, and of one that finds nothing in case c."""
    for name, keep in (("right", "abc"), ("blind", "ab")):
        (folders / name).mkdir()
        for case in "abc":
            image = sitk.ReadImage(str(folders / "ref" / f"{case}.nii.gz"))
            sitk.WriteImage(image if case in keep else image * 0, str(folders / name / f"{case}.nii.gz"))
        command = ["-ref", folders / "ref", "-pred", folders / name, "-djfile", folders / "dataset.json"]
        assert main(["evaluate", *map(str, command)]) == 0
    return ["-ref", folders / "ref", "-pred", f"A={folders / 'right'}", f"B={folders / 'blind'}"]


def test_models_side_by_side(folders, models, capsys):
    assert view(folders, *models, "--style", "filled") == 0
    assert pictures(folders) == ["_sheet.png", "a.png", "b.png", "c.png"]
    assert view(folders, *models, "--worst", "1", "--plane", "sagittal", "-o", folders / "worst") == 0
    assert sorted(p.name for p in (folders / "worst").iterdir()) == ["_sheet.png", "c.png"]  # lowest mean of both
    assert view(folders, "-pred", folders / "right", folders / "blind", "-o", folders / "alone", "--cases", "b") == 0
    assert sorted(p.name for p in (folders / "alone").iterdir()) == ["_sheet.png", "b.png"]


def test_models_as_meshes(folders, models, monkeypatch):
    from nnunet_xlstm.meshes import side_by_side

    monkeypatch.setattr(side_by_side, "PIXELS", 60)
    words = ["view", "--mesh", "-o", folders / "out", "-djfile", folders / "dataset.json", *models]
    assert main([*map(str, words)]) == 0
    assert pictures(folders) == ["a.png", "b.png", "c.png"]


def test_a_damaged_model_costs_its_case_alone(folders, models, capsys):
    (folders / "blind" / "b.nii.gz").write_bytes(b"nothing")
    assert view(folders, *models) == 1
    assert "blind/b.nii.gz: is not a NIfTI file" in capsys.readouterr().err
    assert pictures(folders) == ["_sheet.png", "a.png", "c.png"]


def test_refused_models(folders, models, capsys):
    def refused(words, *options):
        assert view(folders, *options) == 1
        assert words in capsys.readouterr().err

    a, b = models[-2:]
    refused("give every model a name of its own", "-pred", a, a)
    refused("and none 'reference'", "-pred", a, f"reference={folders / 'blind'}")
    refused("give every model a name of its own", "-pred", a, f"={folders / 'blind'}")
    refused("--style errors compares predictions", "-pred", a, b, "--style", "errors")
    refused("--summary is of one model", *models, "--worst", 1, "--summary", folders / "s.json")
    (folders / "blind" / "a.nii.gz").unlink()
    refused("model 'B' has no prediction of a, which others have", *models)
    refused("model 'B' has no prediction of a, which others have", *models, "--mesh")
    assert main(["view", "-pred", a, "-o", str(folders / "out")]) == 1
    assert "-i is missing" in capsys.readouterr().err
    assert main(["view", "--mesh", "-o", str(folders / "out")]) == 1
    assert "--mesh: give label maps with -ref, -pred or both" in capsys.readouterr().err
