"""Written files, read back by the few lines a format needs, by trimesh and by VTK."""

import numpy as np
import pytest
from support.mesh_files import read_ply, read_stl, read_vtp
from support.mesh_shapes import seven_touching

from nnunet_xlstm.meshes.mesh import cut
from nnunet_xlstm.meshes.surface_nets import surface_nets
from nnunet_xlstm.meshes.write import WRITERS, write_ply, write_stl, write_vtp


@pytest.fixture(scope="module")
def surface():
    mesh = cut(surface_nets(seven_touching())).placed(np.diag([3.0, -0.5, 0.7]), np.array([-100.25, 7.0, 1e3]))
    return mesh.part(2)


def test_stl(tmp_path, surface):
    points, triangles = surface
    write_stl(tmp_path / "a.stl", points, triangles, "LPS", "left\nventricle ü " + "x" * 90)
    header, normals, corners = read_stl(tmp_path / "a.stl")
    assert header.startswith(b"nnunet_xlstm SPACE=LPS; UNIT=mm; left ventricle ?")
    assert np.array_equal(corners, points.astype(np.float32)[triangles])
    a, b, c = np.moveaxis(corners.astype(float), 1, 0)
    expected = np.cross(b - a, c - a)
    assert np.allclose(normals, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_ply(tmp_path, surface):
    points, triangles = surface
    write_ply(tmp_path / "a.ply", points, triangles, "RAS", "LV\nelement vertex 3")
    lines, read_points, read_triangles = read_ply(tmp_path / "a.ply")
    assert "comment nnunet_xlstm SPACE=RAS; UNIT=mm; LV element vertex 3" in lines
    assert np.array_equal(read_points, points.astype(np.float32)) and np.array_equal(read_triangles, triangles)


def test_vtp(tmp_path, surface):
    points, triangles = surface
    pairs = np.tile([2, 60000], (len(triangles), 1))
    write_vtp(tmp_path / "a.vtp", points, triangles, "LPS", "Höhle <&>", {"Boundary<Labels": pairs})
    arrays, fields = read_vtp(tmp_path / "a.vtp")
    assert fields == {"SPACE": "LPS", "UNIT": "mm", "NAME": "Höhle <&>"}
    assert np.array_equal(arrays["Points"], points.astype(np.float32))
    assert np.array_equal(arrays["connectivity"].reshape(-1, 3), triangles)
    assert arrays["offsets"].ravel().tolist() == list(range(3, 3 * len(triangles) + 1, 3))
    assert np.array_equal(arrays["Boundary<Labels"], pairs)


@pytest.mark.parametrize("kind", ["stl", "ply"])
def test_trimesh_reads_them(tmp_path, surface, kind):
    trimesh = pytest.importorskip("trimesh")
    points, triangles = surface
    WRITERS[kind](tmp_path / f"a.{kind}", points, triangles, "LPS", "a")
    other = trimesh.load(tmp_path / f"a.{kind}")
    assert len(other.faces) == len(triangles)
    assert np.allclose(np.sort(other.triangles.reshape(-1, 3), 0), np.sort(points[triangles].reshape(-1, 3), 0))
    assert other.volume == pytest.approx((seven_touching() == 2).sum() * 3 * 0.5 * 0.7, rel=1e-4)


def test_vtk_reads_vtp(tmp_path, surface):
    module = pytest.importorskip("vtkmodules.vtkIOXML")
    from vtkmodules.util.numpy_support import vtk_to_numpy

    points, triangles = surface
    pairs = np.tile([2, 0], (len(triangles), 1))
    write_vtp(tmp_path / "a.vtp", points, triangles, "RAS", "a", {"BoundaryLabels": pairs})
    reader = module.vtkXMLPolyDataReader()
    reader.SetFileName(str(tmp_path / "a.vtp"))
    reader.Update()
    found = reader.GetOutput()
    assert np.array_equal(vtk_to_numpy(found.GetPoints().GetData()), points.astype(np.float32))
    assert np.array_equal(vtk_to_numpy(found.GetPolys().GetConnectivityArray()).reshape(-1, 3), triangles)
    assert np.array_equal(vtk_to_numpy(found.GetCellData().GetArray("BoundaryLabels")), pairs)
    assert found.GetFieldData().GetAbstractArray("SPACE").GetValue(0) == "RAS"


@pytest.mark.parametrize("kind", WRITERS)
def test_empty_surface(tmp_path, kind):
    WRITERS[kind](tmp_path / "a", np.empty((0, 3)), np.empty((0, 3), np.int64), "LPS", "")
    assert (tmp_path / "a").stat().st_size > 80
