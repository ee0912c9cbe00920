"""From an item to cases: read, check, mask, and convert what nnU-Net could not read in place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.datasets.case_index import CaseRecord
from nnunet_xlstm.datasets.items import Item, LabelMaker
from nnunet_xlstm.datasets.scans import Scan
from nnunet_xlstm.datasets.volumes import Volume, channels_of, find_volumes
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.body_mask import body_mask
from nnunet_xlstm.imaging.checks import check_frame
from nnunet_xlstm.imaging.dicom.series import Reasons
from nnunet_xlstm.imaging.grid import check_same_grid
from nnunet_xlstm.imaging.images import TIFF, read_grid, read_image
from nnunet_xlstm.imaging.integrity import check_length
from nnunet_xlstm.imaging.single_slice import as_volume
from nnunet_xlstm.imaging.write import write_image

ENDING = ".nii.gz"
NIFTI = (".nii", ".nii.gz")
NO_INTERVAL = (
    "%d of the sequences taken in now do not say how long a frame lasts (%s, ...): 30 ms are taken; where you know it, "
    "give --frame-interval"
)
# What a user must know of images that are taken in; filled with how many there are, and the first
NO_HOUNSFIELD = (
    "%d of the CT images taken in now have no negative value (%s, ...): they are not in Hounsfield units, and do not "
    "fit to others under nnU-Net's CT normalisation"
)
NO_SPACING = (
    "%d of the images taken in now are pictures without a pixel size (%s, ...): 1 mm is taken, as nnU-Net does; "
    "where you know it, convert them to .mha or .nii.gz with their spacing"
)
ONE_SLICE = (
    "%d of the images taken in now are single slices (%s, ...): they are kept as volumes of one slice. Plan `-c 2d`; "
    "for 3D configurations leave them out with --min-slices"
)


@dataclass(frozen=True)
class Entry:
    """A finished case: the files as dataset.json names them, and its row in pool_cases.json.

    Attributes:
        remarks: of an image just read: NO_HOUNSFIELD, NO_SPACING, ONE_SLICE, NO_INTERVAL.
    """

    images: tuple[str, ...]
    label: str
    record: CaseRecord
    remarks: tuple[str, ...] = field(default=(), compare=False)


def process(item: Item, base: str, folder: Path) -> tuple[dict[str, Entry], Reasons]:
    """Make the cases of an item.

    An item with `relabel` keeps its images and gets a label map of codes; every other one gets a mask of the body.
    A 3D file that nnU-Net's SimpleITK reader can read stays where it is. Frames of 4D images, 2D images (as volumes of
    one slice), DICOM series and TIFF files are written to imagesTr. Masks go to labelsTr. All files appear complete or
    not at all.

    Args:
        item: to read.
        base: name of the case; a stack of a DICOM series that has several gets `_s`, a frame `_t`, and its number.
        folder: of the raw data set.

    Returns:
        case -> entry, and what was left out with the reason.

    Raises:
        WriteError: a file cannot be written.
    """
    origin = item.origin or tuple(scan.origin for scan in item.scans)
    if item.relabel is not None:
        return _labelled(item, item.relabel, base, folder, origin)
    if item.label:
        images = tuple(scan.files[0] for scan in item.scans)
        record = CaseRecord(item.source, item.subject, item.modality, item.frame, item.frames, origin, tags=item.tags)
        return {base: Entry(images, item.label, record)}, []
    path = " | ".join(scan.path for scan in item.scans)
    left_out: Reasons = []
    try:
        found = []
        for scan in item.scans:
            of_scan, reasons = find_volumes(scan, item.modality, item.last_axis_is_time)
            found.append(of_scan)
            left_out += reasons
        if len(found) > 1 and any(len(volumes) != 1 for volumes in found):
            raise DatasetError("a case of several channels needs one volume for each, without frames and other stacks")
    except DatasetError as error:
        return {}, [*left_out, (path, _one_line(error, item.scans))]
    entries: dict[str, Entry] = {}
    refused: Reasons = []
    in_time = item.time.mode != "frames"  # all frames of a stack make one case
    groups: list[tuple[Volume, ...]] = list(zip(*found, strict=True))
    if in_time:
        groups = [tuple(frames) for _, frames in groupby(found[0], key=lambda volume: volume.stack)]
    for volumes in groups:
        case, place = base + volumes[0].suffix(in_time), volumes[0].place(in_time)
        try:
            made = channels_of(volumes, item.time) if in_time else volumes
            entries[case] = _case(item, made, case, folder, origin)
        except DatasetError as error:
            refused.append((f"{path} ({place})" if place else path, _one_line(error, item.scans)))
    if len(refused) == len(groups) and len({reason for _, reason in refused}) == 1:
        refused = [(path, refused[0][1])]
    return entries, left_out + refused


def _case(item: Item, volumes: Sequence[Volume], case: str, folder: Path, origin: tuple[str, ...]) -> Entry:
    """Read the volume of each channel, check them, and write what is to be written.

    Raises:
        DatasetError: an image that cannot be used.
        WriteError: a file cannot be written.
    """
    images, in_place = [], []
    remarks = set() if all(volume.has_spacing for volume in volumes) else {NO_SPACING}
    scans = item.scans if len(item.scans) == len(volumes) else item.scans * len(volumes)  # its frames are its channels
    for scan, volume in zip(scans, volumes, strict=True):
        read = volume.read()
        image = as_volume(read)
        check_frame(image, Path(scan.path))
        if image.GetSize()[2] < item.min_slices:
            raise DatasetError(f"{image.GetSize()[2]} slices; --min-slices asks for {item.min_slices}")
        images.append(image)
        in_place.append(volume.whole_file and image is read and readable_in_place(scan.path))
    for image in images[1:]:
        check_same_grid(images[0], image, ("first channel", "other"))
    if images[0].GetSize()[2] == 1:
        remarks.add(ONE_SLICE)
    if item.time.mode == "axis" and not volumes[0].interval_ms:
        remarks.add(NO_INTERVAL)
    if item.modality == "CT" and all(sitk.GetArrayViewFromImage(image).min() >= 0 for image in images):
        remarks.add(NO_HOUNSFIELD)
    files = tuple(
        scans[channel].path if in_place[channel] else _write(image, folder, case, channel)
        for channel, image in enumerate(images)
    )
    label = _write(_mask(images, item.modality), folder, case)
    first = volumes[0]
    if first.stacks > 1:
        origin = tuple(f"{name}#{first.stack}" for name in origin)
    one_frame = first.frames > 1 and item.time.mode == "frames"
    time = (first.frame, first.frames) if one_frame else (item.frame, item.frames)
    record = CaseRecord(item.source, item.subject, item.modality, *time, origin, tags=first.tags or item.tags)
    if item.time.mode == "channels":
        record = replace(record, channel_frames=tuple(volume.frame for volume in volumes))
    return Entry(files, label, record, tuple(sorted(remarks)))


def _labelled(
    item: Item, relabel: LabelMaker, base: str, folder: Path, origin: tuple[str, ...]
) -> tuple[dict[str, Entry], Reasons]:
    """Make a case with a label map of its own; of the images only headers and lengths are read (`check` reads all).

    Raises:
        DatasetError: the label map holds a value that is no label: the whole mapping may be wrong.
    """
    label, valid = relabel.make()
    try:
        for scan in item.scans:
            check_length(Path(scan.path))
            check_same_grid(read_grid(Path(scan.path)), label, ("image", "label map"))
        solid = as_volume(label)
        images = tuple(
            scan.path
            if solid is label and readable_in_place(scan.path)
            else _write(as_volume(read_image(Path(scan.path))), folder, base, channel)
            for channel, scan in enumerate(item.scans)
        )
    except DatasetError as error:
        return {}, [(" | ".join(scan.path for scan in item.scans), _one_line(error, item.scans))]
    record = CaseRecord(item.source, item.subject, item.modality, item.frame, item.frames, origin, valid, item.tags)
    return {base: Entry(images, _write(solid, folder, base), record)}, []


def readable_in_place(path: str) -> bool:
    """Whether nnU-Net reads this 3D file as it is.

    SimpleITK alone knows its geometry, and no `$` in its path is expanded.
    """
    if path.lower().endswith(TIFF) or os.path.expandvars(path) != path:
        return False
    return not path.lower().endswith(NIFTI) or read_grid(Path(path)).is_orthonormal()


def _mask(images: Sequence[sitk.Image], modality: str) -> sitk.Image:
    """Body mask on the grid of the first image; the body is where any channel shows it."""
    masks = [body_mask(sitk.GetArrayViewFromImage(image), modality) for image in images]
    mask = sitk.GetImageFromArray(np.maximum.reduce(masks))
    mask.CopyInformation(images[0])
    return mask


def _write(image: sitk.Image, folder: Path, case: str, channel: int | None = None) -> str:
    """Write a mask, or a channel of an image; return the path as dataset.json names it, relative to `folder`."""
    relative = f"labelsTr/{case}{ENDING}" if channel is None else f"imagesTr/{case}_{channel:04d}{ENDING}"
    write_image(image, folder / relative)
    return relative


def _one_line(error: DatasetError, scans: Sequence[Scan]) -> str:
    text = " ".join(str(error).split())
    for scan in scans:
        text = text.removeprefix(f"{scan.path}: ")
    return text
