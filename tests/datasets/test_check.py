"""`check`: raw data sets with one fault each, and what is said of it."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from support.image_files import body_image, write
from support.raw_datasets import boxes, change, claiming, cut, raw_dataset, sheared, write_dataset_json, zero_pixdim

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.datasets.check import check_dataset, find_dataset
from nnunet_xlstm.errors import DatasetError

CASES = [f"c{i}" for i in range(5)]


@pytest.fixture
def folder(tmp_path):
    return raw_dataset(tmp_path / "Dataset001_Liver", CASES, channels=("CT", "PET"))


def said(folder, processes=1):
    """Errors and warnings as texts."""
    report = check_dataset(folder, processes)
    lines = [str(finding) for finding in report.findings]
    assert lines == sorted(lines, key=lambda line: line.startswith("warning"))  # errors first
    return lines


def only(folder):
    (line,) = said(folder)
    return line


def picture(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array, mode).save(path)


def test_a_good_data_set(folder):
    write(folder / "imagesTs" / "t1_0000.nii.gz", body_image(3))
    write(folder / "imagesTs" / "t1_0001.nii.gz", body_image(4))
    write(folder / "imagesTs" / "t2_0000.nii.gz", body_image(5))
    write(folder / "imagesTs" / "t2_0001.nii.gz", body_image(6))
    write(folder / "labelsTs" / "t1.nii.gz", boxes(1))
    report = check_dataset(folder)
    assert report.findings == () and (report.train, report.test) == (5, 2)


FAULTS = {
    "cut image": (
        lambda f: cut(f / "imagesTr/c1_0001.nii.gz"),
        "error: imagesTr/c1_0001.nii.gz: is damaged or cut off",
    ),
    "cut label": (lambda f: cut(f / "labelsTr/c1.nii.gz"), "error: labelsTr/c1.nii.gz: is damaged or cut off"),
    "empty file": (lambda f: cut(f / "labelsTr/c1.nii.gz", 0), "error: labelsTr/c1.nii.gz: "),
    "no spacing": (
        lambda f: zero_pixdim(f / "labelsTr/c1.nii.gz"),
        "error: labelsTr/c1.nii.gz: its header says pixdim",
    ),
    "claim": (lambda f: claiming(f / "imagesTr/c1_0000.nii.gz"), "claims 900 x 900 x 900 voxels"),
    "NaN": (
        lambda f: write(f / "imagesTr/c1_0000.nii.gz", np.where(body_image() > 50, np.nan, body_image())),
        f"error: imagesTr/c1_0000.nii.gz: {(body_image() > 50).sum()} voxels are NaN or infinite",
    ),
    "infinite": (
        lambda f: write(f / "imagesTr/c1_0000.nii.gz", np.where(body_image() > 50, np.inf, body_image())),
        f"error: imagesTr/c1_0000.nii.gz: {(body_image() > 50).sum()} voxels are NaN or infinite",
    ),
    "NaN label": (
        lambda f: write(f / "labelsTr/c1.nii.gz", np.where(boxes(1) > 0, np.nan, 0.0)),
        "error: labelsTr/c1.nii.gz: holds NaN",
    ),
    "unknown id": (
        lambda f: write(f / "labelsTr/c1.nii.gz", boxes(1, 7)),
        "error: labelsTr/c1.nii.gz: holds 7 (160 voxels), which dataset.json does not list; its ids are [0, 1, 2]",
    ),
    "empty label": (
        lambda f: write(f / "labelsTr/c1.nii.gz", boxes()),
        "warning: labelsTr/c1.nii.gz: is empty: every voxel is background",
    ),
    "constant": (
        lambda f: write(f / "imagesTr/c1_0000.nii.gz", np.zeros((10, 20, 24), np.float32)),
        "warning: imagesTr/c1_0000.nii.gz: every voxel is 0",
    ),
    "size": (
        lambda f: write(f / "labelsTr/c1.nii.gz", boxes(1)[:, :, :-1]),
        "error: labelsTr/c1.nii.gz: the image has (24, 20, 10) voxels, the label map (23, 20, 10)",
    ),
    "spacing of a label": (
        lambda f: write(f / "labelsTr/c1.nii.gz", boxes(1), spacing=(1, 1, 3.001)),
        "error: labelsTr/c1.nii.gz: the image has the spacing (1.0, 1.0, 3.0), the label map (1.0, 1.0, 3.00",
    ),
    "spacing of a channel": (
        lambda f: write(f / "imagesTr/c1_0001.nii.gz", body_image(), spacing=(1, 1, 2)),
        "error: imagesTr/c1_0001.nii.gz: the first channel has the spacing",
    ),
    "no label": (lambda f: os.remove(f / "labelsTr/c1.nii.gz"), "error: labelsTr/c1.nii.gz: "),
    "no channel": (
        lambda f: os.remove(f / "imagesTr/c1_0001.nii.gz"),
        "error: imagesTr/c1_0000.nii.gz: case c1 has 1 image file, in which nnU-Net finds 1 channels; channel_names",
    ),
    "label alone": (
        lambda f: write(f / "labelsTr/c9.nii.gz", boxes(1)),
        "warning: labelsTr/c9.nii.gz: there is no image of this case",
    ),
    "macOS": (
        lambda f: (f / "imagesTr/._c1_0000.nii.gz").write_bytes(b"\0\5\x16\7"),
        "error: imagesTr: macOS left ._c1_0000.nii.gz, which nnU-Net takes for cases, and stops: delete all such",
    ),
    "no number": (
        lambda f: write(f / "imagesTr/c9.nii.gz", body_image()),
        "error: imagesTr/c9.nii.gz: nnU-Net takes it for a case and stops: its name must end with a channel, _0000",
    ),
    "other ending": (
        lambda f: write(f / "imagesTr/c9_0000.nii", body_image()),
        "warning: imagesTr: nnU-Net leaves out what does not end with .nii.gz: c9_0000.nii",
    ),
    "count": (lambda f: change(f, numTraining=7), "error: dataset.json: numTraining is 7, there are 5 training cases"),
    "label of no case": (
        lambda f: change(f, labels={"background": 0, "liver": 1, "tumour": 2, "cyst": 3}),
        "warning: dataset.json: labels: no training case has a voxel of 'cyst', [3]",
    ),
    "ids with a gap": (
        lambda f: change(f, labels={"background": 0, "liver": 1, "tumour": 2, "cyst": 4}),
        "error: dataset.json: labels: the ids are 0, 1, 2, 4; they must be 0, 1, 2 ... without a gap",
    ),
    "ignore": (
        lambda f: change(f, labels={"background": 0, "liver": 1, "tumour": 2, "ignore": 4}),
        "error: dataset.json: labels: ignore is 4; it must be one above all others, 3",
    ),
    "regions": (
        lambda f: change(f, labels={"background": 0, "whole": [1, 2], "tumour": 2}),
        "error: dataset.json: regions_class_order must list one id for each of the 2 regions",
    ),
    "text as id": (
        lambda f: change(f, labels={"background": 0, "liver": "1", "tumour": 2}),
        'error: dataset.json: labels.liver is "1"; give a whole number from 0 to 2147483647, or a list ',
    ),
    "order of channels": (
        lambda f: change(f, channel_names={"1": "PET", "0": "CT"}),
        "error: dataset.json: channel_names is numbered 1, 0; nnU-Net goes by its order",
    ),
    "ending": (lambda f: change(f, file_ending="/../x"), 'error: dataset.json: file_ending is "/../x"; give an ending'),
    "folds": (
        lambda f: (f / "splits_final.json").write_text(json.dumps([{"train": ["c0", "gone"], "val": []}])),
        "error: splits_final.json: names gone, which is no case",
    ),
    "link": (
        lambda f: (f / "imagesTr/c9_0000.nii.gz").symlink_to(f / "gone.nii.gz"),
        "error: imagesTr/c9_0000.nii.gz: is a link to a file that is not there",
    ),
    "test image": (
        lambda f: cut(write(f / "imagesTs/t_0000.nii.gz", body_image())),
        "error: imagesTs/t_0000.nii.gz: is damaged or cut off",
    ),
    "test label": (
        lambda f: [write(f / f"imagesTs/t_000{c}.nii.gz") for c in (0, 1)] + [write(f / "labelsTs/t.nii.gz", boxes(9))],
        "error: labelsTs/t.nii.gz: holds 9 (160 voxels)",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_one_fault(folder, what):
    damage, line = FAULTS[what]
    damage(folder)
    lines = said(folder)
    assert any(line in found for found in lines), lines
    others = {"ids with a gap": 2, "folds": 2}
    assert len(lines) <= others.get(what, 1), lines


def test_several_faults_of_one_case_are_all_named(folder):
    cut(folder / "imagesTr/c1_0000.nii.gz")
    write(folder / "labelsTr/c1.nii.gz", boxes(1, 5))
    write(folder / "labelsTr/c3.nii.gz", boxes(6))
    assert [line.split(": ")[1] for line in said(folder)] == [
        "imagesTr/c1_0000.nii.gz", "labelsTr/c1.nii.gz", "labelsTr/c3.nii.gz"
    ]  # fmt: skip


@pytest.mark.slow
def test_processes_give_the_same(folder):
    cut(folder / "imagesTr/c1_0000.nii.gz")
    write(folder / "labelsTr/c3.nii.gz", boxes(6))
    assert said(folder, processes=2) == said(folder)


def test_shifted_and_sheared_grids(folder):
    moved = sitk.ReadImage(str(folder / "labelsTr/c1.nii.gz"))
    moved.SetOrigin((5, 0, 0))
    sitk.WriteImage(moved, str(folder / "labelsTr/c1.nii.gz"))
    assert "labelsTr/c1.nii.gz: the grids of image and label map are up to 5 mm apart" in only(folder)
    moved.SetOrigin((0, 0, 0))
    sitk.WriteImage(moved, str(folder / "labelsTr/c1.nii.gz"))
    for path in ("imagesTr/c1_0000.nii.gz", "imagesTr/c1_0001.nii.gz", "labelsTr/c1.nii.gz"):
        sheared(folder / path)
    assert [line.split(": ")[1] for line in said(folder)] == ["imagesTr/c1_0000.nii.gz", "imagesTr/c1_0001.nii.gz"]
    assert "nnU-Net's SimpleITKIO cannot read it" in said(folder)[0]
    change(folder, overwrite_image_reader_writer="NibabelIO")
    assert said(folder) == []


def test_a_table_of_files_elsewhere(tmp_path, monkeypatch):
    source = raw_dataset(tmp_path / "source", CASES)
    monkeypatch.setenv("WHERE", str(source))
    rows = {
        c: {"images": [f"$WHERE/imagesTr/{c}_0000.nii.gz"], "label": f"../source/labelsTr/{c}.nii.gz"} for c in CASES
    }
    folder = tmp_path / "Dataset002_Table"
    folder.mkdir()
    write_dataset_json(folder, ("CT",), 5, ".nii.gz", {"liver": 1, "tumour": 2}, dataset=rows)
    assert said(folder) == []
    os.remove(source / "imagesTr/c2_0000.nii.gz")
    assert only(folder).startswith(f"error: {source}/imagesTr/c2_0000.nii.gz: ")
    change(folder, dataset=rows | {"c2": rows["c1"]})
    assert only(folder) == f"warning: {source}/imagesTr/c1_0000.nii.gz: is named 2 times in `dataset` of dataset.json"
    change(folder, dataset=rows | {"../c2": rows["c1"]})
    assert 'dataset has the key "../c2"; give the name of a file' in said(folder)[0]


@pytest.mark.parametrize(("shape", "channels", "fault"), [
    ((20, 24, 3), 3, ""),
    ((20, 24, 4), 4, ""),
    ((20, 24), 1, ""),
    ((20, 24, 3), 1, "c0 has 1 image file, in which nnU-Net finds 3 channels; channel_names of dataset.json has 1"),
    ((20, 24), 3, "c0 has 1 image file, in which nnU-Net finds 1 channels; channel_names of dataset.json has 3"),
])  # fmt: skip
def test_colours_of_a_png_are_channels(tmp_path, shape, channels, fault):
    """As NaturalImage2DIO reads them."""
    rng = np.random.default_rng(0)
    for case in CASES:
        picture(tmp_path / "imagesTr" / f"{case}_0000.png", rng.integers(0, 255, shape, dtype=np.uint8))
        picture(tmp_path / "labelsTr" / f"{case}.png", boxes(1)[5])
    write_dataset_json(tmp_path, [f"channel {i}" for i in range(channels)], 5, ".png", {"thing": 1})
    lines = said(tmp_path)
    assert len(lines) == (5 if fault else 0) and (not fault or fault in lines[0])
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    images, _ = NaturalImage2DIO().read_images([str(tmp_path / "imagesTr/c0_0000.png")])
    assert (len(images) == channels) == (not fault)


def test_dimensions(tmp_path):
    folder = raw_dataset(tmp_path, CASES)
    write(folder / "imagesTr/c1_0000.nii.gz", body_image()[5])
    write(folder / "labelsTr/c1.nii.gz", boxes(1, 2)[5])
    assert only(folder) == "error: imagesTr/c1_0000.nii.gz: has 2 dimensions, most other cases have 3"
    write(folder / "imagesTr/c1_0000.nii.gz", np.stack([body_image(), body_image(1)]), isVector=False)
    write(folder / "labelsTr/c1.nii.gz", boxes(1, 2))
    assert "case c1 has 1 image file, in which nnU-Net finds 2 channels" in only(folder)
    write(folder / "imagesTr/c1_0000.nii.gz", np.stack([body_image(), body_image(1)], -1), isVector=True)
    assert "2 values per voxel; save each as an image of its own" in only(folder)


def test_stock_integrity_check_lets_a_cut_label_map_pass(tmp_path, verify_dataset_integrity, capsys):
    """What this command is for."""
    folder = raw_dataset(tmp_path / "Dataset001_Liver", CASES)
    cut(folder / "labelsTr/c1.nii.gz")
    verify_dataset_integrity(str(folder), 1)
    assert "your dataset is most likely OK" in capsys.readouterr().out
    assert "error: labelsTr/c1.nii.gz: is damaged or cut off" in only(folder)


def test_command(tmp_path, monkeypatch, capsys):
    folder = raw_dataset(tmp_path / "Dataset001_Liver", CASES)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    for name in ("1", "001", "Dataset001_Liver", str(folder)):
        assert main(["check", "-d", name]) == 0
        assert "5 training and 0 test cases read; errors: 0, warnings: 0" in capsys.readouterr().out
    write(folder / "labelsTr/c1.nii.gz", boxes())
    assert main(["check", "-d", "1"]) == 0  # a warning is no error
    cut(folder / "labelsTr/c2.nii.gz")
    assert main(["check", "-d", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[-3:-1]] == ["error", "warning"]
    assert lines[-1].endswith("errors: 1, warnings: 1")
    with pytest.raises(DatasetError, match="-d 7: .* there is none in"):
        find_dataset("7")
    (tmp_path / "Dataset001_Other").mkdir()
    with pytest.raises(DatasetError, match="Dataset001_Liver, Dataset001_Other all have it"):
        find_dataset("1")
    assert main(["check", "-d", str(folder), "-np", "0"]) == 1
    (folder / "dataset.json").write_text("[" * 100_000)
    assert main(["check", "-d", str(folder)]) == 1
    assert "nested too deeply" in capsys.readouterr().err
