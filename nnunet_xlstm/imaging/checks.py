"""Checks that a file is an image that can be learnt from; the reason where it is not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.errors import DatasetError

MIN_IN_PLANE = 8  # voxels
MAX_LABELS = 16  # an image with no more distinct values is a label map
SAMPLE = 1_000_000  # voxels looked at first
LABEL_NAME = re.compile(
    r"(?:^|[^a-z])(?:labels?|labelstr|labelsts|segs?|segmentations?|masks?|contours?|gt)(?:$|[^a-z])"
)


def check_image(image: sitk.Image) -> None:
    """Check a whole file: one value per voxel, 2 or 3 dimensions, or 4 with time last.

    Raises:
        DatasetError: otherwise.
    """
    components, dimension = image.GetNumberOfComponentsPerPixel(), image.GetDimension()
    if components > 1:
        raise DatasetError(f"{components} values per voxel (colour or vector image)")
    if dimension not in (2, 3, 4):
        raise DatasetError(f"{dimension} dimensions; 2, 3, or 4 with time, are needed")
    if "complex" in image.GetPixelIDTypeAsString():
        raise DatasetError("complex values")


def check_frame(image: sitk.Image, path: Path) -> None:
    """Check one volume: large enough, finite, not constant, no label map.

    Raises:
        DatasetError: otherwise.
    """
    size = image.GetSize()
    if sorted(size)[-2] < MIN_IN_PLANE:
        raise DatasetError(f"{' x '.join(map(str, size))} voxels; in plane {MIN_IN_PLANE} x {MIN_IN_PLANE} are needed")
    array = sitk.GetArrayViewFromImage(image)
    whole = not np.issubdtype(array.dtype, np.floating)
    if not whole and not np.isfinite(array).all():
        raise DatasetError(f"{int(np.count_nonzero(~np.isfinite(array)))} voxels are NaN or infinite")
    if array.min() == array.max():
        raise DatasetError(f"constant: every voxel is {array.min():g}")
    if _few_values(array, MAX_LABELS):
        raise DatasetError(f"a label map: no more than {MAX_LABELS} distinct values")
    if whole and LABEL_NAME.search("/".join(path.parts[-2:]).lower()) and _few_values(array, 256):
        raise DatasetError("a label map, by its name and its few whole numbers")


def _few_values(array: np.ndarray, most: int) -> bool:
    """Return whether there are no more than `most` distinct values; a part is enough to refuse most images."""
    flat = array.reshape(-1)
    if len(np.unique(flat[:: max(1, flat.size // SAMPLE)])) > most:
        return False
    return len(np.unique(flat)) <= most
