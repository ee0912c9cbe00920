"""DICOM series written by the test: volumes, frames, and every reason to leave one out."""

import numpy as np
import pytest
import SimpleITK as sitk
from support.dicom_files import CORONAL, volume, write_series

from nnunet_xlstm.imaging.dicom import find_series, read_series


def only(folder):
    (series,) = find_series(folder)
    return series


def read(folder, modality="CT"):
    return read_series(only(folder).files, modality)


@pytest.mark.parametrize("cosines", [(1, 0, 0, 0, 1, 0), CORONAL])
def test_a_series_is_a_volume(tmp_path, cosines):
    write_series(tmp_path / "a" / "b", volume(), cosines=cosines)
    series = only(tmp_path)
    assert (series.patient, series.modality, series.description) == ("P1", "CT", "1_thorax")
    (image,) = read_series(series.files, "CT")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume())
    assert image.GetSpacing() == pytest.approx((1.5, 1.5, 3.0)) and image.GetOrigin() == pytest.approx((10, 20, 30))
    normal = np.cross(cosines[:3], cosines[3:])
    assert np.array(image.GetDirection()).reshape(3, 3)[:, 2] == pytest.approx(normal)


def test_order_of_file_names_does_not_matter(tmp_path):
    write_series(tmp_path, volume())
    files = sorted(only(tmp_path).files)
    for shuffled in (files[::-1], [files[i] for i in (3, 0, 5, 1, 4, 2)]):
        (image,) = read_series(shuffled, "CT")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume())


def test_two_series_in_one_folder_and_other_files(tmp_path):
    write_series(tmp_path, volume(1), uid=1)
    write_series(tmp_path, volume(2), uid=2, patient="P2")
    (tmp_path / "notes.txt").write_text("nothing")
    assert [s.patient for s in find_series(tmp_path)] == ["P1", "P2"]
    arrays = [sitk.GetArrayFromImage(read_series(s.files, "CT")[0]) for s in find_series(tmp_path)]
    np.testing.assert_array_equal(arrays, [volume(1), volume(2)])


def test_cine_becomes_frames_in_the_order_of_time(tmp_path):
    frames = [volume(seed) for seed in range(3)]
    for t in (2, 0, 1):
        write_series(tmp_path, frames[t], start=100 * t, modality="MR", tags=lambda z, t=t: {"0018|1060": f"{40 * t}"})
    images = read(tmp_path, "MR")
    np.testing.assert_array_equal([sitk.GetArrayFromImage(i) for i in images], frames)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skip": (2,)}, "missing slices: 1 of a spacing of 3 mm, the first after 33 mm"),
        ({"skip": (2, 3)}, "missing slices: 2"),
        ({"modality": "MR"}, "its modality is MR, not CT"),
        ({"tags": lambda z: {"0020|0032": f"0\\0\\{3 * z + (z == 3)}"}}, "uneven gaps"),
        ({"tags": lambda z: {"0020|0032": f"0\\{z}\\{3 * z}"}}, "leans by 1 mm per slice"),
        ({"tags": lambda z: {"0020|0032": "0\\0\\0"}}, "all slices at one position"),
        ({"tags": lambda z: {"0020|0037": "1\\0\\0\\0\\0\\-1"} if z > 3 else {}}, "mixed orientation"),
    ],
)
def test_reasons(tmp_path, options, words):
    write_series(tmp_path, volume(), **options)
    with pytest.raises(ValueError, match=words):
        read(tmp_path)


def test_mixed_sizes_incomplete_frames_and_doubled_slices(tmp_path):
    write_series(tmp_path / "size", volume(shape=(3, 12, 14)))
    write_series(tmp_path / "size", volume(shape=(6, 10, 14)), skip=(0, 1, 2))
    write_series(tmp_path / "frames", volume(1), tags=lambda z: {"0018|1060": "0"})
    write_series(tmp_path / "frames", volume(2), start=50, skip=(4,), tags=lambda z: {"0018|1060": "40"})
    write_series(tmp_path / "double", volume(1), tags=lambda z: {"0018|1060": "0"})
    write_series(tmp_path / "double", volume(2), start=50, tags=lambda z: {"0018|1060": "0"})
    for name, words in (
        ("size", "mixed sizes"),
        ("frames", "between 1 and 2 slices at one position"),
        ("double", "no time that tells them apart"),
    ):
        with pytest.raises(ValueError, match=words):
            read(tmp_path / name)


def test_a_single_slice_is_no_volume(tmp_path):
    write_series(tmp_path, volume(shape=(1, 12, 14)))
    with pytest.raises(ValueError, match="a single slice"):
        read(tmp_path)
