"""NaN and missing ends of NIfTI files, which SimpleITK does not report."""

import gzip
import struct

import numpy as np
import pytest

from nnunet_xlstm.data.nifti_file import bad_voxels_per_frame

from .image_files import cine, write


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_counts_per_frame(tmp_path, ending):
    frames = cine(3)
    frames[1, 0, 0, :2] = np.nan, np.inf
    frames[2, -1, -1, -1] = -np.inf
    path = write(tmp_path / f"a{ending}", frames, isVector=False)
    assert bad_voxels_per_frame(path) == [0, 2, 1]
    whole = write(tmp_path / f"b{ending}", frames[0].astype(np.int16))
    assert bad_voxels_per_frame(whole) == [0]
    for file in (path, whole):
        data = gzip.decompress(file.read_bytes()) if ending.endswith("gz") else file.read_bytes()
        file.write_bytes(gzip.compress(data[:-1]) if ending.endswith("gz") else data[:-1])
        with pytest.raises(ValueError, match="cut off"):
            bad_voxels_per_frame(file)


@pytest.mark.parametrize("order", "<>")
def test_nifti_2_by_hand(tmp_path, order):
    header = bytearray(540 + 4)
    struct.pack_into(f"{order}i", header, 0, 540)
    struct.pack_into(f"{order}2h", header, 12, 64, 64)
    struct.pack_into(f"{order}8q", header, 16, 3, 2, 2, 2, 1, 1, 1, 1)
    struct.pack_into(f"{order}q", header, 168, 544)
    values = np.array([0, 1, np.nan, 3, 4, 5, 6, np.inf], f"{order}f8")
    (tmp_path / "a.nii").write_bytes(bytes(header) + values.tobytes())
    assert bad_voxels_per_frame(tmp_path / "a.nii") == [2]


def test_damaged_files(tmp_path):
    path = write(tmp_path / "a.nii.gz")
    data = path.read_bytes()
    for damaged in (data[:-20], data[:500] + b"xxxx" + data[504:], b"", b"x" * 400, gzip.compress(b"short")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError):
            bad_voxels_per_frame(path)
