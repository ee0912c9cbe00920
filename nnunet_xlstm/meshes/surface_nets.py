"""Multi-label surface nets: the walls between the labels of a map as one mesh that neighbours share.

Every 2x2x2 group of voxels that holds more than one label gets one vertex, and every pair of voxels that touch by a
face and differ gets one quad through the four cells around that face (Gibson, "Constrained elastic surface nets",
MICCAI 1998; for many labels Frisken, "SurfaceNets for multi-label segmentations with preservation of sharp
boundaries", JCGT 11(1), 2022). Before smoothing the quads are the faces of the voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from nnunet_xlstm.errors import DatasetError


@dataclass(frozen=True, eq=False)
class Net:
    """Walls between labels.

    Attributes:
        points: (n, 3) float64, in voxels along the axes of the array (centres of voxels are whole numbers).
        quads: (q, 4) rows of `points`, turning right-handed in the array's axes around the normal.
        pairs: (q, 2) the two labels that a quad parts; its normal points from the first to the second.
    """

    points: np.ndarray
    quads: np.ndarray
    pairs: np.ndarray


def surface_nets(labels: np.ndarray) -> Net:
    """Extract the walls of a label map, unsmoothed; a structure at the edge of the array is closed there.

    Args:
        labels: (z, y, x) whole numbers, 0 is the background.

    Raises:
        DatasetError: not three axes, or no whole numbers.
    """
    if labels.ndim != 3 or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise DatasetError(
            f"a label map of {labels.ndim} axes and type {labels.dtype} was given; give whole numbers on 3 axes"
        )
    if not labels.any():
        return Net(np.empty((0, 3)), np.empty((0, 4), np.int64), np.empty((0, 2), labels.dtype))
    box = find_objects((labels != 0).view(np.uint8))
    first = np.array([axis.start for axis in box[0]])
    padded = np.pad(labels[box[0]], 1)
    cells = np.array(padded.shape) - 1  # cell i lies between the voxels i and i + 1
    quads, pairs = zip(*(_walls(padded, cells, axis) for axis in range(3)), strict=True)
    quads, pairs = np.concatenate(quads), np.concatenate(pairs)
    used, quads = used_rows(quads, int(np.prod(cells)))
    points = np.stack(np.unravel_index(used, cells), axis=1) + (first - 0.5)  # -1 for the pad, +0.5 to the centre
    return Net(points, quads, pairs)


def used_rows(rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of n rows are used, in order, and `rows` (any shape) as places among these."""
    place = np.zeros(n, np.int32)
    place[rows] = 1
    used = np.flatnonzero(place)
    place[used] = np.arange(len(used), dtype=np.int32)
    return used, place[rows].astype(np.int64)


def _walls(padded: np.ndarray, cells: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return quads (flat numbers of cells) and label pairs of voxels that differ from their neighbor along an axis."""
    rows = np.moveaxis(padded, axis, 0)
    below, above = np.moveaxis(rows[:-1], 0, axis), np.moveaxis(rows[1:], 0, axis)
    where = np.nonzero(below != above)
    steps = np.array([cells[1] * cells[2], cells[2], 1])
    corner = sum(index * step for index, step in zip(where, steps, strict=True))
    b, c = steps[(axis + 1) % 3], steps[(axis + 2) % 3]  # right-handed with `axis`: the normal goes up
    quads = np.stack([corner - b - c, corner - c, corner, corner - b], axis=1)
    return quads, np.stack([below[where], above[where]], axis=1)
