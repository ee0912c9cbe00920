"""Where the voxels of an image lie, and the check that two images lie on one grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.errors import DatasetError

TOLERANCE_VOXELS = 0.05  # rounding of headers, not a shift that anyone made
ORTHONORMAL = 1e-4  # greatest deviation of D D^T from the identity that SimpleITK writes and reads again


@dataclass(frozen=True)
class Grid:
    """Voxels per axis (x, y, z, ...), spacing and origin in mm, direction (row-major matrix).

    Attributes:
        components: values per voxel.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    components: int = 1

    @classmethod
    def of(cls, image: sitk.Image | sitk.ImageFileReader) -> Grid:
        """Return the grid of an image, or of a reader after ReadImageInformation."""
        components = (
            image.GetNumberOfComponentsPerPixel() if isinstance(image, sitk.Image) else image.GetNumberOfComponents()
        )
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), components)

    @property
    def dimension(self) -> int:
        """Number of axes."""
        return len(self.size)

    @property
    def matrix(self) -> np.ndarray:
        """Direction as a matrix (d, d)."""
        return np.array(self.direction).reshape(self.dimension, self.dimension)

    def is_orthonormal(self) -> bool:
        """Return whether the axes are at right angles: SimpleITK reads no other NIfTI file."""
        return bool(np.abs(self.matrix @ self.matrix.T - np.eye(self.dimension)).max() < ORTHONORMAL)

    def set_on(self, image: sitk.Image) -> sitk.Image:
        """Give an image this spacing, origin and direction; returns it."""
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    def points(self, indices: np.ndarray) -> np.ndarray:
        """Return the places (n, d) in mm of indices (n, d)."""
        return np.array(self.origin) + (indices * np.array(self.spacing)) @ self.matrix.T

    def __str__(self) -> str:
        parts = (self.spacing, self.origin, self.direction)
        return " ".join("(" + ", ".join(f"{v:.6g}" for v in part) + ")" for part in parts)


def check_same_grid(
    reference: Grid | sitk.Image, prediction: Grid | sitk.Image, names: tuple[str, str] = ("reference", "prediction")
) -> None:
    """Check that both have one size, and that every corner of one lies on that of the other.

    Args:
        reference: an image or its grid.
        prediction: likewise.
        names: what they are, for the message.

    Raises:
        DatasetError: they do not.
    """
    one, other = names
    a, b = (grid if isinstance(grid, Grid) else Grid.of(grid) for grid in (reference, prediction))
    if a.size != b.size:
        raise DatasetError(
            f"the {one} has {a.size} voxels, the {other} {b.size} (x, y, z); "
            f"resample the {other} to the {one}'s grid with nearest neighbours"
        )
    corners = np.array(np.meshgrid(*[(0, int(n) - 1) for n in a.size])).reshape(a.dimension, -1).T
    shift = float(np.linalg.norm(a.points(corners) - b.points(corners), axis=1).max())
    if shift > TOLERANCE_VOXELS * min(a.spacing):
        raise DatasetError(
            f"the grids of {one} and {other} are up to {shift:.3g} mm apart (spacing, origin and direction of the "
            f"{one}: {a}; of the {other}: {b}); resample the {other} to the {one}'s grid, or copy its header if only "
            "that is wrong"
        )
