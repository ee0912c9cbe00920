"""DICOM archives: their series, checked before they become images."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.headers import Plane, read_identity, read_planes
from nnunet_xlstm.imaging.dicom.stacks import LOCALIZER, Stack, find_stacks, without_copies
from nnunet_xlstm.imaging.grid import Grid
from nnunet_xlstm.imaging.images import quiet
from nnunet_xlstm.io.paths import as_utf8

MODALITY_TAGS = {"CT": ("CT",), "MR": ("MR",), "PET": ("PT", "PET")}
INDEX_FILES = "1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR
ReadPixels = Callable[[str], np.ndarray]
Reasons = list[tuple[str, str]]  # (path, why it is left out)


@dataclass(frozen=True)
class Series:
    """The files of one series, and what the first of them says.

    Attributes:
        folder: that holds them all, at any depth.
        key: unique among people, studies and series.
        patient: PatientID; the study where there is none.
        description: SeriesNumber_SeriesDescription, or the series' UID.
    """

    folder: Path
    key: str
    files: tuple[str, ...]
    patient: str
    description: str
    has_patient: bool = True


def find_series(files: Iterable[Path]) -> tuple[list[Series], Reasons]:
    """Group DICOM files by person, study and series, wherever they lie.

    Returns:
        The series, and files that are damaged or hold no image (reports, contours).
    """
    members: dict[tuple[str, str, str], list[Path]] = {}
    facts: dict[tuple[str, str, str], dict[str, str]] = {}
    left_out: Reasons = []
    for file in files:
        try:
            identity = read_identity(file)
        except DatasetError as error:
            left_out.append((str(file), str(error)))
            continue
        if identity["SOPClassUID"] == INDEX_FILES:
            continue
        if not identity["Rows"]:
            left_out.append((str(file), f"holds no image (modality {identity['Modality'] or 'unknown'})"))
            continue
        series = identity["SeriesInstanceUID"] or str(file.parent)
        key = (identity["PatientID"], identity["StudyInstanceUID"], series)
        members.setdefault(key, []).append(file)
        facts.setdefault(key, identity)
    found = []
    for key, names in members.items():
        identity, names = facts[key], sorted(names)
        folder = Path(os.path.commonpath([name.parent for name in names]))
        description = "_".join(t for t in (identity["SeriesNumber"], identity["SeriesDescription"]) if t) or key[2]
        found.append(Series(folder, "|".join(key), tuple(map(str, names)), key[0] or key[1], description, bool(key[0])))
    return found, left_out


def plan_series(files: Sequence[str], modality: str) -> tuple[list[Stack], Reasons]:
    """Read the headers of a series, and find its stacks.

    Returns:
        The stacks, also those that cannot be used; and files that are damaged, of another kind, or copies.

    Raises:
        DatasetError: there is no image of this modality in it; the reason.
    """
    planes: list[Plane] = []
    left_out: Reasons = []
    for file in files:
        try:
            planes += read_planes(file, MODALITY_TAGS[modality])
        except DatasetError as error:
            left_out.append((file, str(error)))
    kept = without_copies(planes)
    if copies := sorted({plane.file for plane in planes} - {plane.file for plane in kept}):
        left_out += [(file, "a copy of another file of its series") for file in copies]
    if not kept:
        others = len({reason for _, reason in left_out}) - 1
        raise DatasetError(left_out[0][1] + (f" ({others} more files are like it)" if others else ""))
    stacks = find_stacks(kept)
    if modality == "CT":
        stacks = [_without_scout(stack) for stack in stacks]
    return stacks, left_out


def pixel_reader(stacks: Iterable[Stack]) -> ReadPixels:
    """Return a function that reads the pixels (frames, rows, columns) of a file; of a multi-frame file once."""
    several = any(plane.index for stack in stacks for frame in stack.frames for plane in frame)
    return functools.cache(_read_pixels) if several else _read_pixels


def read_volume(slices: Sequence[Plane], read: ReadPixels) -> sitk.Image:
    """Read the slices of a stack at one time as a volume; a single one as thick as its file says.

    Raises:
        DatasetError: a file cannot be read to its end.
    """
    arrays = [_true_values(plane, read(plane.file)) for plane in slices]
    array = np.stack(arrays)
    first, last = slices[0], slices[-1]
    depth = (
        np.linalg.norm(last.position - first.position) / max(1, len(slices) - 1)
        or first.thickness
        or max(first.spacing)
    )
    direction = np.stack([first.cosines[:3], first.cosines[3:], first.normal], axis=1)
    grid = Grid(array.shape[::-1], (*first.spacing, float(depth)), tuple(first.position), tuple(direction.ravel()))
    return grid.set_on(sitk.GetImageFromArray(array.astype(np.float32) if array.dtype == np.float64 else array))


def _without_scout(stack: Stack) -> Stack:
    scout = stack.frames and LOCALIZER in stack.frames[0][0].tags.get("ImageType", "").split("\\")
    return Stack(reason="a scout: a projection of the body, not a slice in Hounsfield units") if scout else stack


def _true_values(plane: Plane, pixels: np.ndarray) -> np.ndarray:
    """Return the pixels of one frame; GDCM gives every frame of a file the slope and intercept of the first."""
    if plane.index >= len(pixels) or pixels.shape[1:] != plane.size[::-1]:
        raise DatasetError(f"{plane.name} holds {pixels.shape[::-1]} pixels, not those that its header says")
    values = pixels[plane.index]
    if plane.rescale == plane.gdcm_rescale:
        return values
    (slope, intercept), (wrong_slope, wrong_intercept) = plane.rescale, plane.gdcm_rescale
    return (values - wrong_intercept) / wrong_slope * slope + intercept


def _read_pixels(file: str) -> np.ndarray:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(as_utf8(file))
    try:
        with quiet():
            array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        reason = " ".join(str(error).strip().splitlines()[-1].split())
        raise DatasetError(f"{Path(file).name} is damaged, cut off or packed in an unknown way ({reason})") from error
    return array if array.ndim == 3 else array[None]
