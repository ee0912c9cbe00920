"""`unlabelled`: every kind of image becomes a case that nnU-Net can plan, or a row of excluded.csv."""

import csv
import errno
import json
import os
import signal
import sys
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from support.dicom_files import CORONAL, volume, write_enhanced, write_series
from support.image_files import body_image, cine, tree, write

from nnunet_xlstm.datasets import build
from nnunet_xlstm.datasets.build import summary_lines
from nnunet_xlstm.datasets.case_index import read_pool_cases
from nnunet_xlstm.datasets.sampling import FramePartner
from nnunet_xlstm.datasets.unlabelled import make_unlabelled
from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.imaging import images
from nnunet_xlstm.io import write as files
from nnunet_xlstm.io.write import WriteError
from nnunet_xlstm.pools.build import build_pool


def make(*inputs, modality="MR", number=7, **options):
    return make_unlabelled([*inputs], modality, number, **options)


def cases(dataset):
    """Case -> its first image as SimpleITK reads it."""
    content = json.loads((dataset.folder / "dataset.json").read_text())
    return {case: sitk.ReadImage(str(dataset.folder / row["images"][0])) for case, row in content["dataset"].items()}


def rows(dataset):
    return read_pool_cases(dataset.folder / "pool_cases.json").cases


def excluded(dataset):
    table = list(csv.reader((dataset.folder / "excluded.csv").read_text().splitlines()))
    return {os.path.basename(path): reason for path, reason in table[1:]}


def gray(seed=0, shape=(20, 24)):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(np.uint8)


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **({"dpi": (300, 300)} if path.suffix != ".bmp" else {}))
    return path


# 2D -------------------------------------------------------------------------------------------------------------------


def test_pictures_are_volumes_of_one_slice(tmp_path, nnunet_folders, caplog):
    """Grey, or colour with equal channels; their dots per inch are no pixel size."""
    for i, name in enumerate(("a.png", "b.tif", "c.bmp", "d.jpg")):
        picture(tmp_path / "in" / name, gray(i))
    picture(tmp_path / "in" / "e.png", np.stack([gray(4)] * 3, -1))
    picture(
        tmp_path / "in" / "f.png", np.concatenate([np.stack([gray(5)] * 3, -1), np.full((20, 24, 1), 255, np.uint8)], 2)
    )
    picture(tmp_path / "in" / "g.png", gray(6).astype(np.uint16) * 100)
    picture(tmp_path / "in" / "h.png", np.stack([gray(1), gray(2), gray(3)], -1))
    picture(tmp_path / "in" / "i.png", (gray(1) > 100).astype(np.uint8))
    dataset, summary = make(tmp_path / "in")
    found = cases(dataset)
    assert list(found) == list("abcdefg") and summary.single_slices == 7
    for i, (case, image) in enumerate(found.items()):
        assert image.GetSize() == (24, 20, 1) and image.GetSpacing() == (1, 1, 1)
        if case != "d":
            expected = gray(i).astype(np.uint16) * (100 if case == "g" else 1)
            np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[0], expected)
    assert excluded(dataset) == {
        "h.png": "3 values per voxel (colour or vector image)", "i.png": "a label map: no more than 16 distinct values",
    }  # fmt: skip
    assert "7 of the images taken in now are pictures without a pixel size" in caplog.text
    assert "7 of the images taken in now are single slices" in caplog.text


def test_a_grey_volume_in_colours_is_not_left_in_colours(tmp_path, nnunet_folders):
    array = np.random.default_rng(0).integers(0, 200, (10, 20, 24)).astype(np.uint8)
    write(tmp_path / "in" / "a.nii.gz", np.stack([array] * 3, -1), isVector=True)
    image = cases(make(tmp_path / "in")[0])["a"]
    assert image.GetNumberOfComponentsPerPixel() == 1 and image.GetSpacing() == (1, 1, 3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)


def test_2d_files_keep_their_pixel_size_and_are_never_thinner(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "a.nii.gz", body_image()[4], spacing=(1.4, 1.4))
    write(tmp_path / "in" / "b.mha", body_image()[4], spacing=(1.2, 1.4))
    write(tmp_path / "in" / "thick.nii.gz", body_image()[4:5], spacing=(1.5, 1.5, 8))
    write(tmp_path / "in" / "thin.nii.gz", body_image()[4:5], spacing=(1.5, 1.5, 1))
    write(tmp_path / "in" / "sagittal.nii.gz", body_image()[:, :, 10:11], spacing=(8, 1.25, 1.5))
    write(tmp_path / "in" / "sagittal_thin.nii.gz", body_image()[:, :, 10:11], spacing=(1, 1.25, 1.5))
    dataset, summary = make(tmp_path / "in")
    found = {
        case: (image.GetSize(), tuple(round(v, 4) for v in image.GetSpacing()))
        for case, image in cases(dataset).items()
    }
    assert found == {
        "a": ((24, 20, 1), (1.4, 1.4, 1.4)),
        "b": ((24, 20, 1), (1.2, 1.4, 1.4)),
        "thick": ((24, 20, 1), (1.5, 1.5, 8)),
        "thin": ((24, 20, 1), (1.5, 1.5, 1.5)),
        "sagittal": ((20, 10, 1), (1.25, 1.5, 8)),
        "sagittal_thin": ((20, 10, 1), (1.25, 1.5, 1.5)),
    }
    assert summary.single_slices == 6
    assert not (dataset.folder / "imagesTr" / "thick_0000.nii.gz").exists()  # nnU-Net reads it where it is
    np.testing.assert_array_equal(sitk.GetArrayFromImage(cases(dataset)["sagittal"])[0], body_image()[:, :, 10])


def test_a_slice_of_another_axis_keeps_its_place(tmp_path, nnunet_folders):
    path = write(tmp_path / "in" / "a.nii.gz", body_image()[:, :, 10:11], spacing=(8, 1.25, 1.5))
    before = sitk.ReadImage(str(path))
    dataset, _ = make(tmp_path / "in")
    image, label = cases(dataset)["a"], sitk.ReadImage(str(dataset.folder / "labelsTr" / "a.nii.gz"))
    assert image.TransformIndexToPhysicalPoint((3, 5, 0)) == pytest.approx(
        before.TransformIndexToPhysicalPoint((0, 3, 5))
    )
    assert label.GetSpacing() == image.GetSpacing() and label.GetSize() == image.GetSize()


def test_2d_and_time(tmp_path, nnunet_folders):
    """4D with one slice is time; 3D is time where the user says so."""
    array = np.stack([body_image(t)[4:5] for t in range(3)])
    write(tmp_path / "a" / "x.nii.gz", array, isVector=False)
    write(tmp_path / "b" / "y.mha", array[:, 0], spacing=(1.5, 1.5, 30))
    write(tmp_path / "b" / "one.nii.gz", array[:1], isVector=False)  # one frame: no sequence
    dataset, summary = make(tmp_path / "a")
    dataset, summary = make(tmp_path / "b", last_axis_is_time=True)
    assert (summary.cases, summary.single_slices, summary.subjects) == (7, 7, 3)
    found = rows(dataset)
    assert [(r.frame, r.frames, r.subject) for c, r in found.items() if c[0] in "xy"] == [
        (t, 3, name) for name in "xy" for t in range(3)
    ]
    assert (found["one"].frame, found["one"].frames) == (None, None)
    for case, image in cases(dataset).items():
        assert image.GetDimension() == 3 and image.GetSize() == (24, 20, 1), case
    np.testing.assert_array_equal(sitk.GetArrayFromImage(cases(dataset)["y_t02"]), array[2])
    dataset, summary = make(tmp_path / "b")  # the other meaning: taken in anew
    assert "y" in rows(dataset) and "y_t00" not in rows(dataset)


def test_slices_and_volumes_in_one_set_are_counted(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "volume.nii.gz")
    picture(tmp_path / "in" / "picture.png", gray())
    assert "1 of the cases are single slices, 1 are not" in "\n".join(summary_lines(*make(tmp_path / "in"), 7))
    picture(tmp_path / "in" / "picture2.png", gray(2))
    assert "-c 2d" in "\n".join(summary_lines(*make(tmp_path / "in"), 7))
    dataset, summary = make(tmp_path / "in", min_slices=4)
    assert (summary.cases, summary.single_slices) == (1, 0)
    assert excluded(dataset)["picture.png"] == "1 slices; --min-slices asks for 4"
    with pytest.raises(ConfigError, match="--min-slices 0"):
        make(tmp_path / "in", min_slices=0)


def test_nnunet_plans_and_preprocesses_slices_and_volumes(tmp_path, nnunet_folders, plan_and_preprocess, monkeypatch):
    for i in range(3):
        picture(tmp_path / "in" / f"p{i}.png", np.pad(gray(i, (60, 64)), 2))
    write(tmp_path / "in" / "cine.nii.gz", np.stack([body_image(t, (1, 64, 64)) for t in range(2)]), isVector=False)
    write(tmp_path / "in" / "volume.nii.gz", body_image(9, (6, 64, 64)), spacing=(1, 1, 10))
    make(tmp_path / "in")
    plan_and_preprocess(7, check=True, configuration="2d")
    folder = nnunet_folders / "preprocessed" / "Dataset007_Unlabelled"
    plans = json.loads((folder / "nnUNetXLSTMUNetTinyPlans.json").read_text())
    assert plans["transpose_forward"] == [0, 1, 2] and list(plans["configurations"]) == ["2d"]
    assert plans["configurations"]["2d"]["spacing"] == [1.0, 1.0]
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    data = infer_dataset_class(str(folder / "nnUNetPlans_2d"))(str(folder / "nnUNetPlans_2d"))
    shapes = {case: data.load_case(case)[0].shape for case in data.identifiers}
    assert shapes["volume"][1] == 6 and all(shape[1] == 1 for case, shape in shapes.items() if case != "volume")


# Headers --------------------------------------------------------------------------------------------------------------


def test_sheared_headers_are_converted_and_read_as_nnunet_reads_them(tmp_path, nnunet_folders):
    import nibabel

    affine = np.diag([1.0, 1.5, 3.0, 1.0])
    affine[0, 1] = 0.03
    (tmp_path / "in").mkdir()
    for name, array in (("a", body_image()), ("cine", cine(2))):
        nibabel.save(nibabel.Nifti1Image(array.T, affine), tmp_path / "in" / f"{name}.nii.gz")
    zooms = nibabel.load(tmp_path / "in" / "a.nii.gz").header.get_zooms()
    dataset, summary = make(tmp_path / "in")
    found = cases(dataset)
    assert (dataset.folder / "imagesTr" / "a_0000.nii.gz").is_file() and summary.excluded == 0
    for case, array in (("a", body_image()), ("cine_t00", cine(2)[0]), ("cine_t01", cine(2)[1])):
        assert found[case].GetSpacing() == pytest.approx(zooms)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found[case]), array)


# DICOM ----------------------------------------------------------------------------------------------------------------


def test_dicom_of_a_heart(tmp_path, nnunet_folders):
    """Localizer, long-axis cine, short-axis cine in one enhanced file, a map: subjects and sequences stay together."""
    folder, names = tmp_path / "in", {"SeriesDescription": "loc", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    for i, cosines in enumerate(((1, 0, 0, 0, 1, 0), CORONAL)):
        write_series(folder, volume(i), uid=1, start=10 * i, cosines=cosines, modality="MR", tags=lambda z: names)
    for t in range(4):
        tags = {"SeriesDescription": "4ch", "TriggerTime": 40 * t}
        write_series(folder, volume(t, (1, 12, 14)), uid=2, start=t, modality="MR", tags=lambda z, tags=tags: tags)
    frames = [
        {"ImagePositionPatient": [0.0, 0.0, 8.0 * z], "NominalCardiacTriggerDelayTime": 40.0 * t}
        for z in range(3) for t in range(4)
    ]  # fmt: skip
    shared = {"EffectiveEchoTime": 1.0}
    write_enhanced(folder / "sax.dcm", volume(9, (12, 12, 14)), frames, uid=3, shared=shared, SeriesDescription="sax")
    write_series(folder, volume(5, (1, 12, 14)), uid=4, modality="MR", tags=lambda z: {"SeriesDescription": "t1map"})
    dataset, summary = make(folder, dicom=True)
    found = rows(dataset)
    assert {c: (r.frame, r.frames) for c, r in found.items()} == (
        {f"1_loc_s{i:02d}": (None, None) for i in range(12)}
        | {f"{name}_t{t:02d}": (t, 4) for name in ("2_4ch", "3_sax") for t in range(4)}
        | {"4_t1map": (None, None)}
    )
    assert {row.subject for row in found.values()} == {"P1"} and summary.excluded == 0
    assert found["3_sax_t02"].tags == {
        "Modality": "MR", "SeriesDescription": "sax", "ImageOrientationPatient": "1.0\\0.0\\0.0\\0.0\\1.0\\0.0",
        "TriggerTime": "80.0", "EchoTime": "1.0",
    }  # fmt: skip
    assert found["1_loc_s11"].tags["ImageType"] == "ORIGINAL\\PRIMARY\\LOCALIZER"
    assert cases(dataset)["3_sax_t02"].GetSize() == (14, 12, 3) and cases(dataset)["2_4ch_t03"].GetSize() == (14, 12, 1)
    # frames of two sequences with equally many frames are not partners
    partner = FramePartner(read_pool_cases(dataset.folder / "pool_cases.json").cases, list(found))
    assert set(partner.partners["2_4ch_t00"]) == {"2_4ch_t01", "2_4ch_t03"}
    before = tree(nnunet_folders)
    assert make(folder, dicom=True)[1].new == 0 and tree(nnunet_folders) == before


def test_dicom_and_other_images_side_by_side(tmp_path, nnunet_folders):
    write_series(tmp_path / "in" / "dicom", volume(shape=(4, 12, 14)), modality="MR")
    write_series(tmp_path / "in", volume(shape=(1, 12, 14)), modality="MR", uid=2)
    write(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "in" / "cut.dcm").write_bytes(b"DICM")
    dataset, _ = make(tmp_path / "in")
    assert excluded(dataset) == {
        "in": "2 DICOM files; take the folder in by a run with --dicom",
        "dicom": "4 DICOM files; take the folder in by a run with --dicom",
    }
    dataset, _ = make(tmp_path / "in", dicom=True, number=8)
    assert excluded(dataset) == {
        "a.nii.gz": "not a DICOM file; take it in by a run without --dicom",
        "cut.dcm": "is not a DICOM file, or damaged",
    }
    only = tmp_path / "in" / "s2_000.dcm"
    assert make(only, dicom=True, number=9)[1].cases == 1  # a file, as well as a folder
    with pytest.raises(DatasetError, match="no image .*take the folder in by a run with --dicom"):
        make(tmp_path / "in" / "dicom", number=10)


# What is left out -----------------------------------------------------------------------------------------------------


def test_what_looks_like_an_image_is_listed(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "a.nii.gz")
    write(tmp_path / "in" / "pair.hdr")  # and pair.img
    for name in ("b.mgz", "c.gif", "d.tar.gz", "e.img", "f.npy"):
        (tmp_path / "in" / name).write_bytes(b"something")
    for name in ("notes.txt", "a.json", "a.bval", "._a.nii.gz", ".hidden.nii.gz", "README"):
        (tmp_path / "in" / name).write_bytes(b"something")
    dataset, summary = make(tmp_path / "in")
    assert set(excluded(dataset)) == {"b.mgz", "c.gif", "d.tar.gz", "e.img", "f.npy"} and summary.cases == 2
    (tmp_path / "list.txt").write_text("in/a.nii.gz\nin/._a.nii.gz\nin/b.mgz\n")  # as `find` writes it
    dataset, summary = make(tmp_path / "list.txt", number=8)
    assert summary.cases == 1 and excluded(dataset) == {
        "._a.nii.gz": "what macOS keeps beside a file, not an image",
        "b.mgz": "a format that is not read; unpack it, or convert it to .nii.gz",
    }


def test_apple_double_files_in_a_pool_are_no_cases(tmp_path, nnunet_folders):
    source = tmp_path / "Dataset001_A"
    write(source / "imagesTr" / "a_0000.nii.gz")
    write(source / "labelsTr" / "a.nii.gz", (body_image() > 25).astype(np.uint8))
    (source / "imagesTr" / "._a_0000.nii.gz").write_bytes(b"Mac OS X")
    labels = {"background": 0, "x": 1}
    content = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (source / "dataset.json").write_text(json.dumps(content))
    (tmp_path / "POOL.json").write_text(json.dumps({"sources": [{"dataset": str(source), "modality": "MR"}]}))
    dataset, _ = build_pool(tmp_path / "POOL.json", 9)
    assert list(cases(dataset)) == ["Dataset001_A_a"]


def test_a_pool_keeps_tags_and_takes_2d_images_with_their_labels(tmp_path, nnunet_folders):
    write_series(tmp_path / "in", volume(shape=(1, 12, 14)), modality="MR")
    unlabelled, _ = make(tmp_path / "in", dicom=True)
    source = tmp_path / "Dataset001_A"
    picture(source / "imagesTr" / "a_0000.png", gray())
    picture(source / "labelsTr" / "a.png", (gray() > 100).astype(np.uint8))
    labels = {"background": 0, "x": 1}
    content = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 1, "file_ending": ".png"}
    (source / "dataset.json").write_text(json.dumps(content))
    sources = [{"dataset": str(folder), "modality": "MR"} for folder in (unlabelled.folder, source)]
    (tmp_path / "IMAGES.json").write_text(json.dumps({"sources": sources}))
    dataset, _ = build_pool(tmp_path / "IMAGES.json", 9, "Images")
    found = rows(dataset)
    assert found["Dataset007_Unlabelled_1_thorax"].tags == rows(unlabelled)["1_thorax"].tags != {}
    assert found["Dataset001_A_a"].tags == {}
    sources[1] |= {"targets": {"x": [1]}}
    (tmp_path / "LABELS.json").write_text(json.dumps({"sources": sources[1:], "targets": [{"name": "x"}]}))
    dataset, summary = build_pool(tmp_path / "LABELS.json", 10, "Labels")
    label = sitk.ReadImage(str(dataset.folder / "labelsTr" / "Dataset001_A_a.nii.gz"))
    assert label.GetSize() == cases(dataset)["Dataset001_A_a"].GetSize() == (24, 20, 1) and summary.cases == 1
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label)[0] > 0, gray() > 100)


def test_folders_that_cannot_be_read_are_listed(tmp_path, nnunet_folders, monkeypatch):
    write(tmp_path / "in" / "a.nii.gz")
    write(tmp_path / "in" / "closed" / "b.nii.gz")
    stock = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stock(path)

    monkeypatch.setattr(os, "scandir", closed)
    dataset, _ = make(tmp_path / "in")
    assert excluded(dataset) == {"closed": "a folder that cannot be read (Permission denied)"}


def test_what_was_missing_is_taken_in_when_it_comes(tmp_path, nnunet_folders):
    """An input without its side file is tried again, although itself does not change."""
    write(tmp_path / "in" / "a.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(body_image()), str(tmp_path / "in" / "b_0000.tif"))
    write(tmp_path / "in" / "c.mhd")
    data = (tmp_path / "in" / "c.raw").rename(tmp_path / "c.raw")
    dataset, _ = make(tmp_path / "in")
    found = excluded(dataset)
    assert "b_0000.json" in found["b_0000.tif"] and "c.raw, is not beside it" in found["c.mhd"]
    (tmp_path / "in" / "b.json").write_text('{"spacing": [3, 1, 1]}')
    data.rename(tmp_path / "in" / "c.raw")
    dataset, summary = make(tmp_path / "in")
    assert (summary.cases, summary.new, summary.excluded) == (3, 2, 0)


def test_a_truncated_metaimage_is_not_called_missing(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "a.nii.gz")
    path = write(tmp_path / "in" / "cut.mha")
    path.write_bytes(path.read_bytes()[:-500])
    assert "is cut off or damaged" in excluded(make(tmp_path / "in")[0])["cut.mha"]


# Full disk, kill ------------------------------------------------------------------------------------------------------


def inputs(folder):
    write(folder / "c.nii.gz", cine(2), isVector=False)
    write(folder / "constant.nii.gz", np.zeros((10, 20, 24)))
    write(folder / "s0.nii.gz")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_ends_the_run_and_a_second_run_goes_on(tmp_path, nnunet_folders, processes):
    inputs(tmp_path / "in")
    make(tmp_path / "in")
    expected = {name: data for name, (data, _) in tree(nnunet_folders).items()}
    clear(nnunet_folders)
    folder = nnunet_folders / "raw" / "Dataset007_Unlabelled"
    (folder / "labelsTr").mkdir(parents=True)
    (folder / "labelsTr" / "s0.nii.gz").mkdir()  # what cannot be replaced, in another process too
    (folder / "labelsTr" / "s0.nii.gz" / "x").write_text("")
    with pytest.raises(WriteError, match="s0.nii.gz: cannot be written"):
        make(tmp_path / "in", processes=processes)
    (folder / "labelsTr" / "s0.nii.gz" / "x").unlink()
    (folder / "labelsTr" / "s0.nii.gz").rmdir()
    make(tmp_path / "in", processes=processes)
    assert {name: data for name, (data, _) in tree(nnunet_folders).items()} == expected


def test_a_file_that_itk_cuts_off_on_a_full_disk_is_no_excluded_image(tmp_path, nnunet_folders, monkeypatch):
    write(tmp_path / "in" / "c.nii.gz", cine(2), isVector=False)
    stock = sitk.WriteImage

    def full(image, path, *options):  # ITK says nothing of it
        stock(image, path, *options)
        os.truncate(path, os.path.getsize(path) // 2)

    monkeypatch.setattr(images.sitk, "WriteImage", full)
    with pytest.raises(WriteError, match="c_t00_0000.nii.gz: cannot be written"):
        make(tmp_path / "in")
    monkeypatch.setattr(images.sitk, "WriteImage", stock)
    dataset, summary = make(tmp_path / "in")
    assert (summary.cases, summary.excluded) == (2, 0) and set(cases(dataset)) == {"c_t00", "c_t01"}


def clear(folder):
    for part in folder.iterdir():
        for path in sorted(part.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and SIGKILL")
def test_killed_before_any_write_a_second_run_ends_alike(tmp_path, nnunet_folders, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: None)  # slow, and of no account here
    monkeypatch.setattr(build, "SAVE_SECONDS", 0.0)
    inputs(tmp_path / "in")
    stock, count = os.replace, 0

    def replace(*paths, fatal=None):
        nonlocal count
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        stock(*paths)

    monkeypatch.setattr(os, "replace", replace)
    make(tmp_path / "in")
    expected, writes = {name: data for name, (data, _) in tree(nnunet_folders).items()}, count
    assert writes > 10
    for fatal in range(writes):
        clear(nnunet_folders)
        child = os.fork()
        if child == 0:
            count = 0
            os.replace = partial(replace, fatal=fatal)
            make(tmp_path / "in")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        make(tmp_path / "in")
        assert {name: data for name, (data, _) in tree(nnunet_folders).items()} == expected, fatal
