"""From an item to cases: read, check, mask, and convert what nnU-Net could not read in place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.data.inputs import Item, Reasons, Scan
from nnunet_xlstm.data.pool_cases import CaseRow
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.body_mask import body_mask
from nnunet_xlstm.imaging.checks import check_frame, check_image
from nnunet_xlstm.imaging.dicom import read_series
from nnunet_xlstm.imaging.grid import check_same_grid
from nnunet_xlstm.imaging.images import TIFF, read_grid, read_image, write_image
from nnunet_xlstm.imaging.integrity import check_length

ENDING = ".nii.gz"
NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Entry:
    """A finished case: the files as dataset.json names them, and its row in pool_cases.json.

    `hounsfield` is False for an image just read that has no negative value.
    """

    images: tuple[str, ...]
    label: str
    row: CaseRow
    hounsfield: bool = field(default=True, compare=False)


def process(item: Item, base: str, folder: Path) -> tuple[dict[str, Entry], Reasons]:
    """Makes the cases of an item.

    An item with `relabel` keeps its images and gets a label map of codes; every other one gets a mask of the body.
    A 3D file that nnU-Net's SimpleITK reader can read stays where it is; frames of 4D images, DICOM series and TIFF
    files are written to imagesTr. Masks go to labelsTr. All files appear complete or not at all.

    Args:
        base: name of the case; frames get `_t` and their number.
        folder: of the raw data set.

    Returns:
        case -> entry, and what was left out with the reason.
    """
    origin = item.origin or tuple(scan.path for scan in item.scans)
    if item.relabel is not None:
        return _labelled(item, base, folder, origin)
    if item.label:
        images = tuple(scan.files[0] for scan in item.scans)
        row = CaseRow(item.source, item.subject, item.modality, item.frame, item.frames, origin)
        return {base: Entry(images, item.label, row)}, []
    path = " | ".join(scan.path for scan in item.scans)
    try:
        stacks = [_load(scan, item.modality) for scan in item.scans]
        if len(stacks) > 1:
            _check_channels(stacks)
    except DatasetError as error:
        return {}, [(path, _one_line(error, item.scans))]
    entries: dict[str, Entry] = {}
    left_out: Reasons = []
    frames = len(stacks[0])
    for t, images in enumerate(zip(*stacks, strict=True)):
        case = base if frames == 1 else f"{base}_t{t:0{max(2, len(str(frames - 1)))}d}"
        time = (None, None) if frames == 1 else (t, frames)
        try:
            for scan, image in zip(item.scans, images, strict=True):
                check_frame(image, Path(scan.path))
            files = tuple(
                scan.path if frames == 1 and readable_in_place(scan) else _write(image, folder, case, channel)
                for channel, (scan, image) in enumerate(zip(item.scans, images, strict=True))
            )
        except DatasetError as error:
            left_out.append((f"{path} (frame {t})", _one_line(error, item.scans)))
            continue
        label = _write(_mask(images, item.modality), folder, case)
        row = CaseRow(item.source, item.subject, item.modality, *time, origin)
        negative = all(sitk.GetArrayViewFromImage(image).min() < 0 for image in images)
        entries[case] = Entry(files, label, row, negative)
    if len(left_out) == frames and len({reason for _, reason in left_out}) == 1:
        left_out = [(path, left_out[0][1])]
    return entries, left_out


def _labelled(item: Item, base: str, folder: Path, origin: tuple[str, ...]) -> tuple[dict[str, Entry], Reasons]:
    """A case with a label map of its own; of the images only headers and lengths are read (`check` reads all).

    Raises:
        ValueError: the label map holds a value that is no label: the whole mapping may be wrong.
    """
    label, valid = item.relabel.make()
    try:
        for scan in item.scans:
            check_length(Path(scan.path))
            check_same_grid(read_grid(Path(scan.path)), label, ("image", "label map"))
        images = tuple(
            scan.path if readable_in_place(scan) else _write(read_image(Path(scan.path)), folder, base, channel)
            for channel, scan in enumerate(item.scans)
        )
    except DatasetError as error:
        return {}, [(" | ".join(scan.path for scan in item.scans), _one_line(error, item.scans))]
    row = CaseRow(item.source, item.subject, item.modality, item.frame, item.frames, origin, valid)
    return {base: Entry(images, _write(label, folder, base), row)}, []


def readable_in_place(scan: Scan) -> bool:
    """Whether nnU-Net reads this 3D file as it is: SimpleITK alone knows its geometry, and no `$` in its path is
    expanded."""
    if scan.dicom or scan.path.lower().endswith(TIFF) or os.path.expandvars(scan.path) != scan.path:
        return False
    return not scan.path.lower().endswith(NIFTI) or read_grid(Path(scan.path)).is_orthonormal()


def _load(scan: Scan, modality: str) -> list[sitk.Image]:
    """The volumes of a scan, in the order of time.

    Raises:
        ValueError: it cannot be read, or is no image.
    """
    if scan.dicom:
        images = read_series(scan.files, modality)
        for image in images:
            check_image(image)
        return images
    image = read_image(Path(scan.path))
    check_image(image)
    return [image] if image.GetDimension() == 3 else [image[:, :, :, t] for t in range(image.GetSize()[3])]


def _check_channels(stacks: Sequence[Sequence[sitk.Image]]) -> None:
    if any(len(stack) > 1 for stack in stacks):
        raise DatasetError("a 4D image in a case of several channels")
    for stack in stacks[1:]:
        check_same_grid(stacks[0][0], stack[0], ("first channel", "other"))


def _mask(images: Sequence[sitk.Image], modality: str) -> sitk.Image:
    """Body mask on the grid of the first image; the body is where any channel shows it."""
    masks = [body_mask(sitk.GetArrayViewFromImage(image), modality) for image in images]
    mask = sitk.GetImageFromArray(np.maximum.reduce(masks))
    mask.CopyInformation(images[0])
    return mask


def _write(image: sitk.Image, folder: Path, case: str, channel: int | None = None) -> str:
    """Writes a mask, or a channel of an image; returns the path as dataset.json names it, relative to `folder`."""
    relative = f"labelsTr/{case}{ENDING}" if channel is None else f"imagesTr/{case}_{channel:04d}{ENDING}"
    write_image(image, folder / relative)
    return relative


def _one_line(error: ValueError, scans: Sequence[Scan]) -> str:
    text = " ".join(str(error).split())
    for scan in scans:
        text = text.removeprefix(f"{scan.path}: ")
    return text
