"""`nnunet_xlstm unlabelled`: images of one modality, wherever they lie, as an nnU-Net data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_xlstm.datasets.build import Summary, build
from nnunet_xlstm.datasets.case_index import MODALITIES
from nnunet_xlstm.datasets.items import items_of_channels, items_of_scans
from nnunet_xlstm.datasets.raw_dataset import RawDataset, channel_names, open_dataset
from nnunet_xlstm.datasets.scans import find_scans
from nnunet_xlstm.datasets.subjects import subject_pattern
from nnunet_xlstm.datasets.time_modes import FRAMES, TimeMode
from nnunet_xlstm.errors import ConfigError, DatasetError

CREATED_BY = "nnunet_xlstm unlabelled"
DEFAULT_NAME = "Unlabelled"


def make_unlabelled(
    inputs: Sequence[Path],
    modality: str,
    number: int,
    name: str | None = None,
    *,
    dicom: bool = False,
    subject: str | None = None,
    channels: Sequence[str] = (),
    min_slices: int = 1,
    last_axis_is_time: bool = False,
    time: TimeMode = FRAMES,
    processes: int = 1,
) -> tuple[RawDataset, Summary]:
    """Make the data set, or add to it.

    Args:
        inputs: see find_scans.
        modality: of all images: "CT", "MR" or "PET".
        number: of DatasetXXX_Name.
        name: of DatasetXXX_Name; None takes Unlabelled, or that of the data set of this number.
        dicom: the inputs hold DICOM series.
        subject: regular expression for the path below the input.
        channels: NAME=GLOB of every channel; empty for images of one channel.
        min_slices: images with fewer are left out; 1 takes 2D images.
        last_axis_is_time: of a 3D file too (2D+t).
        time: what becomes of sequences; in other modes than "frames", what is none is left out.
        processes: images at a time.

    Raises:
        ConfigError: a wrong option.
        DatasetError: inputs without images, or none that can be used.
        WriteError: a file cannot be written.
    """
    if modality not in MODALITIES:
        raise ConfigError(f"--modality {modality}: use one of {', '.join(MODALITIES)}")
    if min_slices < 1:
        raise ConfigError(f"--min-slices {min_slices}: give the fewest slices that an image may have, 1 or more")
    globs = parse_channels(channels)
    if globs and time.mode != "frames":
        raise ConfigError(f"--channels and --time {time.mode}: a case has one kind of channels; drop one of both")
    pattern = subject_pattern(subject) if subject else None
    scans, left_out = find_scans(inputs, dicom)
    image_channels = list(globs) or time.channels(modality)
    names = channel_names(image_channels, modality == "CT")
    dataset = open_dataset(number, name, DEFAULT_NAME, CREATED_BY)
    header = {"channel_names": names, "image_modality": modality, "image_channels": image_channels}
    if time.mode != "frames":
        header["image_time"] = time.mode
    _check_same_kind(dataset, header)
    source = dataset.folder.name
    options = {"min_slices": min_slices, "last_axis_is_time": last_axis_is_time, "time": time}
    if globs:
        items, reasons = items_of_channels(scans, source, modality, pattern, globs, **options)
        left_out = [*left_out, *reasons]
    else:
        items = items_of_scans(scans, source, modality, pattern, **options)
    return dataset, build(dataset, header, items, left_out, processes=processes)


def parse_channels(texts: Sequence[str]) -> dict[str, str]:
    """Return name -> shell pattern, from NAME=GLOB.

    Raises:
        ConfigError: another form, or a name twice.
    """
    channels: dict[str, str] = {}
    for text in texts:
        name, equals, glob = text.partition("=")
        if not (name and equals and glob) or name in channels:
            raise ConfigError(f"--channels {text}: give NAME=GLOB, every name once, such as T1=*_T1_* FLAIR=*_FLAIR_*")
        channels[name] = glob
    return channels


def _check_same_kind(dataset: RawDataset, header: Mapping) -> None:
    earlier = dataset.earlier_header()
    for key, option, default in (
        ("image_time", "--time ", "frames"),
        ("image_modality", "", None),
        ("image_channels", "", None),
    ):
        before, now = earlier.get(key, default), header.get(key, default)
        if earlier and before != now:
            raise DatasetError(
                f"{dataset.folder.name} has {option}{before}, and {option}{now} cannot join it: make another data set "
                "with another -d, and unite both with `nnunet_xlstm pool build`"
            )
