"""Surface distances: by hand, against brute force, and against MONAI where it is installed."""

import numpy as np
import pytest

from nnunet_xlstm.evaluation.surface import border, surface_distances


def cube(shape, start, size):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = True
    return mask


def brute_force(reference, prediction, spacing):
    """Border voxels by looking at every neighbour, distances by all pairs."""
    sets = []
    for mask in (reference, prediction):
        padded = np.pad(mask, 1)
        points = []
        for index in np.argwhere(mask):
            neighbors = [index + 1 + step * axis for axis in np.eye(mask.ndim, dtype=int) for step in (-1, 1)]
            if not all(padded[tuple(n)] for n in neighbors):
                points.append(index * np.asarray(spacing))
        sets.append(np.array(points))
    pairs = np.linalg.norm(sets[0][:, None] - sets[1][None], axis=-1)
    return pairs.min(1), pairs.min(0)


def test_two_voxels():
    a, b = np.zeros((2, 10, 10, 10), dtype=bool)
    a[2, 2, 2] = b[2, 5, 6] = True
    found = surface_distances(a, b, (3, 1, 1))
    assert found.hd() == found.hd95() == found.assd() == 5
    assert found.nsd(4.9) == 0 and found.nsd(5.0) == 1


@pytest.mark.parametrize(
    "shift, hd, assd, nsd", [((0, 0, 4), 4, 1.435, 0.664), ((2, 0, 0), 6, 1.712, 0.690), ((0, 0, 0), 0, 0, 1)]
)
def test_shifted_cubes(shift, hd, assd, nsd):
    """A cube of 20^3 moved along one axis, spacing (3, 1, 1), tolerance 2 mm: as MONAI and MedPy have it."""
    a = cube((40, 40, 40), (5, 5, 5), (20, 20, 20))
    b = cube((40, 40, 40), tuple(5 + s for s in shift), (20, 20, 20))
    found = surface_distances(a, b, (3, 1, 1))
    assert found.hd() == hd
    assert found.assd() == pytest.approx(assd, abs=6e-4) and found.nsd(2) == pytest.approx(nsd, abs=6e-4)


def test_plates_a_tolerance_apart_are_near_wherever_they_lie():
    """5 voxels of 0.4 mm are 2 mm, though 0.4 is no binary fraction."""
    for start in range(9):
        a, b = cube((20, 10, 10), (start, 0, 0), (1, 10, 10)), cube((20, 10, 10), (start + 5, 0, 0), (1, 10, 10))
        assert surface_distances(a, b, (0.4, 1, 1)).nsd(2.0) == 1


def test_by_hand():
    """A row of three against its first voxel: one border voxel at 0, one at 2, one at 4 mm; back: one at 0."""
    a, b = np.zeros((2, 1, 1, 5), dtype=bool)
    a[..., 1:4] = b[..., 1] = True
    found = surface_distances(a, b, (1, 1, 2))
    assert found.hd() == 4
    assert found.assd() == (0 + 2 + 4 + 0) / 4
    assert found.hd95() == pytest.approx(3.8)  # linear between 2 and 4 at rank 1.9
    assert found.hd95(pooled=True) == pytest.approx(np.percentile([0, 2, 4, 0], 95))
    assert found.nsd(2) == 3 / 4


def test_far_voxel_moves_hd_only():
    a = cube((30, 30, 40), (5, 5, 5), (20, 20, 10))
    b = a.copy()
    b[5, 5, 35] = True
    found = surface_distances(a, b, (1, 1, 1))
    assert found.hd() == 21 and found.hd95() == 0


def test_array_edge_is_a_border():
    full = np.ones((4, 4, 4), dtype=bool)
    assert border(full).sum() == 4**3 - 2**3
    a, b = cube((10, 10, 10), (0, 0, 0), (5, 5, 4)), cube((10, 10, 10), (0, 0, 0), (5, 5, 8))
    assert surface_distances(a, b, (1, 1, 1)).hd() == 4


@pytest.mark.parametrize("seed", range(6))
def test_equals_brute_force_on_random_masks(seed):
    rng = np.random.default_rng(seed)
    spacing = rng.uniform(0.5, 3, 3)
    a, b = (rng.random((12, 12, 12)) < rng.uniform(0.01, 0.6) for _ in range(2))
    found = surface_distances(a, b, spacing)
    for ours, theirs in zip((found.from_reference, found.from_prediction), brute_force(a, b, spacing), strict=True):
        np.testing.assert_allclose(np.sort(ours), np.sort(theirs), rtol=1e-12)


def test_two_dimensions():
    rng = np.random.default_rng(0)
    a, b = (rng.random((12, 15)) < 0.4 for _ in range(2))
    found = surface_distances(a, b, (2, 1))
    np.testing.assert_allclose(np.sort(found.from_reference), np.sort(brute_force(a, b, (2, 1))[0]))


def test_spheres():
    """Radii 30 and 33 mm on thick slices: 3 mm apart within a voxel, and the same seen from either side."""
    z, y, x = np.ogrid[-12:13, -36:37, -36:37]
    r = np.sqrt((3 * z) ** 2 + y**2 + x**2)
    one, two = (surface_distances(*pair, (3, 1, 1)) for pair in ((r <= 30, r <= 33), (r <= 33, r <= 30)))
    assert one.hd() == pytest.approx(3.742, abs=1e-3)
    assert one.assd() == pytest.approx(2.835, abs=1e-3) and one.nsd(2) == pytest.approx(0.109, abs=1e-3)
    assert one.hd() == two.hd() and one.assd() == pytest.approx(two.assd())


def test_empty_is_refused():
    empty, full = np.zeros((3, 3, 3), dtype=bool), np.ones((3, 3, 3), dtype=bool)
    with pytest.raises(ValueError, match="not empty"):
        surface_distances(empty, full, (1, 1, 1))


def test_equals_monai():
    metrics = pytest.importorskip("monai.metrics")
    import torch

    rng = np.random.default_rng(3)
    a, b = (rng.random((14, 16, 18)) < 0.3 for _ in range(2))
    tensors = [torch.from_numpy(m)[None, None].float() for m in (b, a)]
    found, spacing = surface_distances(a, b, (3, 1, 1.5)), [3.0, 1.0, 1.5]
    hausdorff = metrics.compute_hausdorff_distance
    theirs = [
        hausdorff(*tensors, include_background=True, spacing=spacing).item(),
        hausdorff(*tensors, include_background=True, percentile=95, spacing=spacing).item(),
        metrics.compute_average_surface_distance(
            *tensors, include_background=True, symmetric=True, spacing=spacing
        ).item(),
    ]
    assert [found.hd(), found.hd95(), found.assd()] == pytest.approx(theirs, rel=1e-5)
