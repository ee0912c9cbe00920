"""DICOM archives: their series, checked before they become images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.images import quiet

MODALITY_TAGS = {"CT": ("CT",), "MR": ("MR",), "PET": ("PT", "PET")}
PARALLEL = 1e-3  # greatest difference of direction cosines within a volume
UNEVEN = 0.1  # greatest deviation of a gap between slices from their median, and of the stack's axis from its normal
# Tags that tell the frames at one slice position apart: temporal position, trigger time, acquisition time, content time
TIME_TAGS = ("0020|0100", "0018|1060", "0008|0032", "0008|0033")


@dataclass(frozen=True)
class Series:
    """The files of one series in one folder, and what its first file says."""

    folder: Path
    uid: str
    files: tuple[str, ...]
    patient: str
    modality: str
    description: str  # SeriesNumber_SeriesDescription


@dataclass(frozen=True)
class Slice:
    """Geometry of one file: position in mm, direction cosines of row and column, voxels, spacing in mm, and times."""

    file: str
    position: np.ndarray
    cosines: np.ndarray  # (6,)
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    times: tuple[str, ...]
    number: int
    echo: str


def find_series(root: Path) -> Iterator[Series]:
    """All series below a folder, one by one; folders that links lead to are visited once."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders.sort()
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        if not files:
            continue
        with quiet():
            uids = sorted(sitk.ImageSeriesReader.GetGDCMSeriesIDs(folder))
            names = {uid: tuple(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder, uid)) for uid in uids}
        for uid, series in names.items():
            if series:
                yield Series(Path(folder), uid, series, *_first(series[0]))


def _first(file: str) -> tuple[str, str, str]:
    try:
        reader = _information(file)
    except DatasetError:
        return "", "", ""
    number, description = _tag(reader, "0020|0011"), _tag(reader, "0008|103e")
    return _tag(reader, "0010|0020"), _tag(reader, "0008|0060"), "_".join(t for t in (number, description) if t)


def read_series(files: Sequence[str], modality: str) -> list[sitk.Image]:
    """The volume of a series; several for one that shows every slice at several times, in the order of time.

    Raises:
        ValueError: another modality, or slices that do not make a volume: the reason.
    """
    if len(files) == 1:
        return [_read_one(files[0], modality)]
    slices = [_slice(file, modality) for file in files]
    frames = _frames(slices)
    for frame in frames:
        _check_geometry(frame)
    return [_read(frame) for frame in frames]


def _check_modality(reader: sitk.ImageFileReader, modality: str) -> None:
    found = _tag(reader, "0008|0060")
    if found and found not in MODALITY_TAGS[modality]:
        raise DatasetError(f"its modality is {found}, not {modality}")


def _read_one(file: str, modality: str) -> sitk.Image:
    """A file that holds a volume by itself (enhanced DICOM)."""
    reader = _information(file)
    _check_modality(reader, modality)
    if len(reader.GetSize()) < 3 or reader.GetSize()[2] < 2:
        raise DatasetError("a single slice")
    try:
        with quiet():
            return reader.Execute()
    except RuntimeError as error:
        raise DatasetError(_reason(error)) from error


def _slice(file: str, modality: str) -> Slice:
    reader = _information(file)
    _check_modality(reader, modality)
    position, cosines = _numbers(reader, "0020|0032", 3), _numbers(reader, "0020|0037", 6)
    if position is None or cosines is None:
        raise DatasetError(f"{Path(file).name} has no position or orientation of its slice")
    number = _numbers(reader, "0020|0013", 1)
    times = tuple(_tag(reader, tag) for tag in TIME_TAGS)
    size, spacing = tuple(reader.GetSize()[:2]), tuple(reader.GetSpacing()[:2])
    if len(reader.GetSize()) > 2 and reader.GetSize()[2] > 1:
        raise DatasetError("several files that each hold a volume")
    return Slice(
        file, position, cosines, size, spacing, times, int(number[0]) if number is not None else 0,
        _tag(reader, "0018|0086"),
    )  # fmt: skip


def _frames(slices: list[Slice]) -> list[list[Slice]]:
    """The slices of each time, along the normal of the first slice.

    Raises:
        ValueError: mixed sizes, spacings or directions; or several slices at one position that no time tells apart.
    """
    first = slices[0]
    if any(s.size != first.size for s in slices):
        raise DatasetError(f"mixed sizes of slices: {sorted({s.size for s in slices})}")
    if any(not np.allclose(s.spacing, first.spacing, rtol=1e-3) for s in slices):
        raise DatasetError(f"mixed pixel spacings: {sorted({s.spacing for s in slices})}")
    if any(np.abs(s.cosines - first.cosines).max() > PARALLEL for s in slices):
        raise DatasetError("mixed orientation of slices: a localiser, or several stacks in one series")
    normal = np.cross(first.cosines[:3], first.cosines[3:])
    places: dict[float, list[Slice]] = {}
    for one in slices:
        places.setdefault(round(float(one.position @ normal), 2), []).append(one)
    if len(places) < 2:
        raise DatasetError("all slices at one position")
    stacks = [places[place] for place in sorted(places)]
    counts = sorted({len(stack) for stack in stacks})
    if counts == [1]:
        return [[stack[0] for stack in stacks]]
    if len(counts) > 1:
        raise DatasetError(f"missing slices: between {counts[0]} and {counts[-1]} slices at one position")
    if len({one.echo for one in slices}) > 1:
        raise DatasetError("several echoes in one series")
    order = _time_order(stacks)
    return [[order[i][t] for i in range(len(stacks))] for t in range(counts[0])]


def _time_order(stacks: list[list[Slice]]) -> list[list[Slice]]:
    """Every stack in the order of the first time tag that tells all its slices apart, in every stack."""
    for tag in range(len(TIME_TAGS)):
        values = [[one.times[tag] for one in stack] for stack in stacks]
        if all(all(v) and len(set(v)) == len(v) for v in values):
            return [sorted(stack, key=lambda one: (_number(one.times[tag]), one.number)) for stack in stacks]  # noqa: B023
    raise DatasetError(f"{len(stacks[0])} slices at one position, and no time that tells them apart")


def _check_geometry(slices: list[Slice]) -> None:
    """Slices in order, with even gaps, stacked along their normal.

    Raises:
        ValueError: otherwise, with what is wrong.
    """
    normal = np.cross(slices[0].cosines[:3], slices[0].cosines[3:])
    steps = np.diff([one.position for one in slices], axis=0)
    gaps = steps @ normal
    usual = float(np.median(gaps))
    wide = gaps > 1.5 * usual
    if wide.any():
        missing = int(np.rint(gaps[wide] / usual - 1).sum())
        at = slices[int(np.argmax(wide))].position @ normal
        raise DatasetError(f"missing slices: {missing} of a spacing of {usual:.3g} mm, the first after {at:.4g} mm")
    if np.abs(gaps - usual).max() > UNEVEN * usual:
        raise DatasetError(f"uneven gaps between slices: {gaps.min():.3g} to {gaps.max():.3g} mm")
    aside = np.linalg.norm(steps - gaps[:, None] * normal, axis=1)
    if aside.max() > UNEVEN * usual:
        raise DatasetError(f"the stack leans by {aside.max():.3g} mm per slice (gantry tilt); resample it first")


def _read(slices: list[Slice]) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([one.file for one in slices])
    try:
        with quiet():
            image = reader.Execute()
    except RuntimeError as error:
        raise DatasetError(_reason(error)) from error
    depth = np.linalg.norm(slices[-1].position - slices[0].position) / (len(slices) - 1)
    image.SetSpacing((*image.GetSpacing()[:2], float(depth)))
    return image


def _information(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise DatasetError(f"{Path(file).name} is not a DICOM image ({_reason(error)})") from error
    return reader


def _tag(reader: sitk.ImageFileReader, tag: str) -> str:
    # text of other encodings than UTF-8 comes with replacement characters
    text = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
    return text.encode("utf-8", "replace").decode("utf-8").strip().strip("\x00")


def _numbers(reader: sitk.ImageFileReader, tag: str, n: int) -> np.ndarray | None:
    try:
        values = np.array([float(v) for v in _tag(reader, tag).split("\\")])
    except ValueError:
        return None
    return values if values.shape == (n,) and np.isfinite(values).all() else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _reason(error: RuntimeError) -> str:
    return " ".join(str(error).strip().splitlines()[-1].split())
