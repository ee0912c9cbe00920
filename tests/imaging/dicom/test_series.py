"""DICOM series written by the test: volumes, frames, stacks, and every reason to leave one out."""

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.uid import RLELossless
from support.dicom_files import CORONAL, save, volume, write_enhanced, write_series

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.elements import is_dicom
from nnunet_xlstm.imaging.dicom.series import find_series, pixel_reader, plan_series, read_volume


def series_in(folder):
    return find_series(sorted(path for path in folder.rglob("*") if path.suffix == ".dcm"))


def only(folder):
    ((series,), left_out) = series_in(folder)
    assert not left_out
    return series


def plan(folder, modality="CT"):
    """The stacks of the only series."""
    return plan_series(only(folder).files, modality)[0]


def read(folder, modality="CT"):
    """Images of each stack, in the order of time."""
    stacks = plan(folder, modality)
    reader = pixel_reader(stacks)
    return [[read_volume(frame, reader) for frame in stack.frames] for stack in stacks]


def arrays(images):
    return [sitk.GetArrayFromImage(image) for image in images]


def reasons(folder, modality="CT"):
    return [stack.reason for stack in plan(folder, modality)]


@pytest.mark.parametrize("cosines", [(1, 0, 0, 0, 1, 0), CORONAL])
def test_a_series_is_a_volume(tmp_path, cosines):
    write_series(tmp_path / "a" / "b", volume(), cosines=cosines)
    series = only(tmp_path)
    assert (series.patient, series.description, series.folder) == ("P1", "1_thorax", tmp_path / "a" / "b")
    (((image,),), normal) = read(tmp_path), np.cross(cosines[:3], cosines[3:])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume())
    assert image.GetSpacing() == pytest.approx((1.5, 1.5, 3.0)) and image.GetOrigin() == pytest.approx((10, 20, 30))
    assert np.array(image.GetDirection()).reshape(3, 3)[:, 2] == pytest.approx(normal)


def test_a_volume_equals_that_of_simpleitk(tmp_path):
    oblique = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0][:, :2].T.ravel()
    write_series(tmp_path, volume(), cosines=oblique.round(6))
    ((image,),) = read(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    expected = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(expected))
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, get)() == pytest.approx(getattr(expected, get)(), abs=1e-5)


def test_order_of_file_names_does_not_matter(tmp_path):
    write_series(tmp_path, volume())
    files = sorted(only(tmp_path).files)
    for shuffled in (files[::-1], [files[i] for i in (3, 0, 5, 1, 4, 2)]):
        (stack,), _ = plan_series(shuffled, "CT")
        image = read_volume(stack.frames[0], pixel_reader([stack]))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume())


def test_two_series_in_one_folder_and_one_series_in_several(tmp_path):
    write_series(tmp_path / "a", volume(1), uid=1)
    write_series(tmp_path / "a", volume(2), uid=2, patient="P2")
    for z in range(6):
        write_series(tmp_path / "b" / f"image{z}", volume(3), uid=3, skip=set(range(6)) - {z})
    found, _ = series_in(tmp_path)
    assert [s.patient for s in found] == ["P1", "P2", "P1"] and found[2].folder == tmp_path / "b"
    for series, seed in zip(found, (1, 2, 3), strict=True):
        (stack,), _ = plan_series(series.files, "CT")
        np.testing.assert_array_equal(arrays([read_volume(stack.frames[0], pixel_reader([stack]))]), [volume(seed)])


def test_old_files_without_preamble_are_dicom(tmp_path):
    write_series(tmp_path, volume())
    for file in tmp_path.glob("*.dcm"):
        dataset = dcmread(file)
        del dataset.file_meta
        dataset.preamble = None
        dataset.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[:2] == b"\x08\0" and is_dicom(file)
    np.testing.assert_array_equal(arrays(read(tmp_path)[0]), [volume()])
    (tmp_path / "text").write_bytes(b"no DICOM " * 40)
    (tmp_path / "short").write_bytes(b"\x08\0")
    assert not any(is_dicom(tmp_path / name) for name in ("text", "short", "missing"))


def test_equal_uids_of_two_people_stay_apart(tmp_path):
    write_series(tmp_path / "a", volume(1))
    write_series(tmp_path / "b", volume(2), patient="P2")
    assert [s.patient for s in series_in(tmp_path)[0]] == ["P1", "P2"]


# Time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags",
    [
        lambda t: {"TriggerTime": 40 * t},
        lambda t: {"AcquisitionTime": f"1200{t:02d}.25"},
        lambda t: {"ContentDate": f"2024010{1 + t}", "ContentTime": f"{12 - t}0000"},  # past midnight
        lambda t: {"AcquisitionDateTime": f"20240101120000.00000{t}+0100"},
    ],
)
def test_cine_becomes_frames_in_the_order_of_time(tmp_path, tags):
    frames = [volume(seed) for seed in range(3)]
    for t in (2, 0, 1):
        write_series(tmp_path, frames[t], start=100 * t, modality="MR", tags=lambda z, t=t: tags(t))
    (images,) = read(tmp_path, "MR")
    np.testing.assert_array_equal(arrays(images), frames)


def test_a_long_axis_cine_is_a_sequence_of_single_slices(tmp_path):
    frames = volume(shape=(10, 12, 14))
    for t in range(10):
        tags = {"TriggerTime": 30.5 * t}
        write_series(tmp_path, frames[t : t + 1], start=t, modality="MR", cosines=CORONAL, tags=lambda z, t=tags: t)
    (images,) = read(tmp_path, "MR")
    np.testing.assert_array_equal(arrays(images), frames[:, None])
    assert {image.GetSpacing() for image in images} == {(1.5, 1.5, 1.5)}  # no thickness: that of a pixel
    (stack,) = plan(tmp_path, "MR")
    assert stack.frames[3][0].tags == {
        "Modality": "MR", "SeriesDescription": "thorax", "ImageOrientationPatient": "1.0\\0.0\\0.0\\0.0\\0.0\\-1.0",
        "TriggerTime": "91.5",
    }  # fmt: skip


def test_a_single_slice_is_as_thick_as_its_file_says(tmp_path):
    write_series(tmp_path, volume(shape=(1, 12, 14)), tags=lambda z: {"SliceThickness": 8})
    ((image,),) = read(tmp_path)
    assert image.GetSize() == (14, 12, 1) and image.GetSpacing() == (1.5, 1.5, 8.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume(shape=(1, 12, 14)))


def test_images_of_one_place_without_time_are_stacks(tmp_path):
    for i, inversion in enumerate((100, 180, 2500)):
        tags = {"InversionTime": inversion, "TriggerTime": 300 + i}
        write_series(tmp_path / "molli", volume(i, (1, 12, 14)), start=i, modality="MR", tags=lambda z, t=tags: t)
        write_series(tmp_path / "unknown", volume(i, (1, 12, 14)), start=i, modality="MR", uid=2)
    for name in ("molli", "unknown"):
        images = [image for (image,) in read(tmp_path / name, "MR")]
        np.testing.assert_array_equal(arrays(images), [volume(i, (1, 12, 14)) for i in range(3)])
    assert [s.frames[0][0].tags["InversionTime"] for s in plan(tmp_path / "molli", "MR")] == [
        "100.0",
        "180.0",
        "2500.0",
    ]


def test_echoes_and_phase_images_are_stacks_of_their_own(tmp_path):
    """Each of 2 echoes and 3 times has a magnitude; a phase image has one time alone."""
    for echo in range(2):
        for t in range(3):
            tags = {"EchoTime": 1.5 + echo, "TriggerTime": t, "ImageType": ["ORIGINAL", "PRIMARY", "M"]}
            number = 100 * echo + 10 * t
            write_series(tmp_path, volume(10 * echo + t), start=number, modality="MR", tags=lambda z, tags=tags: tags)
    tags = {"EchoTime": 1.5, "TriggerTime": 0, "ImageType": ["ORIGINAL", "PRIMARY", "P"]}
    write_series(tmp_path, volume(30), start=500, modality="MR", tags=lambda z: tags)
    found = [arrays(images) for images in read(tmp_path, "MR")]
    expected = [[volume(10 * echo + t) for t in range(3)] for echo in range(2)] + [[volume(30)]]
    assert [len(images) for images in found] == [3, 3, 1]
    for images, volumes in zip(found, expected, strict=True):
        np.testing.assert_array_equal(images, volumes)


# Orientation, size ----------------------------------------------------------------------------------------------------


def test_a_localizer_is_taken_slice_by_slice(tmp_path):
    """Its slices are no volume: three orientations, and uneven gaps."""
    kind = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    for i, cosines in enumerate(((1, 0, 0, 0, 1, 0), CORONAL, (0, 1, 0, 0, 0, -1))):
        write_series(
            tmp_path, volume(i), start=10 * i, cosines=cosines, modality="MR", skip=(0, 2, 3), tags=lambda z: kind
        )
    images = [image for (image,) in read(tmp_path, "MR")]
    assert len(images) == 9 and all(image.GetSize() == (14, 12, 1) for image in images)
    np.testing.assert_array_equal(arrays(images)[4], volume(1)[4:5])


def test_several_stacks_in_one_series(tmp_path):
    write_series(tmp_path, volume(1))
    write_series(tmp_path, volume(2), start=20, cosines=CORONAL)
    write_series(tmp_path, volume(3, (4, 20, 16)), start=40)
    found = [arrays(images) for images in read(tmp_path)]
    for images, expected in zip(found, (volume(1), volume(2), volume(3, (4, 20, 16))), strict=True):
        np.testing.assert_array_equal(images, [expected])


def test_a_scout_of_a_ct_is_left_out(tmp_path):
    write_series(
        tmp_path, volume(shape=(1, 12, 14)), tags=lambda z: {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    )
    assert "a scout" in reasons(tmp_path)[0]


def test_a_slight_tilt_is_taken_and_more_is_told_with_its_angle(tmp_path):
    """6 slices of 3 mm: the last lies 15 mm above the first. Half a pixel is 0.75 mm."""
    for name, aside in (("slight", 0.1), ("tilt", 0.2)):
        tags = lambda z, a=aside: {"ImagePositionPatient": [0, a * z, 3 * z]}  # noqa: E731
        write_series(tmp_path / name, volume(), tags=tags)
    assert reasons(tmp_path / "slight") == [""]
    assert "a gantry tilt of 3.8 degrees: a slice lies 1 mm beside" in reasons(tmp_path / "tilt")[0]


# What is left out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skip": (2,)}, "missing slices: 1 of a spacing of 3 mm, the first after 33 mm"),
        ({"skip": (2, 3)}, "missing slices: 2"),
        ({"tags": lambda z: {"ImagePositionPatient": [0, 0, 3 * z + (z == 3)]}}, "uneven gaps"),
        ({"tags": lambda z: {"ImagePositionPatient": [40 * (z % 2), 0, 3 * (z // 2)]}}, "side by side"),
    ],
)
def test_reasons_of_a_stack(tmp_path, options, words):
    write_series(tmp_path, volume(), **options)
    assert words in reasons(tmp_path)[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modality": "MR"}, "its modality is MR, not CT"),
        ({"tags": lambda z: {"ImagePositionPatient": None}}, r"has no position .* \(5 more files"),
        ({"tags": lambda z: {"ImageOrientationPatient": [0.0] * 6}}, "no position or orientation"),
        ({"tags": lambda z: {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}}, "no position or orientation"),
        ({"tags": lambda z: {"PixelSpacing": None}}, "no usable PixelSpacing"),
        ({"tags": lambda z: {"PixelSpacing": [0, 1.5]}}, "no usable PixelSpacing"),
        ({"tags": lambda z: {"SamplesPerPixel": 3}}, "colour"),
        ({"tags": lambda z: {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}}, "mosaic.*dcm2niix"),
    ],
)
def test_reasons_of_a_series(tmp_path, options, words):
    write_series(tmp_path, volume(), **options)
    with pytest.raises(DatasetError, match=words):
        plan(tmp_path)


def test_a_doubled_slice_is_not_called_missing(tmp_path):
    write_series(tmp_path, volume(1))
    write_series(tmp_path, volume(1)[2:3], start=50, tags=lambda z: {"ImagePositionPatient": [10, 20, 36]})
    assert "a slice that is there twice: 2 at 36 mm along the normal (s1_002.dcm, s1_050.dcm)" in reasons(tmp_path)[0]


def test_incomplete_frames_and_doubled_stacks(tmp_path):
    write_series(tmp_path / "frames", volume(1), tags=lambda z: {"TriggerTime": 0})
    write_series(tmp_path / "frames", volume(2), start=50, skip=(4,), tags=lambda z: {"TriggerTime": 40})
    write_series(tmp_path / "double", volume(1), tags=lambda z: {"TriggerTime": 0})
    write_series(tmp_path / "double", volume(2), start=50, tags=lambda z: {"TriggerTime": 0})
    assert "missing slices: 1 at 42 mm along the normal, 2 elsewhere" in reasons(tmp_path / "frames")[0]
    assert "2 slices at one position (s1_000.dcm, s1_050.dcm), and no time" in reasons(tmp_path / "double")[0]


def test_a_copy_counts_once(tmp_path):
    write_series(tmp_path / "a", volume(1))
    write_series(tmp_path / "b", volume(1), skip=(0, 1, 2, 3))
    (stack,), left_out = plan_series(only(tmp_path).files, "CT")
    assert len(stack.frames[0]) == 6
    assert left_out == [(str(tmp_path / "b" / f"s1_00{z}.dcm"), "a copy of another file of its series") for z in (4, 5)]


def test_damaged_files_are_named(tmp_path):
    write_series(tmp_path, volume(1, (6, 40, 44)))
    files = sorted(tmp_path.glob("*.dcm"))
    whole = files[2].read_bytes()
    packed = dcmread(files[2])
    packed.compress(RLELossless)
    save(packed, files[2])
    np.testing.assert_array_equal(arrays(read(tmp_path)[0])[0], volume(1, (6, 40, 44)))
    for data in (files[2].read_bytes()[:-200], whole[:-200]):
        files[2].write_bytes(data)
        (stack,), left_out = plan_series(only(tmp_path).files, "CT")
        assert [file for file, reason in left_out] == [str(files[2])] and "missing slices: 1" in stack.reason
    files[2].write_bytes(whole[:400])  # within the header
    assert [file for file, _ in series_in(tmp_path)[1]] == [str(files[2])]


def test_a_file_that_claims_much_is_refused_before_it_takes_memory(tmp_path):
    """A text of 1.5 GB in a file of 1 kB."""
    write_series(tmp_path, volume(shape=(1, 12, 14)), tags=lambda z: {"StudyDescription": "abcd"})
    (file,) = tmp_path.glob("*.dcm")
    data, text = file.read_bytes(), b"LO\4\0abcd"
    assert data.count(text) == 1
    file.write_bytes(data.replace(text, b"UT\0\0" + (1500_000_000).to_bytes(4, "little")))
    with pytest.raises(DatasetError, match="ends beyond the file"):
        plan_series([str(file)], "CT")


def test_spoiled_files_end_in_errors_for_users(tmp_path):
    frames = [place(z % 3) | {"TemporalPositionIndex": z // 3 + 1} for z in range(6)]
    write_enhanced(tmp_path / "seed.dcm", volume(), frames)
    write_series(tmp_path, volume(shape=(1, 12, 14)), modality="MR")
    seeds = [file.read_bytes() for file in tmp_path.glob("*.dcm")]
    rng, file = np.random.default_rng(0), tmp_path / "spoiled.dcm"
    outcomes = set()
    for i in range(150):
        data = bytearray(seeds[i % 2])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(132, len(data) - 340))
            data[at : at + int(rng.integers(0, 5))] = rng.bytes(int(rng.integers(0, 5)))
        file.write_bytes(data)
        try:
            stacks, _ = plan_series([str(file)], "MR")
            [read_volume(frame, pixel_reader(stacks)) for stack in stacks for frame in stack.frames]
            outcomes.add("read")
        except DatasetError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_files_without_image_are_listed_and_directories_are_not(tmp_path):
    write_series(tmp_path, volume(shape=(2, 12, 14)))
    first, second = sorted(tmp_path.glob("*.dcm"))
    for file, elements in ((first, {"Modality": "RTSTRUCT"}), (second, {"SOPClassUID": "1.2.840.10008.1.3.10"})):
        dataset = dcmread(file)
        del dataset.Rows, dataset.PixelData
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        save(dataset, file)
    assert series_in(tmp_path) == ([], [(str(first), "holds no image (modality RTSTRUCT)")])


# Enhanced multi-frame -------------------------------------------------------------------------------------------------


def place(z, y=0):
    return {"ImagePositionPatient": [0.0, float(y), 3.0 * z]}


def test_enhanced_one_time_is_a_volume_in_any_order_of_frames(tmp_path):
    order = [3, 0, 5, 1, 4, 2]
    write_enhanced(tmp_path / "e.dcm", volume()[order], [place(z) for z in order])
    ((image,),) = read(tmp_path, "MR")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume())
    assert image.GetSpacing() == (1.5, 1.5, 3.0) and image.GetOrigin() == (0, 0, 0)


@pytest.mark.parametrize("keyword", ["TemporalPositionIndex", "NominalCardiacTriggerDelayTime"])
def test_enhanced_several_times_are_frames(tmp_path, keyword):
    """3 times x 6 slices: not a stack of 18."""
    frames = [place(z) | {keyword: 3 - t} for z in range(6) for t in range(3)]
    array = np.stack([volume(2 - t)[z] for z in range(6) for t in range(3)])
    write_enhanced(tmp_path / "e.dcm", array, frames)
    (images,) = read(tmp_path, "MR")
    np.testing.assert_array_equal(arrays(images), [volume(0), volume(1), volume(2)])


def test_enhanced_one_file_for_each_time(tmp_path):
    for t in range(3):
        frames = [place(z) | {"TemporalPositionIndex": t + 1} for z in range(6)]
        write_enhanced(tmp_path / f"{t}.dcm", volume(t), frames, SOPInstanceUID=f"1.2.3.{t}", InstanceNumber=t)
    (images,) = read(tmp_path, "MR")
    np.testing.assert_array_equal(arrays(images), [volume(t) for t in range(3)])


def test_enhanced_frames_have_orientation_tags_and_stacks_of_their_own(tmp_path):
    coronal = {
        "ImageOrientationPatient": [float(v) for v in CORONAL],
        "EffectiveEchoTime": 2.5,
        "InversionTimes": [300],
    }
    frames = [place(z) | {"EffectiveEchoTime": 1.5} for z in range(6)] + [
        {"ImagePositionPatient": [0.0, 3.0 * y, 0.0]} | coronal for y in range(6)
    ]
    write_enhanced(tmp_path / "e.dcm", np.concatenate([volume(0), volume(1)]), frames)
    first, second = plan(tmp_path, "MR")
    assert first.frames[0][0].tags["EchoTime"] == "1.5" and "InversionTime" not in first.frames[0][0].tags
    assert second.frames[0][0].tags["EchoTime"] == "2.5" and second.frames[0][0].tags["InversionTime"] == "300.0"
    (axial,), (other,) = read(tmp_path, "MR")
    np.testing.assert_array_equal(arrays([axial, other]), [volume(0), volume(1)])
    assert other.GetDirection() == (1, 0, 0, 0, 0, 1, 0, -1, 0)


def test_enhanced_parallel_stacks_are_told_by_their_id(tmp_path):
    frames = [place(z + 20 * stack) | {"StackID": str(stack)} for stack in range(2) for z in range(6)]
    write_enhanced(tmp_path / "e.dcm", np.concatenate([volume(0), volume(1)]), frames)
    np.testing.assert_array_equal([arrays(images)[0] for images in read(tmp_path, "MR")], [volume(0), volume(1)])


def test_enhanced_frames_keep_their_own_slope(tmp_path):
    """GDCM gives every frame the slope of the first."""
    frames = [place(z) | {"RescaleSlope": 0.5 * (z + 1), "RescaleIntercept": float(z)} for z in range(6)]
    write_enhanced(tmp_path / "e.dcm", volume(), frames)
    ((image,),) = read(tmp_path, "MR")
    z = np.arange(6)[:, None, None]
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), volume() * 0.5 * (z + 1) + z, rtol=1e-6)


def test_enhanced_without_places_is_refused(tmp_path):
    write_enhanced(tmp_path / "e.dcm", volume(), [place(z) for z in range(4)])
    with pytest.raises(DatasetError, match="6 frames, and the places of 4"):
        plan(tmp_path, "MR")
    write_enhanced(tmp_path / "e.dcm", volume(), [{} for _ in range(6)])
    with pytest.raises(DatasetError, match="no position"):
        plan(tmp_path, "MR")


# People ---------------------------------------------------------------------------------------------------------------


def raw_patient(path, data, charset):
    """Write a PatientID as these bytes."""
    placeholder = "X" * len(data)
    write_series(path.parent, volume(shape=(1, 12, 14)), patient=placeholder, uid=int(path.stem))
    file = path.parent / f"s{path.stem}_000.dcm"
    dataset = dcmread(file)
    if charset is not None:
        dataset.SpecificCharacterSet = charset
    save(dataset, file)
    content = file.read_bytes()
    assert content.count(placeholder.encode()) == 1
    file.write_bytes(content.replace(placeholder.encode(), data))


@pytest.mark.parametrize(
    ("charset", "data", "expected"),
    [
        ("ISO_IR 100", "Pä3 ".encode("latin-1"), "Pä3"),
        ("ISO_IR 192", "Pä3 ".encode() + b" ", "Pä3"),
        (None, "Pä3 ".encode("latin-1"), "Pä3"),  # not said
        ("ISO_IR 192", "Pä3 ".encode("latin-1"), "Pä3"),  # wrongly said
        ("ISO_IR 109", "P\u01263 ".encode("iso8859-3"), "P\u01263"),
        ("ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
    ],
)
def test_people_with_other_letters_stay_apart(tmp_path, charset, data, expected):
    raw_patient(tmp_path / "1", data, charset)
    assert only(tmp_path).patient == expected


def test_undecodable_people_do_not_merge(tmp_path):
    raw_patient(tmp_path / "1", b"P\xe43 ", "ISO_IR 192")
    raw_patient(tmp_path / "2", b"P\xf63 ", "ISO_IR 192")
    assert [series.patient for series in series_in(tmp_path)[0]] == ["Pä3", "Pö3"]


def test_without_a_person_the_study_tells_the_subject(tmp_path):
    write_series(tmp_path, volume(shape=(2, 12, 14)), patient="")
    write_series(tmp_path, volume(shape=(2, 12, 14)), patient=None, uid=2)
    found, _ = series_in(tmp_path)
    assert len({series.patient for series in found} - {""}) == 1 and not any(series.has_patient for series in found)
