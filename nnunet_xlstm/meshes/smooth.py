"""Smooth a net as a whole, so that walls stay shared and every label keeps its volume.

A step moves every vertex towards the mean of its neighbours, not out of its cell (the constrained elastic net of Gibson
1998). Alone, this shrinks convex structures: 30 such steps cost small ones several per cent of their volume. So two
things are added. The part of a step along the wall's normal loses its local mean: walls do not drift, and thin tubes do
not collapse. At the end each label gets the pressure that restores its volume, the smallest joint displacement that
does: a Newton step on the volumes, as in Kuprat et al., "Volume conserving smoothing for piecewise linear curves,
surfaces, and triple lines", J. Comput. Phys. 172, 2001.

All of it happens in voxels along the array's axes: means of neighbours and ratios of volumes do not depend on the
spacing, so a label map gives the same net whatever its spacing and direction.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from nnunet_xlstm.choices import SMOOTHING_STEPS
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.meshes.mesh import Mesh, cross, cut
from nnunet_xlstm.meshes.surface_nets import Net

PULL = 0.5  # share of the way to the mean of the neighbours
REACH = 0.5  # voxels: how far a vertex may go from the centre of its cell along each axis
SPREAD = 4  # rings of neighbours over which the local mean is taken
MAX_ROUNDS, TOLERANCE = 10, 1e-3  # of the volumes; the tolerance is relative


def smooth(net: Net, steps: int = SMOOTHING_STEPS) -> Mesh:
    """Smooth walls; each label has the volume of its voxels, to about 0.1 %.

    Args:
        net: unsmoothed, as surface_nets returns it.
        steps: 0 leaves the faces of the voxels.

    Raises:
        DatasetError: steps are negative.
    """
    if steps < 0:
        raise DatasetError(f"{steps} smoothing steps were asked for; use 0 (none) or more")
    if steps == 0 or not len(net.quads):
        return cut(net)
    home, points = net.points, net.points
    mean = _mean_of_neighbors(net.quads, len(home))
    corners = _quads_at_points(net)
    for _ in range(steps):
        move = PULL * (mean @ points - points)
        normal = _normals(net.quads, points + move, corners)
        along = (move * normal).sum(1)
        for _ in range(SPREAD):
            along = mean @ along
        move -= along[:, None] * normal
        points = _within_cells(points + move, home)
    return restore_volumes(cut(Net(points, net.quads, net.pairs)), home)


def restore_volumes(mesh: Mesh, home: np.ndarray) -> Mesh:
    """Find the closest mesh whose labels have the volumes they have with the points `home`, the cells' centers.

    In rounds, because a point may not leave its cell. A label that has lost most of its volume starts again from its
    voxels: where it collapsed to a thread or a point, its volume no longer depends on its points.
    """
    labels, rows = np.unique(mesh.pairs, return_inverse=True)
    rows = rows.reshape(-1, 2)
    kept = labels != 0
    target = _volumes(mesh.moved(home), rows, len(labels))[kept]
    points = _within_cells(mesh.points, home)
    lost = _volumes(mesh.moved(points), rows, len(labels))[kept] < target / 2
    again = np.unique(mesh.triangles[np.isin(mesh.pairs, labels[kept][lost]).any(1)])
    points[again] = home[again]
    mesh = mesh.moved(points)
    free = np.ones(mesh.points.shape, bool)
    for _ in range(MAX_ROUNDS):
        missing = target - _volumes(mesh, rows, len(labels))[kept]
        if (np.abs(missing) <= TOLERANCE * target).all():
            break
        gradient = [axis[kept] for axis in _volume_gradient(mesh, rows, len(labels), free)]
        metric = sum((g @ g.T for g in gradient[1:]), gradient[0] @ gradient[0].T)
        small = 1e-9 * metric.trace() + 1e-30
        metric = metric + small * sparse.csr_array(sparse.eye(len(missing)))  # a label may have no free point
        pressure = np.atleast_1d(spsolve(sparse.csc_array(metric), missing))
        pushed = mesh.points + np.stack([g.T @ pressure for g in gradient], axis=1)
        mesh = mesh.moved(_within_cells(pushed, home))
        free &= mesh.points == pushed  # what met the border of its cell stays there, and the others go further
    return mesh


def _within_cells(points: np.ndarray, home: np.ndarray) -> np.ndarray:
    return np.clip(points, home - REACH, home + REACH)


def _mean_of_neighbors(quads: np.ndarray, n: int) -> sparse.csr_array:
    """Return (n, n): rows sum to 1 over a vertex's neighbors along the sides of the quads.

    A side where more than two walls meet is part of a seam. A vertex on a seam listens to the seam alone: else the wall
    inside would pull a groove into the surface outside.
    """
    i, j = quads.ravel(), np.roll(quads, -1, axis=1).ravel()
    ones = np.ones(2 * len(i), np.float32)
    sides = sparse.coo_array((ones, (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsr()  # adds up: quads per side
    seam = (sides.data != 2).astype(np.float32)
    on_seam = np.add.reduceat(seam, sides.indptr[:-1]) >= 2
    per_row = np.diff(sides.indptr)
    weights = np.where(np.repeat(on_seam, per_row), seam, 1.0)
    sides.data = weights / np.repeat(np.add.reduceat(weights, sides.indptr[:-1]), per_row)
    sides.eliminate_zeros()
    return sides


def _quads_at_points(net: Net) -> sparse.csr_array:
    """Return (n, q): 1 where a quad has the vertex, -1 if its normal points to the higher label: sheets agree."""
    sign = np.where(net.pairs[:, 0] > net.pairs[:, 1], 1.0, -1.0)
    columns = np.repeat(np.arange(len(net.quads)), 4)
    shape = (len(net.points), len(net.quads))
    return sparse.coo_array((np.repeat(sign, 4), (net.quads.ravel(), columns)), shape=shape).tocsr()


def _normals(quads: np.ndarray, points: np.ndarray, corners: sparse.csr_array) -> np.ndarray:
    """Return (n, 3) unit normals of the vertices."""
    a, b, c, d = (points[column] for column in quads.T)
    normal = corners @ cross(c - a, d - b)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)


def _volumes(mesh: Mesh, rows: np.ndarray, n_labels: int) -> np.ndarray:
    """Return the volume per label: the sum of a . (b x c) / 6 over its triangles. `rows`: the pairs as indices."""
    a, b, c = (mesh.points[column] for column in mesh.triangles.T)
    cone = (a * cross(b, c)).sum(1) / 6
    return np.bincount(rows[:, 0], cone, n_labels) - np.bincount(rows[:, 1], cone, n_labels)


def _volume_gradient(mesh: Mesh, rows: np.ndarray, n_labels: int, free: np.ndarray) -> list[sparse.csr_array]:
    """Return d volume / d coordinate, 0 for coordinates that are not free: one (labels, points) per axis."""
    a, b, c = (mesh.points[column] for column in mesh.triangles.T)
    per_corner = np.stack([cross(b, c), cross(c, a), cross(a, b)], axis=1) / 6 * free[mesh.triangles]
    index = (np.r_[np.repeat(rows[:, 0], 3), np.repeat(rows[:, 1], 3)], np.tile(mesh.triangles.ravel(), 2))
    shape = (n_labels, len(mesh.points))
    values = (per_corner[..., axis].ravel() for axis in range(3))
    return [sparse.coo_array((np.r_[v, -v], index), shape=shape).tocsr() for v in values]
