"""Voxels of NIfTI files: decoded as the standard says, and nothing of a damaged file is believed."""

import gzip
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from support.image_files import cine, write

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.images import read_image
from nnunet_xlstm.imaging.nifti import check_whole, iterate_slices, read_header, read_voxels

TYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]


def packed(path, change):
    """Changes the unzipped bytes of a file, zipped or not."""
    zipped = path.name.endswith(".gz")
    data = change(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
    path.write_bytes(gzip.compress(data) if zipped else data)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".hdr"])
def test_voxels_are_those_that_simpleitk_reads(tmp_path, kind, ending):
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(kind)
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    voxels = read_voxels(path, read_header(path))
    assert voxels.dtype == kind and np.array_equal(voxels, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    slices = list(iterate_slices(path, read_header(path)))
    assert np.array_equal(np.stack(slices), array)


@pytest.mark.parametrize("order", "<>")
def test_nifti_2_by_hand(tmp_path, order):
    header = bytearray(540 + 4)
    struct.pack_into(f"{order}i", header, 0, 540)
    struct.pack_into(f"{order}2h", header, 12, 64, 64)
    struct.pack_into(f"{order}8q", header, 16, 3, 2, 2, 2, 1, 1, 1, 1)
    struct.pack_into(f"{order}4d", header, 104, 1, 1, 2, 3)
    struct.pack_into(f"{order}q", header, 168, 544)
    values = np.array([0, 1, np.nan, 3, 4, 5, 6, np.inf], f"{order}f8")
    (tmp_path / "a.nii").write_bytes(bytes(header) + values.tobytes())
    voxels = read_voxels(tmp_path / "a.nii", read_header(tmp_path / "a.nii"))
    assert voxels.dtype.isnative
    np.testing.assert_array_equal(voxels.ravel(), [0, 1, np.nan, 3, 4, 5, 6, np.inf])


def test_scaled_integers_are_as_nibabel_and_simpleitk_read_them(tmp_path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "a.nii.gz")
    ours = read_voxels(tmp_path / "a.nii.gz", read_header(tmp_path / "a.nii.gz"))
    assert ours.dtype == np.float32
    assert np.array_equal(ours, nibabel.load(tmp_path / "a.nii.gz").get_fdata().T)
    assert np.array_equal(ours, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz"))))


def test_nan_of_every_frame_is_kept(tmp_path):
    """SimpleITK reads NaN of a NIfTI file as 0."""
    frames = cine(3)
    frames[1, 0, 0, :2] = np.nan, np.inf
    path = write(tmp_path / "a.nii.gz", frames, isVector=False)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), frames)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.999, 0.6, 0.2, 0.0])
def test_cut_off_files(tmp_path, ending, share):
    path = write(tmp_path / f"a{ending}")
    check_whole(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for read in (check_whole, read_image):
        with pytest.raises(DatasetError, match=str(path)):
            read(path)
    path.write_bytes(data)
    packed(path, lambda plain: plain[:-1])
    with pytest.raises(DatasetError, match="cut off"):
        check_whole(path)


def test_every_changed_byte_of_the_packed_voxels_is_found(tmp_path):
    path = write(tmp_path / "a.nii.gz")
    data = bytearray(path.read_bytes())
    original = sitk.GetArrayFromImage(read_image(path))
    for position in range(200, len(data), len(data) // 40):
        data[position] ^= 0x55
        path.write_bytes(bytes(data))
        try:
            assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), original), position
        except DatasetError as error:
            assert str(path) in str(error)
        data[position] ^= 0x55


def test_members_and_zeros_after_gzip_data_are_read_as_gzip_does(tmp_path):
    path = write(tmp_path / "a.nii")
    data = path.read_bytes()
    zipped = tmp_path / "b.nii.gz"
    zipped.write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]) + bytes(512))
    assert np.array_equal(read_voxels(zipped, read_header(zipped)), read_voxels(path, read_header(path)))
    zipped.write_bytes(gzip.compress(data) + b"rubbish")
    with pytest.raises(DatasetError, match="damaged"):
        check_whole(zipped)


@pytest.mark.parametrize("edges", [(900, 900, 900), (30000, 30000, 30000), (32767,) * 7])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_claim_that_the_file_cannot_hold_costs_nothing(tmp_path, edges, ending):
    path = write(tmp_path / f"a{ending}")
    packed(path, lambda data: data[:40] + struct.pack("<8h", len(edges), *edges, *[1] * (7 - len(edges))) + data[56:])
    with pytest.raises(DatasetError, match="claims .* cannot hold"):
        read_image(path)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_spacing_that_is_none(tmp_path, value):
    path = write(tmp_path / "a.nii.gz")
    packed(path, lambda data: data[:84] + struct.pack("<f", value) + data[88:])
    for read in (check_whole, read_image):
        with pytest.raises(DatasetError, match="pixdim"):
            read(path)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [(40, struct.pack("<h", 0), "dim = "), (40, struct.pack("<h", 9), "dim = "), (42, struct.pack("<h", -5), "dim = "),
     (72, struct.pack("<h", 7), "bitpix = 7"), (108, struct.pack("<f", np.nan), "vox_offset"),
     (108, struct.pack("<f", -1e30), "vox_offset"), (0, b"abcd", "not a NIfTI")],
)  # fmt: skip
def test_headers_that_make_no_sense(tmp_path, position, value, message):
    path = write(tmp_path / "a.nii")
    packed(path, lambda data: data[:position] + value + data[position + len(value) :])
    with pytest.raises(DatasetError, match=message):
        read_image(path)


def test_a_pair_needs_both_files(tmp_path):
    write(tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(DatasetError, match="no a.img beside it"):
        read_image(tmp_path / "a.hdr")
