"""Distances between the surfaces of two masks.

A surface is the set of border voxels: those of the mask with a neighbour (across a face) outside it, where everything
beyond the array is outside. Distances run between voxel centres, in mm. This is the definition of MONAI and MedPy, and
of most published values; others weight by area or cut between voxels and give other numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

from nnunet_xlstm.errors import DatasetError


def border(mask: np.ndarray) -> np.ndarray:
    """Return the border voxels of a boolean mask of any dimension, as a mask."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        moved, view = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        view[1:] &= moved[:-1]
        view[:-1] &= moved[1:]
        view[0] = view[-1] = False
    return mask & ~inside


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances of every border voxel to the nearest one of the other mask, in mm: (n_reference,), (n_prediction,)."""

    from_reference: np.ndarray
    from_prediction: np.ndarray

    def hd(self) -> float:
        """Return the Hausdorff distance in mm."""
        return float(max(self.from_reference.max(), self.from_prediction.max()))

    def hd95(self, pooled: bool = False) -> float:
        """Return the larger directed 95th percentile in mm, or that of both sets together (`pooled`, MedPy)."""
        if pooled:
            return float(np.percentile(np.concatenate((self.from_reference, self.from_prediction)), 95))
        return float(max(np.percentile(d, 95) for d in (self.from_reference, self.from_prediction)))

    def assd(self) -> float:
        """Return the average symmetric surface distance in mm: the mean over both sets together."""
        n = len(self.from_reference) + len(self.from_prediction)
        return float((self.from_reference.sum() + self.from_prediction.sum()) / n)

    def nsd(self, tolerance: float) -> float:
        """Return the normalized surface Dice: share of both borders within `tolerance` mm of the other one.

        On border voxels, after Nikolov et al., J. Med. Internet Res. 23(7):e26151, 2021.
        """
        tolerance = tolerance * (1 + 1e-9) + 1e-9  # 5 voxels of 0.4 mm are 2 mm, whatever rounding makes of them
        near = (self.from_reference <= tolerance).sum() + (self.from_prediction <= tolerance).sum()
        return float(near / (len(self.from_reference) + len(self.from_prediction)))


def surface_distances(reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure the distances between two boolean masks of one shape, both with at least one voxel.

    Args:
        reference: mask, 2D or 3D.
        prediction: mask of the same shape.
        spacing: mm per voxel along each axis of the arrays.

    Raises:
        DatasetError: a mask is empty: there is no distance.
    """
    if not reference.any() or not prediction.any():
        raise DatasetError("surface distances need two masks that are not empty; decide about empty ones before")
    (box,) = find_objects((reference | prediction).view(np.uint8))
    a, b = border(reference[box]), border(prediction[box])
    both = a & b
    a_points, b_points = (np.argwhere(x & ~both) for x in (a, b))
    scale = np.asarray(spacing, dtype=np.float64)
    shared = int(both.sum())
    from_a = _nearest(a_points, b, scale)
    from_b = _nearest(b_points, a, scale)
    zeros = np.zeros(shared)  # voxels that lie on both borders
    return SurfaceDistances(np.concatenate((zeros, from_a)), np.concatenate((zeros, from_b)))


def _nearest(points: np.ndarray, other: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the distance in mm of each voxel (n, D) to the nearest one of the mask `other`, which has at least one.

    Most borders lie within two voxels of each other: there a look at all places of one distance after another is faster
    than a search in a tree, which is left to the rest.
    """
    distances = np.zeros(len(points))
    shells = _shells(scale)
    reach = np.abs(np.concatenate([offsets for _, offsets in shells])).max(0)
    padded = np.pad(other, [(int(r), int(r)) for r in reach])
    strides = np.array(padded.strides) // padded.itemsize
    flat, places, left = padded.ravel(), (points + reach) @ strides, np.arange(len(points))
    for distance, offsets in shells:
        hit = np.zeros(len(left), bool)
        for step in offsets @ strides:
            hit |= flat[places[left] + step]
        distances[left[hit]] = distance
        left = left[~hit]
    if len(left):
        tree = cKDTree(np.argwhere(other) * scale, compact_nodes=False, balanced_tree=False)
        distances[left] = tree.query(points[left] * scale)[0]
    return distances


def _shells(scale: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """List all steps of at most twice the shortest spacing: (distance in mm, steps (n, D)), nearest first."""
    limit = 2 * scale.min() * (1 + 1e-9)
    reach = (limit // scale).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, len(scale))
    lengths = np.linalg.norm(steps * scale, axis=1)
    near = (lengths > 0) & (lengths <= limit)
    steps, lengths = steps[near], lengths[near]
    return [(float(d), steps[lengths == d]) for d in np.unique(lengths)]
