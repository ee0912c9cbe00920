"""`nnunet_xlstm mesh` on files: geometry, spaces, names, meshes.json, and one clear message per mistake."""

import json
import os
import signal

import numpy as np
import pytest
import SimpleITK as sitk
from support.image_files import tree
from support.mesh_files import read_ply, read_stl, read_vtp
from support.mesh_shapes import seven_touching, shells

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.meshes import render
from nnunet_xlstm.meshes import run as mesh_run
from nnunet_xlstm.meshes.mesh import volume_and_area

OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
MIRRORED = (-1.0, 0, 0, 0, 1, 0, 0, 0, 1)


def write(path, array, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=None):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[: image.GetDimension()])
    image.SetOrigin(origin[: image.GetDimension()])
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return image


@pytest.fixture
def dataset_json(tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"background": 0, "a/b ü": 1, "LV cavity": 2, "both": [1, 2], "ignore": 9}}))
    return path


@pytest.mark.parametrize("direction", [None, OBLIQUE, MIRRORED], ids=["straight", "oblique", "mirrored"])
@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_points_are_where_the_voxels_are(tmp_path, direction, space):
    """One voxel: its corners by ITK's own transform of (continuous) indices."""
    array = np.zeros((4, 5, 6), np.uint8)
    array[1, 2, 3] = 7
    image = write(tmp_path / "a.nrrd", array, (1.5, 2.0, 4.0), (10.0, -20.0, 30.0), direction)
    command = ["mesh", "-i", str(tmp_path / "a.nrrd"), "-o", str(tmp_path / "out"), "--smooth", "0", "--space", space]
    assert main([*command, "--format", "stl", "ply", "vtp"]) == 0
    offsets = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, -1).T
    corners = [image.TransformContinuousIndexToPhysicalPoint((np.array([3, 2, 1]) + o).tolist()) for o in offsets]
    expected = np.array(corners) * ([-1, -1, 1] if space == "RAS" else [1, 1, 1])
    lines, points, triangles = read_ply(tmp_path / "out" / "a" / "7.ply")
    assert sorted(map(tuple, points.round(4).tolist())) == sorted(
        map(tuple, expected.astype(np.float32).round(4).tolist())
    )
    assert volume_and_area(points.astype(float), triangles)[0] == pytest.approx(12, rel=1e-4)
    assert any(f"SPACE={space}" in line for line in lines)
    header, _, _ = read_stl(tmp_path / "out" / "a" / "7.stl")
    assert f"SPACE={space}".encode() in header
    assert read_vtp(tmp_path / "out" / "a" / "7.vtp")[1]["SPACE"] == space
    content = json.loads((tmp_path / "out" / "meshes.json").read_text())
    row = content["cases"]["a"]["labels"]["7"]
    assert content["space"] == space and row["voxels"] == 1
    assert row["mesh_volume_mL"] == pytest.approx(0.012) and row["voxel_volume_mL"] == pytest.approx(0.012)
    assert row["area_cm2"] == pytest.approx(2 * (3 + 6 + 8) / 100)
    assert (row["points"], row["triangles"], row["files"]) == (8, 12, ["7.stl", "7.ply", "7.vtp"])


@pytest.mark.slow
def test_folder_in_parallel(tmp_path, dataset_json, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "one.nii.gz", seven_touching(), (1.4, 1.4, 10.0))
    write(folder / "two.mha", shells().astype(np.float32))
    (folder / "dataset.json").write_text("{}")
    out = tmp_path / "out"
    command = ["mesh", "-i", str(folder), "-o", str(out), "-djfile", str(dataset_json), "--labels", "2", "1"]
    assert main([*command, "--format", "vtp", "-np", "2"]) == 0
    assert "one" in capsys.readouterr().out
    content = json.loads((out / "meshes.json").read_text())
    assert list(content["cases"]) == ["one", "two"] and content["smoothing_steps"] == 20
    for case in ("one", "two"):
        row = content["cases"][case]
        assert {p.name for p in (out / case).iterdir()} == {"1_a_b.vtp", "2_LV_cavity.vtp", "walls.vtp"}
        assert [label["name"] for label in row["labels"].values()] == ["LV cavity", "a/b ü"]
        assert all(abs(label["volume_ratio"] - 1) < 0.002 and "flag" not in label for label in row["labels"].values())
    _check_walls(out / "two", {1: "1_a_b", 2: "2_LV_cavity"})


def _check_walls(folder, stems):
    """walls.vtp holds every wall once; the walls of a label are the surface in its own file."""
    arrays, _ = read_vtp(folder / "walls.vtp")
    pairs, triangles = arrays["BoundaryLabels"], arrays["connectivity"].reshape(-1, 3)
    assert set(np.unique(pairs)) == {0, *stems}  # labels that were not asked for count as background
    for label, stem in stems.items():
        own, _ = read_vtp(folder / f"{stem}.vtp")
        one = arrays["Points"][triangles[(pairs == label).any(1)]].reshape(-1, 9)
        other = own["Points"][own["connectivity"].reshape(-1, 3)].reshape(-1, 9)
        assert np.array_equal(np.sort(np.sort(one, 1), 0), np.sort(np.sort(other, 1), 0))


def test_absent_and_empty_with_pictures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(render, "PIXELS", 100)
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "full.nii", shells())
    write(folder / "empty.nii", np.zeros((4, 4, 4), np.uint8))
    assert main(["mesh", "-i", str(folder), "-o", str(tmp_path / "out"), "--labels", "4", "--render", "numpy"]) == 0
    assert "absent: label 4" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "meshes.json").read_text())["cases"]
    assert rows["empty"]["labels"] == {} and rows["empty"]["absent"] == [4]
    assert list(rows["full"]["labels"]) == ["4"] and rows["full"]["absent"] == []
    assert rows["full"]["picture"] == "view.png" and rows["full"]["renderer"] == "numpy"
    assert (tmp_path / "out" / "full" / "view.png").stat().st_size > 2000


def cases_of_errors(tmp_path, dataset_json):
    write(tmp_path / "good.nii", shells())
    write(tmp_path / "flat.nii", shells()[3])
    write(tmp_path / "image.nii", np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32))
    write(tmp_path / "negative.nii", shells().astype(np.int16) - 1)
    write(tmp_path / "many.nii", np.arange(4096, dtype=np.uint16).reshape(16, 16, 16))
    (tmp_path / "broken.nii").write_text("no image")
    (tmp_path / "none").mkdir()
    (tmp_path / "twice").mkdir()
    write(tmp_path / "twice" / "a.nii", shells())
    write(tmp_path / "twice" / "a.mha", shells())
    good, names = ["-i", "good.nii"], ["-djfile", dataset_json.name]
    return {
        "2 dimensions": ["-i", "flat.nii"],
        "is no whole number": ["-i", "image.nii"],
        "reach from -1 to": ["-i", "negative.nii"],
        "4095 different values": ["-i", "many.nii"],
        "broken.nii": ["-i", "broken.nii"],
        "no such file or folder": ["-i", "missing.nii"],
        "no label map in it": ["-i", "none"],
        "both case 'a'": ["-i", "twice"],
        "has the label 5": [*good, "--labels", "5"],
        "label 4 was asked for": [*good, *names, "--labels", "4"],
        "0 is the background": [*good, "--labels", "0"],
        "-3 smoothing steps": [*good, "--smooth", "-3"],
        "1 or more": [*good, "-np", "0"],
        "missing.json: cannot be read": [*good, "-djfile", "missing.json"],
    }


def test_errors(tmp_path, dataset_json, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for message, arguments in cases_of_errors(tmp_path, dataset_json).items():
        assert main(["mesh", "-o", "out", *arguments]) == 1, message
        assert message in capsys.readouterr().err, message


def test_earlier_meshes_stay_until_all_new_ones_are_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write(folder / "a.nii", shells())
    write(folder / "b.nii", shells())
    assert main(["mesh", "-i", "in", "-o", "out", "--format", "stl", "vtp"]) == 0
    (out / "b" / "own.txt").write_text("mine")
    before = tree(out)
    write(folder / "b.nii", shells()[3])
    write(folder / "c.nii", shells()[3])
    assert main(["mesh", "-i", "in", "-o", "out"]) == 1  # two of three cases fail
    error = capsys.readouterr().err
    assert "2 of 3 cases could not be used" in error and "b.nii: 2 dimensions" in error and "c.nii: 2" in error
    assert main(["mesh", "-i", "in/a.nii", "-o", "out", "--labels", "5"]) == 1
    monkeypatch.setattr(mesh_run, "mesh_case", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["mesh", "-i", "in/a.nii", "-o", "out"]) == 130
    assert tree(out) == before
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["mesh", "-i", "in/a.nii", "-o", "out", "--labels", "1"]) == 0
    assert set(tree(out)) == {"meshes.json", "a/1.stl", "b/own.txt"}


def test_only_meshes_of_ours_are_removed(tmp_path, monkeypatch):
    """meshes.json may come from anywhere."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.nii", shells())
    (tmp_path / "precious").write_text("")
    (tmp_path / "out" / "x").mkdir(parents=True)
    files = ["../../precious", "precious", str(tmp_path / "precious"), "/precious", "", "."]
    rows = {case: {"labels": {"1": {"files": files}}} for case in ("..", "../..", "", ".", "x", "/", str(tmp_path))}
    for text in (json.dumps({"cases": rows}), '{"cases": {"x": 1}}', "[]", "{"):
        (tmp_path / "out" / "meshes.json").write_text(text)
        assert main(["mesh", "-i", "a.nii", "-o", "out", "--labels", "1"]) == 0
    assert (tmp_path / "precious").exists() and (tmp_path / "out" / "x").is_dir()


def _ends_its_process(item):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_is_ended_is_an_error_of_the_user(tmp_path, monkeypatch, capsys):
    for name in "ab":
        write(tmp_path / f"{name}.nii", shells())
    monkeypatch.setattr(mesh_run, "_labels_of", _ends_its_process)
    assert main(["mesh", "-i", str(tmp_path), "-o", str(tmp_path / "out"), "-np", "2"]) == 1
    assert "use a lower -np" in capsys.readouterr().err


@pytest.mark.slow
def test_an_error_in_a_process_names_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.nii", shells())
    write(tmp_path / "b.nii", shells()[3])
    assert main(["mesh", "-i", ".", "-o", "out", "-np", "2"]) == 1
    assert "b.nii: 2 dimensions" in capsys.readouterr().err
