"""From the images of a DICOM series to stacks: which images lie behind each other, and which follow in time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import numpy as np

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.headers import KINDS, TIMES, Plane

PARALLEL = 1e-3  # greatest difference of direction cosines within a stack
SAME_PLACE_MM = 0.01
UNEVEN = 0.1  # greatest deviation of a gap between slices from their median, as a share of it
MAX_ASIDE_PIXELS = 0.5  # greatest distance of a slice from the line along the first one's normal
TRIGGER = 1  # among TIMES
LOCALIZER = "LOCALIZER"  # a value of ImageType


@dataclass(frozen=True)
class Stack:
    """Parallel slices, at one time or at several.

    Attributes:
        frames: for each time, its slices in the order of their normal; empty where the stack cannot be used.
        reason: why not.
    """

    frames: tuple[tuple[Plane, ...], ...] = ()
    reason: str = ""

    def interval_ms(self) -> float:
        """Return the time from frame to frame: the median step of the trigger times, else as INTERVAL; 0: unknown."""
        times = [frame[0].times[TRIGGER] for frame in self.frames]
        steps = np.diff([float(_number(t)) for t in times]) if all(times) else np.empty(0)
        if len(steps) and steps.min() > 0:
            return float(np.median(steps))
        return self.frames[0][0].interval_ms if self.frames else 0.0


def without_copies(planes: Sequence[Plane]) -> list[Plane]:
    """Return the images in the order of their numbers, each instance once.

    A copy has the SOPInstanceUID of another and lies at its place; an archive may hold the same file twice.
    """
    kept: dict[tuple, Plane] = {}
    for plane in sorted(planes, key=lambda p: (p.number, p.file, p.index)):
        key = (plane.instance or plane.file, plane.index, plane.number, *plane.position, *plane.times)
        kept.setdefault(key, plane)
    return list(kept.values())


def find_stacks(planes: Sequence[Plane]) -> list[Stack]:
    """Split the images of a series into stacks, in the order of their first images.

    Images of one stack have one size, pixel spacing, orientation and StackID. Images at one place are told apart by
    KINDS (then each kind is a stack of its own), else by the first of TIMES that differs among all of them (then they
    are frames). Of a localizer, and where nothing orders the images at a single place, every image is a stack.
    """
    groups: list[list[Plane]] = []
    for plane in planes:
        home = next((group for group in groups if _are_alike(group[0], plane)), None)
        if home is None:
            groups.append([plane])
        else:
            home.append(plane)
    return [stack for group in groups for stack in _stacks(group)]


def _are_alike(a: Plane, b: Plane) -> bool:
    return (
        a.size == b.size
        and a.stack == b.stack
        and np.allclose(a.spacing, b.spacing, rtol=1e-3)
        and np.abs(a.cosines - b.cosines).max() <= PARALLEL
    )


def _stacks(planes: Sequence[Plane]) -> list[Stack]:
    if LOCALIZER in planes[0].tags.get("ImageType", "").split("\\"):
        return [Stack(((plane,),)) for plane in planes]
    places = _places(planes)
    counts = Counter(len(place) for place in places)
    if set(counts) == {1}:
        return [_checked([[place[0] for place in places]])]
    for kind in range(len(KINDS)):
        if parts := _parts(planes, kind, max(counts)):
            return [stack for part in parts for stack in _stacks(part)]
    if len(counts) > 1:
        return [Stack(reason=_unequal(places, counts))]
    for time in range(len(TIMES)):
        values = [[plane.times[time] for plane in place] for place in places]
        if all(all(v) and len(set(v)) == len(v) for v in values):
            ordered = [sorted(place, key=lambda p: _number(p.times[time])) for place in places]  # noqa: B023
            return [_checked([list(frame) for frame in zip(*ordered, strict=True)])]
    if len(places) == 1:
        return [Stack(((plane,),)) for plane in planes]
    names = ", ".join(plane.name for plane in places[0][:3])
    return [Stack(reason=f"{max(counts)} slices at one position ({names}), and no time that tells them apart")]


def _places(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Group images by place, along the normal of the first image; in their order within a place."""
    normal = planes[0].normal
    order = sorted(range(len(planes)), key=lambda i: (float(planes[i].position @ normal), i))
    places: list[list[int]] = []
    for i in order:
        if places and np.linalg.norm(planes[i].position - planes[places[-1][0]].position) <= SAME_PLACE_MM:
            places[-1].append(i)
        else:
            places.append([i])
    return [[planes[i] for i in sorted(place)] for place in places]


def _parts(planes: Sequence[Plane], kind: int, most: int) -> list[list[Plane]]:
    """Split images by the values of a kind.

    Returns:
        The images of each value; empty if there is one value alone, or if it does not explain why there are several
        images at a place: then there are more values than images, or a value has them unevenly.
    """
    parts: dict[str, list[Plane]] = {}
    for plane in planes:
        parts.setdefault(plane.kinds[kind], []).append(plane)
    even = all(len({len(place) for place in _places(part)}) == 1 for part in parts.values())
    return list(parts.values()) if 1 < len(parts) <= most and even else []


def _unequal(places: Sequence[Sequence[Plane]], counts: Counter) -> str:
    usual = max(counts, key=lambda n: (counts[n], n))
    place = next(place for place in places if len(place) != usual)
    at = f"at {_along(place[0]):.4g} mm along the normal"
    if len(place) > usual:
        names = ", ".join(plane.name for plane in place[:4])
        return f"a slice that is there twice: {len(place)} {at} ({names}), {usual} elsewhere; remove what is double"
    return f"missing slices: {len(place)} {at}, {usual} elsewhere"


def _checked(frames: Sequence[Sequence[Plane]]) -> Stack:
    try:
        _check_geometry(frames[0])
    except DatasetError as error:
        return Stack(reason=str(error))
    return Stack(tuple(map(tuple, frames)))


def _check_geometry(slices: Sequence[Plane]) -> None:
    """Check that slices have even gaps and are stacked along their normal.

    Raises:
        DatasetError: otherwise, with what is wrong.
    """
    if len(slices) == 1:
        return
    from_first = np.array([plane.position for plane in slices]) - slices[0].position
    along = from_first @ slices[0].normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if gaps.min() <= SAME_PLACE_MM:
        raise DatasetError("slices side by side in one plane")
    wide = gaps > 1.5 * usual
    if wide.any():
        missing = int(np.rint(gaps[wide] / usual - 1).sum())
        at = _along(slices[int(np.argmax(wide))])
        raise DatasetError(f"missing slices: {missing} of a spacing of {usual:.3g} mm, the first after {at:.4g} mm")
    if np.abs(gaps - usual).max() > UNEVEN * usual:
        raise DatasetError(f"uneven gaps between slices: {gaps.min():.3g} to {gaps.max():.3g} mm")
    aside = np.linalg.norm(from_first - along[:, None] * slices[0].normal, axis=1)
    worst = int(aside.argmax())
    if aside[worst] > MAX_ASIDE_PIXELS * min(slices[0].spacing):
        angle = math.degrees(math.atan2(aside[worst], along[worst]))
        raise DatasetError(
            f"a gantry tilt of {angle:.2g} degrees: a slice lies {aside[worst]:.3g} mm beside the line along the "
            "normal of the first, more than half a pixel; resample the series first, for instance with dcm2niix"
        )


def _along(plane: Plane) -> float:
    return float(plane.position @ plane.normal)


def _number(text: str) -> Decimal:
    """Turn a time into a number that orders it; a date's time zone does not count."""
    try:
        return Decimal(text.split("+")[0])
    except InvalidOperation:
        return Decimal(0)
