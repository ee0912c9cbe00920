"""Images and label maps on disk: reading, writing, and the check that two of them lie on one grid."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

TOLERANCE_VOXELS = 0.05  # rounding of headers, not a shift that anyone made
TIFF = (".tif", ".tiff")
TEMPORARY = ".tmp.nii.gz"  # the end of a file that is being written
Grid = sitk.Image | sitk.ImageFileReader  # what knows size, spacing, origin and direction


def read_image(path: Path) -> sitk.Image:
    """An image with its spacing; that of a 3D TIFF stands in a JSON file beside it, as in nnU-Net.

    Raises:
        ValueError: not readable, or a 3D TIFF without its spacing.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{path}: SimpleITK cannot read it ({reason}); mend or convert the file") from error
    if path.suffix.lower() in TIFF and image.GetDimension() == 3:
        image.SetSpacing(_tiff_spacing(path))
    return image


def _tiff_spacing(path: Path) -> tuple[float, ...]:
    """Spacing (x, y, z) from `<case>.json`, which holds {"spacing": [z, y, x]}; an image may end with its channel."""
    stem = path.name[: -len(path.suffix)]
    for name in (stem, stem[:-5] if stem[-5:-4] == "_" and stem[-4:].isdecimal() else stem):
        beside = path.with_name(f"{name}.json")
        if beside.is_file():
            try:
                spacing = [float(v) for v in json.loads(beside.read_text(encoding="utf-8"))["spacing"]]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f'{beside}: must hold {{"spacing": [z, y, x]}} in mm ({error})') from error
            if len(spacing) == 3 and min(spacing) > 0:
                return tuple(spacing[::-1])
            raise ValueError(f"{beside}: spacing {spacing}; give three numbers in mm, z, y and x, above 0")
    raise ValueError(f'{path}: a 3D TIFF holds no spacing; write {{"spacing": [z, y, x]}} to {stem}.json beside it')


def read_label_map(path: Path) -> sitk.Image:
    """A label map of whole numbers.

    Raises:
        ValueError: not readable, several components, more than 3 dimensions, or values that are not whole numbers.
    """
    return as_label_map(read_image(path), path)


def as_label_map(image: sitk.Image, path: Path) -> sitk.Image:
    """The same image with whole numbers; `path` and errors as in `read_label_map`."""
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() > 3:
        raise ValueError(
            f"{path}: {image.GetDimension()} dimensions with {image.GetNumberOfComponentsPerPixel()} values per voxel; "
            "a label map has 2 or 3 dimensions and one value per voxel"
        )
    if "float" in image.GetPixelIDTypeAsString():
        array = sitk.GetArrayViewFromImage(image)
        whole = np.rint(array)
        if not np.array_equal(array, whole):  # also NaN
            value = array[array != whole].flat[0]
            raise ValueError(
                f"{path}: values between whole numbers ({value:g}); give a label map, not an image or probabilities"
            )
        if array.size and np.abs(array).max() >= 2.0**31:  # also infinity
            raise ValueError(f"{path}: values beyond 2^31 or infinite; give a label map, not an image")
        result = sitk.GetImageFromArray(whole.astype(np.int32))
        result.CopyInformation(image)
        return result
    return image


def write_image(image: sitk.Image, path: Path) -> None:
    """As compressed NIfTI, complete or not at all; makes the folder.

    Raises:
        OSError: it cannot be written: a full disk is no fault of the image.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        sitk.WriteImage(image, str(temporary), True)
    except RuntimeError as error:
        raise OSError(f"{path}: cannot be written ({str(error).strip().splitlines()[-1]})") from error
    os.replace(temporary, path)


def check_same_grid(reference: Grid, prediction: Grid, names: tuple[str, str] = ("reference", "prediction")) -> None:
    """Both images have one size, and every corner of one lies on that of the other.

    Args:
        names: what they are, for the message.

    Raises:
        ValueError: they do not.
    """
    one, other = names
    if reference.GetSize() != prediction.GetSize():
        raise ValueError(
            f"the {one} has {reference.GetSize()} voxels, the {other} {prediction.GetSize()} (x, y, z); "
            f"resample the {other} to the {one}'s grid with nearest neighbours"
        )
    size = np.array(reference.GetSize())
    corners = np.array(np.meshgrid(*[(0, int(n) - 1) for n in size])).reshape(len(size), -1).T
    points = [_points(image, corners) for image in (reference, prediction)]
    shift = float(np.linalg.norm(points[0] - points[1], axis=1).max())
    if shift > TOLERANCE_VOXELS * min(reference.GetSpacing()):
        raise ValueError(
            f"the grids of {one} and {other} are up to {shift:.3g} mm apart (spacing, origin and direction of the "
            f"{one}: {_header(reference)}; of the {other}: {_header(prediction)}); resample the {other} to the "
            f"{one}'s grid, or copy its header if only that is wrong"
        )


def read_header(path: Path) -> sitk.ImageFileReader:
    """Size, spacing, origin and direction of an image, without its voxels.

    Raises:
        ValueError: not readable.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{path}: SimpleITK cannot read it ({reason}); mend or convert the file") from error
    return reader


def _points(image: Grid, indices: np.ndarray) -> np.ndarray:
    """Places (n, d) in mm of indices (n, d)."""
    dim = len(image.GetSize())
    direction = np.array(image.GetDirection()).reshape(dim, dim)
    return np.array(image.GetOrigin()) + (indices * np.array(image.GetSpacing())) @ direction.T


def _header(image: Grid) -> str:
    parts = (image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return " ".join("(" + ", ".join(f"{v:.6g}" for v in part) + ")" for part in parts)
