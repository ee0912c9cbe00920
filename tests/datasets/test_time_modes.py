"""`unlabelled --time`: sequences as frames, with time as an axis, or with frames as channels."""

import csv
import json
import os

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from support.dicom_files import volume, write_series
from support.image_files import body_image, cine, tree, write

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.datasets.case_index import read_pool_cases
from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.datasets.time_modes import TimeMode, choose_frames, time_spacing
from nnunet_xlstm.datasets.unlabelled import make_unlabelled
from nnunet_xlstm.errors import ConfigError, DatasetError

AXIS, CHANNELS = TimeMode.of("axis"), TimeMode.of("channels")


def make(*inputs, modality="MR", number=7, **options):
    return make_unlabelled([*inputs], modality, number, **options)


def cases(dataset):
    """Case -> its images and its label map, as SimpleITK reads them."""
    table = json.loads((dataset.folder / "dataset.json").read_text())["dataset"]
    return {
        case: [sitk.ReadImage(str(dataset.folder / name)) for name in (*row["images"], row["label"])]
        for case, row in table.items()
    }


def facts(dataset, name="dataset.json"):
    return json.loads((dataset.folder / name).read_text())


def excluded(dataset):
    table = list(csv.reader((dataset.folder / "excluded.csv").read_text().splitlines()))
    return {os.path.basename(path): reason for path, reason in table[1:]}


def long_axis(frames=4):
    """(t, z = 1, y, x)"""
    return cine(frames)[:, 4:5]


def write_cine(path, array, step, units="msec"):
    """A 4D file (t, z, y, x) that says its frames' interval."""
    image = nibabel.Nifti1Image(array.T.copy(), np.diag([1.5, 1.5, 8, 1]))
    image.header.set_zooms((1.5, 1.5, 8, step))
    image.header.set_xyzt_units("mm", units)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


# Rules ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "n", "chosen"),
    [(20, 3, [0, 6, 13]), (4, 4, [0, 1, 2, 3]), (5, 2, [0, 2]), (30, 5, [0, 6, 12, 18, 24])],
)
def test_chosen_frames_are_even_over_the_cycle(frames, n, chosen):
    assert choose_frames(frames, n) == chosen
    gaps = np.diff([*chosen, frames])  # the last one to the next cycle's first
    assert gaps.max() - gaps.min() <= 1


def test_a_sequence_that_is_too_short_is_refused():
    with pytest.raises(DatasetError, match="2 frames; --n-frames asks for 3"):
        choose_frames(2, 3)


@pytest.mark.parametrize(("interval", "pixel", "expected"), [(40, 1.5, 4.0), (0, 1.5, 3.0), (10, 1.5, 1.5)])
def test_ten_milliseconds_are_a_millimetre_and_never_less_than_a_pixel(interval, pixel, expected):
    assert time_spacing(interval, pixel) == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("loop",), "--time loop: use one of frames, axis, channels"),
        (("axis", 3), "with --time channels"),
        (("channels", 1), "2 or more"),
        (("frames", None, 30.0), "with --time axis"),
        (("axis", None, 0.0), "above 0"),
        (("axis", None, float("nan")), "above 0"),
    ],
)
def test_options_that_make_no_sense(values, words):
    with pytest.raises(ConfigError, match=words):
        TimeMode.of(*values)


def test_registered_sequences_and_frames_are_not_both_channels(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "a_T1.nii.gz")
    with pytest.raises(ConfigError, match="drop one of both"):
        make(tmp_path / "in", channels=["T1=*T1*"], time=CHANNELS)


# Time as an axis ------------------------------------------------------------------------------------------------------


def test_time_is_the_third_axis(tmp_path, nnunet_folders, caplog):
    """4D with one slice, and 3D where the user says so; what has no time, or slices and time, is left out."""
    write_cine(tmp_path / "in" / "said.nii.gz", long_axis(5), 40)
    write_cine(tmp_path / "in" / "seconds.nii.gz", long_axis(5), 0.05, "sec")
    write_cine(tmp_path / "in" / "fast.nii.gz", long_axis(5), 5)
    write(tmp_path / "in" / "unsaid.nii.gz", long_axis(), isVector=False)  # ITK writes 1 s
    write_cine(tmp_path / "in" / "short_axis.nii.gz", cine(4), 40)
    write(tmp_path / "in" / "still.nii.gz", body_image()[4:5])
    dataset, summary = make(tmp_path / "in", time=AXIS)
    found = cases(dataset)
    spacing = {case: tuple(round(v, 4) for v in images[0].GetSpacing()) for case, images in found.items()}
    assert spacing == {
        "fast": (1.5, 1.5, 1.5), "said": (1.5, 1.5, 4.0), "seconds": (1.5, 1.5, 5.0), "unsaid": (1.0, 1.0, 3.0),
    }  # fmt: skip
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found["said"][0]), long_axis(5)[:, 0])
    for image, mask in found.values():
        assert mask.GetSize() == image.GetSize() and mask.GetSpacing() == image.GetSpacing()
    assert "1 of the sequences taken in now do not say how long a frame lasts" in caplog.text
    assert summary.single_slices == 0 and facts(dataset)["channel_names"] == {"0": "MR"}
    reasons = excluded(dataset)
    assert reasons["short_axis.nii.gz"].startswith("3D+t: 10 slices x 4 frames leave no axis for time; use --time chan")
    assert reasons["still.nii.gz"].startswith("one image, no sequence")
    row = facts(dataset, "pool_cases.json")["cases"]["said"]
    assert row["frame"] is None and "channel_frames" not in row


def test_a_3d_file_may_be_2d_and_time_and_the_user_knows_the_interval(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "a.mha", long_axis()[:, 0], spacing=(1.5, 1.5, 99))
    dataset, _ = make(tmp_path / "in", time=TimeMode.of("axis", interval_ms=25), last_axis_is_time=True)
    image, _ = cases(dataset)["a"]
    assert image.GetSize() == (24, 20, 4) and image.GetSpacing() == (1.5, 1.5, 2.5)


@pytest.mark.parametrize(
    ("tags", "step"),
    [
        (lambda t: {"TriggerTime": 35.5 * t, "TemporalResolution": 50}, 3.55),
        (lambda t: {"AcquisitionNumber": t + 1, "TemporalResolution": 50}, 5.0),
        (lambda t: {"AcquisitionNumber": t + 1, "FrameTime": 42}, 4.2),
        (lambda t: {"AcquisitionNumber": t + 1}, 3.0),
    ],
)
def test_a_long_axis_cine_of_dicom(tmp_path, nnunet_folders, tags, step):
    array = volume(shape=(6, 20, 24))
    for t in range(6):
        write_series(tmp_path / "in", array[t : t + 1], modality="MR", start=t, tags=lambda z, t=t: tags(t))
    dataset, _ = make(tmp_path / "in", dicom=True, time=AXIS)
    ((image, _),) = cases(dataset).values()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    assert image.GetSpacing() == pytest.approx((1.5, 1.5, step))
    assert image.GetOrigin() == pytest.approx((10, 20, 30))


# Frames as channels ---------------------------------------------------------------------------------------------------


def test_chosen_frames_are_channels(tmp_path, nnunet_folders):
    write_cine(tmp_path / "in" / "a.nii.gz", cine(7), 40)
    write_cine(tmp_path / "in" / "long_axis.nii.gz", long_axis(3), 40)
    write_cine(tmp_path / "in" / "short.nii.gz", cine(2), 40)
    write(tmp_path / "in" / "still.nii.gz")
    dataset, summary = make(tmp_path / "in", time=CHANNELS)
    content = facts(dataset)
    assert content["channel_names"] == {"0": "MR_t0", "1": "MR_t1", "2": "MR_t2"}
    assert DatasetFile.read(dataset.folder).image_channels() == ("MR_t0", "MR_t1", "MR_t2")
    found = cases(dataset)
    assert [image.GetSize() for image in found["a"]] == [(24, 20, 10)] * 4
    for image, t in zip(found["a"], (0, 2, 4), strict=False):  # floor(7 k / 3)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), cine(7)[t])
        assert image.GetSpacing() == (1.5, 1.5, 8)
    assert [image.GetSize() for image in found["long_axis"]] == [(24, 20, 1)] * 4 and summary.single_slices == 1
    assert excluded(dataset) == {
        "short.nii.gz": "2 frames; --n-frames asks for 3", "still.nii.gz": "1 frame; --n-frames asks for 3",
    }  # fmt: skip
    row = read_pool_cases(dataset.folder / "pool_cases.json").cases["a"]
    assert row.channel_frames == (0, 2, 4) and (row.frame, row.frames) == (None, None)


def test_ct_keeps_its_normalisation_in_every_channel(tmp_path, nnunet_folders):
    """nnU-Net takes it by the name CT alone; the entries of image_channels stay apart."""
    write_cine(tmp_path / "in" / "a.nii.gz", cine(4) - 500, 40)
    dataset, _ = make(tmp_path / "in", modality="CT", time=TimeMode.of("channels", 2))
    assert facts(dataset)["channel_names"] == {"0": "CT", "1": "CT"}
    assert facts(dataset)["image_channels"] == ["CT_t0", "CT_t1"]


def test_every_stack_of_a_dicom_series_is_a_case(tmp_path, nnunet_folders):
    for t in range(4):
        for echo in (1, 2):
            tags = {"TriggerTime": 30.0 * t, "EchoTime": echo, "TemporalPositionIdentifier": t + 1}
            write_series(
                tmp_path / "in", volume(10 * t + echo, (3, 20, 24)), modality="MR", start=100 * t + 10 * echo,
                tags=lambda z, tags=tags: tags,
            )  # fmt: skip
    dataset, _ = make(tmp_path / "in", dicom=True, time=TimeMode.of("channels", 2))
    found = cases(dataset)
    assert [case[-3:] for case in found] == ["_s0", "_s1"]
    for (case, images), echo in zip(found.items(), (1, 2), strict=True):
        for image, t in zip(images, (0, 2), strict=False):
            np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume(10 * t + echo, (3, 20, 24)), case)


# The data set ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [AXIS, CHANNELS])
def test_a_second_run_changes_nothing_and_another_mode_is_refused(tmp_path, nnunet_folders, time):
    write_cine(tmp_path / "in" / "a.nii.gz", long_axis(), 40)
    dataset, _ = make(tmp_path / "in", time=time)
    before = tree(dataset.folder)
    _, summary = make(tmp_path / "in", time=time)
    assert {name: data for name, (data, _) in tree(dataset.folder).items()} == {n: d for n, (d, _) in before.items()}
    assert (summary.new, summary.changed) == (0, False)
    for other in {"frames": TimeMode(), "axis": AXIS, "channels": CHANNELS}.values():
        if other != time:
            with pytest.raises(DatasetError, match=f"has --time {time.mode}, and --time {other.mode} cannot join it"):
                make(tmp_path / "in", time=other)
    if time is CHANNELS:
        with pytest.raises(DatasetError, match="'MR_t3'] cannot join it"):
            make(tmp_path / "in", time=TimeMode.of("channels", 4))
    assert tree(dataset.folder).keys() == before.keys()


def test_frames_of_an_earlier_version_stay_frames(tmp_path, nnunet_folders):
    write_cine(tmp_path / "in" / "a.nii.gz", long_axis(), 40)
    dataset, _ = make(tmp_path / "in")
    assert "image_time" not in facts(dataset)
    with pytest.raises(DatasetError, match="has --time frames, and --time axis cannot join it"):
        make(tmp_path / "in", time=AXIS)


def test_another_interval_is_taken_in_anew(tmp_path, nnunet_folders):
    write_cine(tmp_path / "in" / "a.nii.gz", long_axis(), 40)
    make(tmp_path / "in", time=AXIS)
    dataset, summary = make(tmp_path / "in", time=TimeMode.of("axis", interval_ms=60))
    assert cases(dataset)["a"][0].GetSpacing()[2] == 6 and summary.changed is False and summary.new == 1


def test_the_command(tmp_path, nnunet_folders, capsys):
    write_cine(tmp_path / "in" / "a.nii.gz", cine(4), 40)
    command = ["unlabelled", "-i", str(tmp_path / "in"), "--modality", "MR", "-d", "7"]
    assert main([*command, "--time", "axis"]) == 1
    assert "use --time channels or --time frames" in capsys.readouterr().err
    assert main([*command, "--time", "channels", "--n-frames", "2"]) == 0
    assert main([*command, "--time", "axis", "--n-frames", "2"]) == 1
    assert "with --time channels" in capsys.readouterr().err
