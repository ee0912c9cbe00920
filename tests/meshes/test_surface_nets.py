"""Unsmoothed nets: hand-computed boxes, closed surfaces, shared walls, winding, and trimesh as a second opinion."""

import numpy as np
import pytest
from support.mesh_shapes import checkerboard, edge_counts, is_closed, noise, seven_touching, shells

from nnunet_xlstm.meshes.mesh import cut, volume_and_area
from nnunet_xlstm.meshes.surface_nets import surface_nets

MAPS = {
    "shells": shells(),
    "seven": seven_touching(),
    "noise": noise(4, 0.7),
    "full noise": noise(3),
    "sparse noise": noise(1, 0.1),
    "checkerboard": checkerboard(),
}


def test_one_voxel_is_a_unit_cube():
    net = surface_nets(np.ones((1, 1, 1), np.uint8))
    assert len(net.points) == 8 and len(net.quads) == 6
    assert sorted(map(tuple, net.points)) == [(z, y, x) for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)]
    points, triangles = cut(net).part(1)
    assert volume_and_area(points, triangles) == pytest.approx((1, 6))
    assert is_closed(triangles)


def test_two_voxels_share_a_wall():
    labels = np.zeros((3, 3, 4), np.uint8)
    labels[1, 1, 1], labels[1, 1, 2] = 1, 2
    net = surface_nets(labels)
    assert len(net.points) == 12 and len(net.quads) == 11  # 5 + 5 outside, 1 between
    (wall,) = net.quads[(net.pairs != 0).all(1)]
    assert sorted(map(tuple, net.points[wall])) == [(z, y, 1.5) for z in (0.5, 1.5) for y in (0.5, 1.5)]
    for label in (1, 2):
        assert volume_and_area(*cut(net).part(label)) == pytest.approx((1, 6))
    assert volume_and_area(*cut(net).part(1, 2)) == pytest.approx((2, 10))


def test_checkerboard():
    """Four voxels that touch along edges: 24 faces, every edge of the inside has four of them."""
    points, triangles = cut(surface_nets(checkerboard())).part(1)
    assert volume_and_area(points, triangles) == pytest.approx((4, 24))
    assert len(triangles) == 48 and is_closed(triangles)
    assert sorted(set(edge_counts(triangles)[0])) == [2, 4]


def test_cube_at_the_edge_of_the_array_is_closed():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[:3, 2:, 4:] = 3
    points, triangles = cut(surface_nets(labels)).part(3)
    assert is_closed(triangles)
    assert volume_and_area(points, triangles) == pytest.approx((3 * 4 * 3, 2 * (12 + 12 + 9)))
    assert points.min(0).tolist() == [-0.5, 1.5, 3.5] and points.max(0).tolist() == [2.5, 5.5, 6.5]


@pytest.mark.parametrize("labels", MAPS.values(), ids=MAPS)
def test_volumes_and_areas_are_those_of_the_voxels(labels):
    mesh = cut(surface_nets(labels))
    padded = np.pad(labels, 1)
    for label in mesh.labels():
        mask = padded == label
        faces = sum(int((mask != np.roll(mask, 1, axis)).sum()) for axis in range(3))
        points, triangles = mesh.part(label)
        assert is_closed(triangles)
        assert volume_and_area(points, triangles) == pytest.approx((mask.sum(), faces))


@pytest.mark.parametrize("name", ["noise", "full noise", "sparse noise", "checkerboard"])
def test_quads_are_the_faces_between_different_voxels(name):
    """The naive loop over pairs of voxels, with the side each quad's normal points to."""
    labels = MAPS[name]
    padded = np.pad(labels.astype(int), 1)
    expected = {}
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        for p in np.ndindex(*(np.array(padded.shape) - step)):
            pair = padded[p], padded[tuple(np.array(p) + step)]
            if pair[0] != pair[1]:
                expected[tuple(np.array(p) - 1 + step / 2), axis] = pair
    net = surface_nets(labels)
    a, b, c, _ = (net.points[column] for column in net.quads.T)
    normals = np.cross(b - a, c - a)
    found = {}
    for center, normal, pair in zip(net.points[net.quads].mean(1), normals, net.pairs.tolist(), strict=True):
        axis = int(np.abs(normal).argmax())
        found[tuple(center), axis] = tuple(pair) if normal[axis] > 0 else tuple(pair[::-1])
    assert found == expected


def test_no_labels_no_net():
    for shape in ((4, 5, 6), (0, 3, 3)):
        mesh = cut(surface_nets(np.zeros(shape, np.uint8)))
        assert mesh.labels() == [] and len(mesh.points) == 0 and len(mesh.triangles) == 0
        assert volume_and_area(*mesh.part(1)) == (0, 0)


@pytest.mark.parametrize("labels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.float32)])
def test_refuses_what_is_no_label_map(labels):
    with pytest.raises(ValueError, match="whole numbers on 3 axes"):
        surface_nets(labels)


def test_large_ids_and_bool():
    labels = np.where(shells() > 1, 60000, 0).astype(np.uint16)
    assert cut(surface_nets(labels)).labels() == [60000]
    assert cut(surface_nets(labels > 0)).labels() == [1]


@pytest.mark.parametrize(
    "matrix",
    [np.diag([3.0, 1.0, 0.5]), np.diag([-2.0, 1.0, 1.0]), [[0.8, -0.6, 0.0], [0.6, 0.8, 0.3], [0.1, 0.0, 2.0]]],
    ids=["spacing", "mirrored", "oblique"],
)
def test_placing_keeps_normals_outside(matrix):
    matrix = np.array(matrix)
    mesh = cut(surface_nets(shells())).placed(matrix, np.array([10.0, -20.0, 30.0]))
    for label, voxels in enumerate(np.bincount(shells().ravel())[1:], 1):
        volume, _ = volume_and_area(*mesh.part(label))
        assert volume == pytest.approx(voxels * abs(np.linalg.det(matrix)))


def test_trimesh_agrees():
    trimesh = pytest.importorskip("trimesh")
    mesh = cut(surface_nets(shells()))
    for label, voxels in enumerate(np.bincount(shells().ravel())[1:], 1):
        other = trimesh.Trimesh(*mesh.part(label), process=False)
        assert other.is_watertight and other.is_winding_consistent
        assert other.volume == pytest.approx(voxels)
