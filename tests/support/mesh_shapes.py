"""Label maps and measures that the tests of meshes share."""

import numpy as np


def radius(shape, center=None) -> np.ndarray:
    """Distance of every voxel from a centre, in voxels."""
    center = (np.array(shape) - 1) / 2 if center is None else np.array(center)
    return np.sqrt(((np.indices(shape) - center.reshape(3, 1, 1, 1)) ** 2).sum(0))


def shells() -> np.ndarray:
    """A ball in a shell in a shell of one to two voxels in a shell."""
    r = radius((36, 36, 36))
    return np.select([r < 7, r < 9.5, r < 11, r < 15], [1, 2, 3, 4], 0).astype(np.uint8)


def seven_touching() -> np.ndarray:
    """Seven balls that run into each other; every voxel belongs to the nearest."""
    centers = np.array([16, 24, 24]) + [
        (0, 0, 0), (5, 9, 0), (-5, -9, 2), (0, 7, 11), (2, -7, -11), (9, 0, 3), (-9, 2, 0),
    ]  # fmt: skip
    depth = np.stack([radius((34, 48, 48), c) - r for c, r in zip(centers, (8, 7, 7, 6, 6, 6, 7), strict=True)])
    return np.where(depth.min(0) < 0, depth.argmin(0) + 1, 0).astype(np.uint8)


def thin() -> np.ndarray:
    """A sheet of one voxel, a thread of one, a rod of 3 x 3, a single voxel, and 5 voxels in a cross."""
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[4, 3:20, 3:20] = 1
    labels[8, 8, 3:20] = 2
    labels[12:15, 12:15, 3:20] = 3
    labels[20, 20, 20] = 4
    labels[18, 5:8, 6] = labels[18, 6, 5:8] = 5
    return labels


def noise(n_labels: int, share: float = 1.0) -> np.ndarray:
    """Random labels: every way in which voxels can touch."""
    rng = np.random.default_rng(0)
    return (rng.integers(1, n_labels + 1, (9, 10, 11)) * (rng.random((9, 10, 11)) < share)).astype(np.uint8)


def checkerboard() -> np.ndarray:
    return (np.indices((2, 2, 2)).sum(0) % 2).astype(np.uint8)


def edge_counts(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per edge: the number of triangles, and how often it is run through forwards minus backwards."""
    ends = np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=-1).reshape(-1, 2)
    forwards = np.where(ends[:, 0] < ends[:, 1], 1, -1)
    _, edge = np.unique(np.sort(ends, axis=1), axis=0, return_inverse=True)
    return np.bincount(edge.ravel()), np.bincount(edge.ravel(), forwards)


def is_closed(triangles: np.ndarray) -> bool:
    """Every edge has an even number of triangles, half of them in each direction."""
    total, balance = edge_counts(triangles)
    return bool((total % 2 == 0).all() and (balance == 0).all())
