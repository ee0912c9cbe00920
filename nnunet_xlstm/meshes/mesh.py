"""Triangles between labels: one surface for all labels, and the closed surface of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nnunet_xlstm.meshes.surface_nets import Net, used_rows


@dataclass(frozen=True, eq=False)
class Mesh:
    """Walls between labels, cut into triangles; the surfaces of two neighbours use the same ones.

    Attributes:
        points: (n, 3) float64.
        triangles: (t, 3) rows of `points`, right-handed around the normal.
        pairs: (t, 2) the two labels that a triangle parts; its normal points from the first to the second.
    """

    points: np.ndarray
    triangles: np.ndarray
    pairs: np.ndarray

    def moved(self, points: np.ndarray) -> Mesh:
        """Return the same walls with other points."""
        return replace(self, points=points)

    def placed(self, matrix: np.ndarray, offset: np.ndarray) -> Mesh:
        """Move the points to `matrix @ p + offset`; the normals keep their side where the matrix mirrors.

        Args:
            matrix: (3, 3).
            offset: (3,).
        """
        mirrors = np.linalg.det(matrix) < 0
        triangles = self.triangles[:, ::-1] if mirrors else self.triangles
        return replace(self, points=self.points @ matrix.T + offset, triangles=triangles)

    def labels(self) -> list[int]:
        """Return the labels that have a surface, without the background."""
        return [int(label) for label in np.unique(self.pairs) if label != 0]

    def part(self, *labels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the closed surface of the union of some labels, with normals to the outside.

        Returns:
            points (n, 3) and triangles (t, 3). Points of walls that two labels share are equal to the last bit.
        """
        first, second = np.isin(self.pairs, labels).T
        own = first != second
        triangles = np.where(first[own, None], self.triangles[own], self.triangles[own, ::-1])
        return compact(self.points, triangles)


def compact(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop the points that no triangle has; the order of the others stays."""
    used, triangles = used_rows(triangles, len(points))
    return points[used], triangles


def cut(net: Net) -> Mesh:
    """Cut every quad along its shorter diagonal; triangles 2 i and 2 i + 1 are the halves of quad i."""
    a, b, c, d = (net.points[column] for column in net.quads.T)
    other = ((b - d) ** 2).sum(1) < ((a - c) ** 2).sum(1)
    turned = np.where(other[:, None], np.roll(net.quads, -1, axis=1), net.quads)
    triangles = turned[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    return Mesh(net.points, triangles, np.repeat(net.pairs, 2, axis=0))


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cross products of rows of (n, 3); several times as fast as np.cross."""
    return np.stack([a[:, i] * b[:, j] - a[:, j] * b[:, i] for i, j in ((1, 2), (2, 0), (0, 1))], axis=1)


def volume_and_area(points: np.ndarray, triangles: np.ndarray) -> tuple[float, float]:
    """Measure a closed surface; the volume is positive if normals point to the outside (divergence theorem)."""
    if not len(triangles):
        return 0.0, 0.0
    a, b, c = np.moveaxis((points - points.mean(0))[triangles], 1, 0)
    normals = cross(b - a, c - a)
    return float((a * normals).sum() / 6), float(np.linalg.norm(normals, axis=1).sum() / 2)
