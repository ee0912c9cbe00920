"""The one writer of images: whole files, with the geometry that was asked for."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging import integrity
from nnunet_xlstm.imaging.grid import Grid
from nnunet_xlstm.imaging.images import quiet
from nnunet_xlstm.io.paths import as_utf8
from nnunet_xlstm.io.write import WriteError, replacing


def write_image(image: sitk.Image, path: Path, compress: bool = True) -> None:
    """Write an image whole or not at all; the format follows the name; makes the folder.

    ITK says nothing of a full disk when it writes NIfTI, so the file is read to its end before it takes its place. Axes
    that are not at right angles become the nearest that are, because SimpleITK could not read the file again.

    Raises:
        WriteError: it cannot be written.
        DatasetError: its name is not UTF-8.
    """
    path = Path(path)
    grid = Grid.of(image)
    if grid.dimension == 3 and not grid.is_orthonormal():
        left, _, right = np.linalg.svd(grid.matrix)
        image = sitk.Image(image)
        image.SetDirection((left @ right).ravel().tolist())
    as_utf8(path)
    ending = next((e for e in (".nii.gz", ".gipl.gz") if path.name.endswith(e)), path.suffix)
    with replacing(path, ending) as temporary:
        write_checked(image, temporary, path, compress)


def write_checked(image: sitk.Image, temporary: Path, path: Path, compress: bool = True) -> None:
    """Write a temporary file and read it to its end.

    Args:
        image: that is written.
        temporary: path of the file.
        path: what it will become, for the message.
        compress: zip the voxels where the format can.

    Raises:
        WriteError: it cannot be written, or is not whole.
    """
    try:
        with quiet():
            sitk.WriteImage(image, as_utf8(temporary), compress)
    except RuntimeError as error:
        raise WriteError(path, _full_or_failed(path, error)) from error
    check_written(temporary, path)


def check_written(temporary: Path, path: Path) -> None:
    """Read an image that was just written to its end.

    Args:
        temporary: path of the file.
        path: what it will become, for the message.

    Raises:
        WriteError: it is not whole.
    """
    try:
        integrity.check_whole(temporary)
    except DatasetError as error:
        raise WriteError(path, _full_or_failed(path, error)) from error


def _full_or_failed(path: Path, error: Exception) -> OSError:
    """Return the likely reason of a write that ITK made badly: no room, else what it says."""
    if shutil.disk_usage(path.parent).free < 1 << 20:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return OSError(str(error).strip().splitlines()[-1])
