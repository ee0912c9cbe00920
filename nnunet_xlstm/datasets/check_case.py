"""One case of a raw data set, read to its end: what is wrong with its images and its label map."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.datasets.dataset_json import CaseFiles
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.grid import Grid, check_same_grid
from nnunet_xlstm.imaging.images import read_grid, read_image, read_label_map

# nnU-Net's readers, and how many dimensions a file may have; a fourth of SimpleITKIO is channels
NIBABEL, SIMPLE_ITK, NATURAL, TIFF_3D = "NibabelIO", "SimpleITKIO", "NaturalImage2DIO", "Tiff3DIO"
DIMENSIONS = {NIBABEL: (3,), SIMPLE_ITK: (2, 3, 4), NATURAL: (2,), TIFF_3D: (3,)}
MAX_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; a warning is what nnU-Net trains with, but a person should look at."""

    is_warning: bool
    path: str
    text: str

    def __str__(self) -> str:
        return f"{'warning' if self.is_warning else 'error'}: {self.path}: {self.text}"


@dataclass
class Findings:
    """Collects findings; paths inside the data set are shown relative to it."""

    folder: Path
    found: list[Finding] = field(default_factory=list)

    def error(self, path: Path | str, text: str) -> None:
        """Add what nnU-Net refuses, or trains wrongly with."""
        self._add(False, path, text)

    def warning(self, path: Path | str, text: str) -> None:
        """Add what a person should look at."""
        self._add(True, path, text)

    def _add(self, is_warning: bool, path: Path | str, text: str) -> None:
        path = Path(os.path.abspath(self.folder / path))
        text = " ".join(text.split()).removeprefix(f"{path}: ")
        inside = path.is_relative_to(self.folder)
        self.found.append(Finding(is_warning, str(path.relative_to(self.folder) if inside else path), text))


@dataclass(frozen=True)
class CaseJob:
    """A case and what dataset.json says of all cases.

    Attributes:
        folder: of the data set.
        files: an empty label is one that need not be there.
        channels, known: number of channels and ids of labels; None where dataset.json is wrong.
        reader: of nnU-Net, see `reader_of`.
    """

    folder: Path
    case: str
    files: CaseFiles
    channels: int | None
    known: frozenset[int] | None
    reader: str


@dataclass(frozen=True)
class CaseResult:
    """What was found.

    Attributes:
        dimension: of the images, 2 or 3; 0 where none could be read.
        present: ids in the label map; None where it could not be read or there is none.
    """

    findings: list[Finding]
    dimension: int
    present: frozenset[int] | None


def reader_of(wanted: Any, ending: str, first: str | None) -> str:
    """Return which of nnU-Net's readers serves a data set: the one it names, else the first that reads its first image.

    Args:
        wanted: the key overwrite_image_reader_writer of dataset.json.
        ending: file_ending of dataset.json.
        first: path of the first image; None without one.
    """
    if isinstance(wanted, str) and wanted != "None":
        return wanted.removesuffix("WithReorient")
    ending = ending.lower()
    by_ending = {".png": NATURAL, ".bmp": NATURAL, ".tiff": TIFF_3D, ".nii": NIBABEL}
    if ending not in (".tif", ".nii.gz") or first is None:
        return by_ending.get(ending, SIMPLE_ITK)
    try:
        grid = read_grid(Path(first))
    except DatasetError:
        return SIMPLE_ITK
    if ending == ".tif":
        return NATURAL if grid.dimension == 2 else TIFF_3D
    return SIMPLE_ITK if grid.is_orthonormal() else NIBABEL


def check_case(job: CaseJob) -> CaseResult:
    """Read all files of a case. A fault of one does not hide those of the others."""
    found = Findings(job.folder)
    first: Grid | None = None
    channels = []
    for path in job.files.images:
        try:
            image = read_image(Path(path))
            channels.append(_channels(image, job.reader))
            grid = _in_space(Grid.of(image))
            first = first or grid
            _check_grids(first, grid, ("first channel", "image"), job.reader)
            if (value := _check_values(image)) is not None:
                found.warning(path, f"every voxel is {value:g}")
        except DatasetError as fault:
            found.error(path, str(fault))
    if job.channels is not None and len(channels) == len(job.files.images) and sum(channels) != job.channels:
        found.error(
            job.files.images[0] if job.files.images else job.files.label,
            f"case {job.case} has {len(channels)} image file{'s' * (len(channels) != 1)}, in which nnU-Net finds "
            f"{sum(channels)} channels; channel_names of dataset.json has {job.channels}",
        )
    present = None
    if job.files.label:
        try:
            label = read_label_map(Path(job.files.label))
            present = _check_label(job, label, found)
            if first is not None:
                _check_grids(first, Grid.of(label), ("image", "label map"), job.reader)
        except DatasetError as fault:
            found.error(job.files.label, str(fault))
    return CaseResult(found.found, 0 if first is None else first.dimension, present)


def _channels(image: sitk.Image, reader: str) -> int:
    """How many channels nnU-Net's reader makes of one file.

    Raises:
        DatasetError: it cannot read it, or would take it for something else.
    """
    components, dimension = image.GetNumberOfComponentsPerPixel(), image.GetDimension()
    if components > 1:
        if reader == NATURAL and dimension == 2 and components in (3, 4):
            return components
        raise DatasetError(
            f"{components} values per voxel; save each as an image of its own: CASE_0000, CASE_0001, ..."
        )
    if dimension not in DIMENSIONS.get(reader, (2, 3, 4)):
        raise DatasetError(
            f"{dimension} dimensions, {' x '.join(map(str, image.GetSize()))}; nnU-Net's {reader} takes "
            f"{' or '.join(map(str, DIMENSIONS[reader]))}"
        )
    grid = Grid.of(image)
    if reader == SIMPLE_ITK and dimension == 3 and not grid.is_orthonormal():
        raise DatasetError(
            "its axes are not at right angles, so that nnU-Net's SimpleITKIO cannot read it; write "
            '"overwrite_image_reader_writer": "NibabelIO" into dataset.json, or resample the image'
        )
    return image.GetSize()[3] if dimension == 4 else 1


def _in_space(grid: Grid) -> Grid:
    """Without the channels that a file has as a fourth axis."""
    if grid.dimension <= 3:
        return grid
    matrix = grid.matrix[:3, :3]
    return replace(
        grid, size=grid.size[:3], spacing=grid.spacing[:3], origin=grid.origin[:3], direction=tuple(matrix.ravel())
    )


def _check_values(image: sitk.Image) -> float | None:
    """Return the value that every voxel has, None where they differ.

    Raises:
        DatasetError: complex values, NaN or infinity.
    """
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "c":
        raise DatasetError("complex values; save their magnitude")
    if array.dtype.kind == "f" and (bad := sum(int(np.count_nonzero(~np.isfinite(part))) for part in array)):
        raise DatasetError(f"{bad} voxels are NaN or infinite; nnU-Net would train on them: replace them")
    low, high = array.min(), array.max()
    return float(low) if low == high else None


def _check_grids(one: Grid, other: Grid, names: tuple[str, str], reader: str) -> None:
    """nnU-Net stops where size or spacing differ; where only origin or direction do, it goes by the voxels' numbers."""
    if one.dimension != other.dimension:
        raise DatasetError(f"the {names[0]} has {one.dimension} dimensions, the {names[1]} {other.dimension}")
    if reader == NATURAL:  # which knows no place of a pixel
        one, other = replace(other, size=one.size), other
    elif one.size == other.size and not np.allclose(one.spacing, other.spacing):
        raise DatasetError(
            f"the {names[0]} has the spacing {one.spacing}, the {names[1]} {other.spacing} mm (x, y, z): correct the "
            "header that is wrong, or resample"
        )
    check_same_grid(one, other, names)


def _check_label(job: CaseJob, label: sitk.Image, found: Findings) -> frozenset[int]:
    """Return the ids of a label map, and say which are wrong."""
    array = sitk.GetArrayViewFromImage(label)
    counts: Counter[int] = Counter()
    for part in array if array.ndim == 3 else [array]:
        values, numbers = np.unique(part, return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    if job.known is not None and (wrong := sorted(counts.keys() - job.known)):
        shown = ", ".join(f"{i} ({counts[i]} voxels)" for i in wrong[:MAX_SHOWN])
        more = f" and {len(wrong) - MAX_SHOWN} more" if len(wrong) > MAX_SHOWN else ""
        found.error(
            job.files.label, f"holds {shown}{more}, which dataset.json does not list; its ids are {sorted(job.known)}"
        )
    if not counts.keys() - {0}:
        found.warning(job.files.label, "is empty: every voxel is background")
    return frozenset(counts)
