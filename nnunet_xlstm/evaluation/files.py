"""Label maps on disk: reading, and the checks that two of them lie on one grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

TOLERANCE_VOXELS = 0.05  # rounding of headers, not a shift that anyone made


def read_label_map(path: Path) -> sitk.Image:
    """A label map of whole numbers.

    Raises:
        ValueError: not readable, several components, more than 3 dimensions, or values that are not whole numbers.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{path}: cannot be read as an image ({reason}); write the file again") from error
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() > 3:
        raise ValueError(
            f"{path}: {image.GetDimension()} dimensions with {image.GetNumberOfComponentsPerPixel()} values per voxel; "
            "a label map has 2 or 3 dimensions and one value per voxel"
        )
    if "float" in image.GetPixelIDTypeAsString():
        array = sitk.GetArrayViewFromImage(image)
        whole = np.rint(array)
        if not np.array_equal(array, whole):  # also NaN
            raise ValueError(f"{path}: values between whole numbers; give a label map, not an image or probabilities")
        result = sitk.GetImageFromArray(whole.astype(np.int32))
        result.CopyInformation(image)
        return result
    return image


def check_same_grid(reference: sitk.Image, prediction: sitk.Image) -> None:
    """Both images have one size, and every corner of one lies on that of the other.

    Raises:
        ValueError: they do not.
    """
    if reference.GetSize() != prediction.GetSize():
        raise ValueError(
            f"the reference has {reference.GetSize()} voxels, the prediction {prediction.GetSize()} (x, y, z); "
            "resample the prediction to the reference's grid with nearest neighbours"
        )
    size = np.array(reference.GetSize())
    corners = np.array(np.meshgrid(*[(0, int(n) - 1) for n in size])).reshape(len(size), -1).T
    points = [
        np.array([image.TransformIndexToPhysicalPoint([int(i) for i in corner]) for corner in corners])
        for image in (reference, prediction)
    ]
    shift = float(np.linalg.norm(points[0] - points[1], axis=1).max())
    if shift > TOLERANCE_VOXELS * min(reference.GetSpacing()):
        raise ValueError(
            f"the grids are up to {shift:.3g} mm apart (spacing, origin and direction of the reference: "
            f"{_header(reference)}; of the prediction: {_header(prediction)}); resample the prediction to the "
            "reference's grid, or copy its header if only that is wrong"
        )


def _header(image: sitk.Image) -> str:
    parts = (image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return " ".join("(" + ", ".join(f"{v:.6g}" for v in part) + ")" for part in parts)
