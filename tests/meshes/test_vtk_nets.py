"""The VTK backend against our own nets; without VTK a message that says what to do."""

import subprocess
import sys

import numpy as np
import pytest
from support.mesh_shapes import is_closed, noise, seven_touching, shells, thin

from nnunet_xlstm.meshes import vtk_nets
from nnunet_xlstm.meshes.mesh import cut, volume_and_area
from nnunet_xlstm.meshes.surface_nets import surface_nets

MAPS = {"seven": seven_touching(), "shells": shells(), "noise": noise(4, 0.7), "thin": thin()}


def faces(mesh):
    """Centre of every triangle with its normal and the two labels, the normal pointing from the first to the second."""
    a, b, c = np.moveaxis(mesh.points[mesh.triangles], 1, 0)
    normals = np.cross(b - a, c - a)
    flip = mesh.pairs[:, 0] > mesh.pairs[:, 1]
    normals = np.where(flip[:, None], -normals, normals)
    rows = np.concatenate([(a + b + c) / 3, normals, np.sort(mesh.pairs, axis=1)], axis=1)
    quads = rows.reshape(-1, 2, rows.shape[1]).mean(1).round(6)  # how a quad is cut may differ
    return quads[np.lexsort(quads.T)]


@pytest.mark.parametrize("labels", MAPS.values(), ids=MAPS)
def test_same_walls(labels):
    pytest.importorskip("vtkmodules.vtkFiltersCore")
    assert np.array_equal(faces(vtk_nets.mesh_with_vtk(labels, 0)), faces(cut(surface_nets(labels))))


@pytest.mark.parametrize("labels", MAPS.values(), ids=MAPS)
def test_smoothed_volumes_stay(labels):
    pytest.importorskip("vtkmodules.vtkFiltersCore")
    mesh = vtk_nets.mesh_with_vtk(labels, 20)
    for label in mesh.labels():
        points, triangles = mesh.part(label)
        assert is_closed(triangles)
        assert volume_and_area(points, triangles)[0] / (labels == label).sum() == pytest.approx(1, abs=0.002)


def test_loads_no_rendering_library():
    pytest.importorskip("vtkmodules.vtkFiltersCore")
    code = (
        "import sys, numpy as np; from nnunet_xlstm.meshes.vtk_nets import mesh_with_vtk; "
        "mesh_with_vtk(np.ones((2, 2, 2), np.uint8), 2); "
        "assert not {'vtk', 'vtkmodules.vtkRenderingCore', 'pyvista'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_vtk(monkeypatch):
    monkeypatch.setitem(sys.modules, "vtkmodules.vtkFiltersCore", None)
    with pytest.raises(ValueError, match=r"pip install 'nnunet_xlstm\[mesh\]', or use numpy"):
        vtk_nets.mesh_with_vtk(np.ones((2, 2, 2), np.uint8), 2)
