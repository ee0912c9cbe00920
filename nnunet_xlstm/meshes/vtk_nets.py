"""The same walls from VTK: vtkSurfaceNets3D extracts and smooths, the volumes are restored as in our own smoothing."""

from __future__ import annotations

import numpy as np

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.meshes.mesh import Mesh, cut
from nnunet_xlstm.meshes.smooth import restore_volumes
from nnunet_xlstm.meshes.surface_nets import Net


def mesh_with_vtk(labels: np.ndarray, steps: int) -> Mesh:
    """Extract the walls of a label map.

    Args:
        labels: (z, y, x) whole numbers, 0 is the background.
        steps: iterations of VTK's smoothing; 0 leaves the faces of the voxels.

    Raises:
        DatasetError: VTK is not installed.
    """
    present = [int(label) for label in np.unique(labels) if label != 0]
    padded = np.pad(labels, 1).astype(np.int32)
    plain = _surface_nets(padded, present, 0)
    # VTK gives some cells several points, which smoothing would draw apart, and then surfaces are not closed.
    home, row, count = np.unique(plain.points, axis=0, return_inverse=True, return_counts=True)
    row = row.ravel()
    quads = row[plain.quads]
    if steps == 0 or not len(quads):
        return cut(Net(home, quads, plain.pairs))
    moved = _surface_nets(padded, present, steps).points
    points = np.stack([np.bincount(row, axis) for axis in moved.T], axis=1) / count[:, None]
    return restore_volumes(cut(Net(points, quads, plain.pairs)), home)


def _surface_nets(padded: np.ndarray, present: list[int], steps: int) -> Net:
    try:  # never `import vtk`: it loads the rendering libraries, which filters do not need
        from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
        from vtkmodules.vtkCommonDataModel import vtkImageData
        from vtkmodules.vtkFiltersCore import vtkSurfaceNets3D
    except ImportError as error:
        raise DatasetError(
            f"The backend vtk needs VTK 9.3 or later ({error}); pip install 'nnunet_xlstm[mesh]', or use numpy."
        ) from error
    image = vtkImageData()
    image.SetDimensions(*padded.shape[::-1])
    image.SetOrigin(-1, -1, -1)
    image.GetPointData().SetScalars(numpy_to_vtk(padded.ravel()))
    nets = vtkSurfaceNets3D()
    nets.SetInputData(image)
    nets.SetBackgroundLabel(0)
    for position, label in enumerate(present):
        nets.SetLabel(position, label)
    nets.SetOutputMeshTypeToQuads()
    nets.SetSmoothing(steps > 0)
    nets.SetNumberOfIterations(steps)
    nets.AutomaticSmoothingConstraintsOff()  # they let points leave their cells
    nets.SetConstraintStrategyToConstraintBox()
    nets.SetConstraintBox(1, 1, 1)
    nets.Update()
    found = nets.GetOutput()
    if not found.GetNumberOfPolys():
        return Net(np.empty((0, 3)), np.empty((0, 4), np.int64), np.empty((0, 2), np.int64))
    points = vtk_to_numpy(found.GetPoints().GetData())[:, ::-1].astype(float)
    # Quads turn around the normal from BoundaryLabels[:, 0] to [:, 1] in (x, y, z); (z, y, x) is its mirror image.
    quads = vtk_to_numpy(found.GetPolys().GetConnectivityArray()).reshape(-1, 4)[:, ::-1].astype(np.int64)
    pairs = vtk_to_numpy(found.GetCellData().GetArray("BoundaryLabels")).astype(np.int64)
    return Net(points, quads, pairs)
