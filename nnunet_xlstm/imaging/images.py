"""Images and label maps on disk: the one reader, which refuses what is not whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging import integrity, nifti
from nnunet_xlstm.imaging.grid import Grid
from nnunet_xlstm.io.paths import as_utf8
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.validate import Key, ListOf, Record, Value, check, is_number

TIFF = integrity.TIFF
MAX_LABEL = 2**31 - 1
FLAT = 1e-6  # determinant of unit axes that lie in one plane
MM = Value("a number of mm above 0", lambda value: is_number(value) and value > 0)
TIFF_SIDE_CAR = Record({"spacing": Key(ListOf(MM, lengths=(3,)), example=[5.0, 0.7, 0.7])}, open=True)  # z, y, x


# Reading --------------------------------------------------------------------------------------------------------------


def read_grid(path: Path) -> Grid:
    """Read size, spacing, origin and direction of an image, without its voxels.

    A NIfTI file whose axes are not at right angles is read as nnU-Net's NibabelIO does, with the spacing of its header.

    Raises:
        DatasetError: not readable, or a geometry with zero, NaN or infinity.
    """
    path = Path(path)
    if path.name.lower().endswith(nifti.ENDINGS):
        nifti.read_header(path)  # what makes no sense; ITK prints pages about it
    reader = sitk.ImageFileReader()
    reader.SetFileName(as_utf8(path))
    try:
        with quiet():
            reader.ReadImageInformation()
        grid = Grid.of(reader)
    except RuntimeError as error:
        if "orthonormal" not in str(error):
            raise DatasetError(f"{path}: {_reason(path, error)}; mend or convert the file") from error
        grid = _sheared_grid(path)
    if path.suffix.lower() in TIFF and grid.dimension == 3:
        grid = Grid(grid.size, _tiff_spacing(path), grid.origin, grid.direction, grid.components)
    finite = all(map(math.isfinite, (*grid.spacing, *grid.origin, *grid.direction)))
    if not finite or min(grid.spacing) <= 0 or abs(np.linalg.det(grid.matrix)) < FLAT:
        raise DatasetError(
            f"{path}: its geometry is not usable (spacing, origin, direction: {grid}); correct the header (NIfTI: "
            "pixdim, sform, qform)"
        )
    return grid


def read_image(path: Path) -> sitk.Image:
    """Read an image with its spacing; that of a 3D TIFF stands in a JSON file beside it, as in nnU-Net.

    Raises:
        DatasetError: not readable, not whole, a geometry with zero or NaN, or a 3D TIFF without its spacing.
    """
    path = Path(path)
    if not path.name.lower().endswith(nifti.ENDINGS):
        return _read_with_itk(path)
    header = nifti.read_header(path)
    grid = read_grid(path)
    if header.dtype is None or grid.components > 1:
        return _read_with_itk(path)
    voxels = nifti.read_voxels(path, header)
    return grid.set_on(sitk.GetImageFromArray(_fitted(path, voxels, grid), isVector=False))


def frame_interval(path: Path) -> float:
    """Return the ms from frame to frame of a 4D image; 0 where its format or its header does not say it.

    Raises:
        DatasetError: not readable.
    """
    return nifti.read_header(path).interval_ms if path.name.lower().endswith(nifti.ENDINGS) else 0.0


def read_label_map(path: Path) -> sitk.Image:
    """Read a label map as `read_label_array` does, as an image."""
    labels, grid = read_label_array(path)
    return grid.set_on(sitk.GetImageFromArray(labels))


def read_label_array(path: Path) -> tuple[np.ndarray, Grid]:
    """Read a label map: 2D or 3D, one whole number per voxel; (z, y, x) and its grid.

    Floating-point files become the smallest integer type, slice by slice, so that they are never in memory as floats.

    Raises:
        DatasetError: as `read_image`; or several values per voxel, more than 3 dimensions, NaN, values between whole
            numbers or beyond 2^31.
    """
    path = Path(path)
    header = nifti.read_header(path) if path.name.lower().endswith(nifti.ENDINGS) else None
    if header is None or header.dtype is None:
        image = as_label_map(_read_with_itk(path), path)
        return sitk.GetArrayFromImage(image), Grid.of(image)
    grid = read_grid(path)
    _check_label_grid(path, grid)
    if header.scale is None and header.dtype.kind != "f":
        return _fitted(path, nifti.read_voxels(path, header), grid), grid
    return _whole_numbers(nifti.iterate_slices(path, header), grid.size[::-1], path), grid


def as_label_map(image: sitk.Image, path: Path) -> sitk.Image:
    """Return the same image with whole numbers; `path` and errors as in `read_label_map`."""
    grid = Grid.of(image)
    _check_label_grid(path, grid)
    if "float" not in image.GetPixelIDTypeAsString():
        return image
    array = sitk.GetArrayViewFromImage(image)
    return grid.set_on(sitk.GetImageFromArray(_whole_numbers(array, array.shape, path)))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK's and GDCM's warnings about headers off the terminal: what matters is checked and said here."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _read_with_itk(path: Path) -> sitk.Image:
    integrity.check_whole(path)
    grid = read_grid(path)
    try:
        with quiet():
            image = sitk.ReadImage(as_utf8(path))
    except RuntimeError as error:
        raise DatasetError(f"{path}: {_reason(path, error)}; mend or convert the file") from error
    return grid.set_on(image)


def _fitted(path: Path, voxels: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the voxels in ITK's shape, which drops last axes of one."""
    if voxels.size != math.prod(grid.size):
        raise DatasetError(
            f"{path}: {voxels.shape[::-1]} voxels by its header, {grid.size} by SimpleITK; convert the file"
        )
    return voxels.reshape(grid.size[::-1])


def _sheared_grid(path: Path) -> Grid:
    """Return the grid of a 3D or 4D NIfTI file with axes not at right angles, in ITK's coordinates (LPS)."""
    import nibabel
    from nibabel.spatialimages import SpatialImage

    image = nibabel.load(path)
    assert isinstance(image, SpatialImage)  # by its ending
    size = tuple(int(n) for n in image.shape)
    while len(size) > 3 and size[-1] == 1:  # as ITK
        size = size[:-1]
    if len(size) not in (3, 4):
        raise DatasetError(
            f"{path}: its axes are not at right angles, and it is not a 3D or 4D image; convert the file"
        )
    zooms = [float(v) for v in image.header.get_zooms()[: len(size)]]
    matrix = np.diag([-1.0, -1.0, 1.0]) @ image.affine[:3]
    directions, origin = np.eye(len(size)), np.zeros(len(size))
    directions[:3, :3], origin[:3] = matrix[:, :3] / zooms[:3], matrix[:, 3]
    spacing = (*zooms[:3], *(time or 1.0 for time in zooms[3:]))
    return Grid(size, spacing, tuple(map(float, origin)), tuple(map(float, directions.ravel())))


def files_read(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of images, and those that are read with them."""
    for path in paths:
        yield path
        yield from spacing_files(path)


def spacing_files(path: Path) -> list[Path]:
    """Return where the spacing of a 3D TIFF may stand: `<case>.json`; an image may end with its channel."""
    if path.suffix.lower() not in TIFF:
        return []
    stem = path.name[: -len(path.suffix)]
    names = dict.fromkeys((stem, stem[:-5] if stem[-5:-4] == "_" and stem[-4:].isdecimal() else stem))
    return [path.with_name(f"{name}.json") for name in names]


def _tiff_spacing(path: Path) -> tuple[float, ...]:
    """Read the spacing (x, y, z) from a JSON file beside it, which holds {"spacing": [z, y, x]}."""
    for beside in spacing_files(path):
        if beside.is_file():
            content = read_json(beside, dict)
            check(content, TIFF_SIDE_CAR, str(beside))
            return tuple(map(float, content["spacing"][::-1]))
    raise DatasetError(
        f'{path}: a 3D TIFF holds no spacing; write {{"spacing": [z, y, x]}} to {path.stem}.json beside it'
    )


def _check_label_grid(path: Path, grid: Grid) -> None:
    if grid.components == 1 and grid.dimension <= 3:
        return
    raise DatasetError(
        f"{path}: {grid.dimension} dimensions with {grid.components} values per voxel; a label map has 2 or 3 "
        "dimensions and one value per voxel"
    )


def _whole_numbers(slices: Iterable[np.ndarray], shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Join slices to one array (shape) of the smallest integer type that holds them.

    Raises:
        DatasetError: a value that is no label.
    """
    labels = np.empty(shape, np.uint8)
    flat, position = labels.reshape(-1), 0
    for values in slices:
        whole = np.rint(values)
        if not np.array_equal(values, whole):  # also NaN
            wrong = values[values != whole].flat[0]
            what = "NaN" if np.isnan(wrong) else f"{np.float64(wrong)!s}, which is no whole number"
            raise DatasetError(f"{path}: holds {what}; give a label map, not an image or probabilities")
        low, high = (float(whole.min()), float(whole.max())) if whole.size else (0.0, 0.0)
        if low < -MAX_LABEL or high > MAX_LABEL:  # also infinity
            raise DatasetError(f"{path}: holds values beyond 2^31 or infinite; give a label map, not an image")
        kind = np.result_type(labels.dtype, np.min_scalar_type(int(low)), np.min_scalar_type(int(high)))
        if kind != labels.dtype:
            labels = labels.astype(kind)
            flat = labels.reshape(-1)
        flat[position : position + values.size] = whole.ravel()
        position += values.size
    return labels


def _reason(path: Path, error: RuntimeError) -> str:
    """Return what ITK says, in its last line, or what is plainly wrong."""
    if not path.exists():
        return "no such file"
    text = str(error).strip().splitlines()[-1]
    return f"SimpleITK cannot read it ({text.removeprefix('sitk::ERROR: ')})"
