"""The one reader and the one writer of images."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from support.image_files import body_image, write
from support.small_disk import resize

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.grid import Grid, check_same_grid
from nnunet_xlstm.imaging.images import read_grid, read_image, read_label_map
from nnunet_xlstm.imaging.write import write_image
from nnunet_xlstm.io.write import WriteError


def labels(path, array):
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def sheared(path, array=None, shear=0.02, spacing=(2.0, 1.5, 3.0)):
    """A NIfTI file whose axes are not at right angles; array (x, y, z)."""
    affine = np.diag([*spacing, 1.0])
    affine[0, 1] = shear * spacing[1]
    affine[:3, 3] = 5, -7, 11
    array = body_image().T if array is None else array
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_zooms(spacing)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    ("values", "expected"), [([0, 3], np.uint8), ([0, 300], np.uint16), ([-1, 3], np.int16), ([0, 70000], np.uint32)]
)
def test_whole_numbers_in_a_float_file_are_labels(tmp_path, kind, ending, values, expected):
    array = np.zeros((2, 3, 4), kind)
    array[1, 1, 1:3] = values
    read = sitk.GetArrayFromImage(read_label_map(labels(tmp_path / f"a{ending}", array)))
    assert read.dtype == expected and np.array_equal(read, array)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    ("value", "message"),
    [(0.5, "0.5, which is no whole number"), (1 + 1e-6, "1.00000"), (np.nan, "holds NaN"), (np.inf, "infinite"),
     (1e12, "beyond 2")],
)  # fmt: skip
def test_other_values_are_errors(tmp_path, ending, value, message):
    array = np.zeros((2, 3, 4), np.float32)
    array[1, 1, 1] = value
    with pytest.raises(DatasetError, match=message):
        read_label_map(labels(tmp_path / f"a{ending}", array))


def test_axes_not_at_right_angles_are_read_as_nnunet_reads_them(tmp_path):
    from nnunetv2.imageio.nibabel_reader_writer import NibabelIO

    path = sheared(tmp_path / "a.nii.gz")
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    image = read_image(path)
    array, properties = NibabelIO().read_images([str(path)])
    assert np.array_equal(sitk.GetArrayFromImage(image), array[0])
    assert list(image.GetSpacing())[::-1] == pytest.approx(properties["spacing"])
    # the far corner lies where the affine puts it, x and y to the left and back instead of right and front
    corner = np.array(image.GetSize()) - 1
    place = nibabel.affines.apply_affine(nibabel.load(path).affine, corner) * [-1, -1, 1]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(corner.tolist()), place, atol=1e-3)
    check_same_grid(image, read_grid(path))


def test_written_axes_can_be_read_by_simpleitk(tmp_path):
    image = read_image(sheared(tmp_path / "a.nii.gz"))
    write_image(image, tmp_path / "b.nii.gz")
    again = sitk.ReadImage(str(tmp_path / "b.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(image))
    assert again.GetSpacing() == pytest.approx(image.GetSpacing())


def test_orthonormal_geometry_is_simpleitks(tmp_path):
    image = sitk.GetImageFromArray(body_image())
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-12.5, 33.25, 1.0))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    image.SetDirection((turn * np.sign(np.linalg.det(turn))).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    theirs = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert Grid.of(read_image(tmp_path / "a.nii.gz")) == Grid.of(theirs) == read_grid(tmp_path / "a.nii.gz")


def test_an_affine_of_nan_is_refused_without_noise(tmp_path, capfd):
    affine = np.eye(4)
    affine[0, 3] = np.nan
    path = write(tmp_path / "a.nii")
    data = bytearray(path.read_bytes())
    data[252:256] = b"\0\0\1\0"  # sform alone
    data[280:284] = np.float32(np.nan).tobytes()
    path.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match="geometry is not usable|axes|SimpleITK"):
        read_image(path)
    assert len(capfd.readouterr().err.splitlines()) <= 1


def test_a_full_disk_leaves_the_old_file(disk):
    """ITK raises nothing when it writes NIfTI to a full disk."""
    resize(disk, 100 << 10)
    small = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.uint8))
    large = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (64, 64, 64), np.uint8))
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha"):
        write_image(small, disk / f"a{ending}")
        with pytest.raises(WriteError, match=f"a{ending}: cannot be written .*No space left.*make room"):
            write_image(large, disk / f"a{ending}")
        assert [path.name for path in disk.iterdir()] == [f"a{ending}"]
        assert read_image(disk / f"a{ending}").GetSize() == (4, 4, 4)
        (disk / f"a{ending}").unlink()


def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file/a.nii.gz: cannot be written"):
        write_image(sitk.GetImageFromArray(np.zeros((4, 4, 4), np.uint8)), tmp_path / "file" / "a.nii.gz")


@pytest.mark.parametrize(
    "content", ['{"spacing": [1, 2]}', '{"spacing": [1, 2, NaN]}', "[]", '{"spacing": "abc"}', "{"]
)
def test_a_tiff_with_a_wrong_spacing(tmp_path, content):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8)), str(tmp_path / "a.tif"))
    with pytest.raises(DatasetError, match="spacing"):
        read_image(tmp_path / "a.tif")
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DatasetError, match="a.json"):
        read_image(tmp_path / "a.tif")
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3, 2, 1]}))
    assert read_image(tmp_path / "a.tif").GetSpacing() == (1, 2, 3)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_said(tmp_path):
    """SimpleITK ends the whole process for it."""
    made = write(tmp_path / "a.nii.gz", np.zeros((2, 4, 4), np.uint8))
    for name in (b"\xff.nii.gz", b"\xff.gipl.gz"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        try:
            path.write_bytes(made.read_bytes())
        except OSError:
            pytest.skip("this file system takes UTF-8 alone")
        for call in (read_grid, lambda p: write_image(read_image(made), p)):
            with pytest.raises(DatasetError, match=r"\\udcff.*its name is not UTF-8"):
                call(path)


def test_axes_in_one_plane_are_no_geometry(tmp_path):
    """ITK refuses a direction of determinant 0, with an error of its own; found by the fuzz test."""
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), None)
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    for i, row in enumerate(((0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 2, 0))):
        image.header[f"srow_{'xyz'[i]}"] = row
    (tmp_path / "flat.nii").write_bytes(image.header.binaryblock + bytes(4) + bytes(60))
    with pytest.raises(DatasetError, match="geometry is not usable"):
        read_image(tmp_path / "flat.nii")
