"""The probabilities that nnU-Net saves beside a prediction, `<case>.npz`, read one output at a time.

nnU-Net 2.8 (export_prediction.py): `probabilities` (outputs, z, y, x) on the grid of the original image, float32, after
the sigmoid where there are regions; outputs in the order of `labels`.
"""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nnunet_xlstm.errors import DatasetError

KEY = "probabilities"
FIX = "predict the case again with --save_probabilities, or delete the file to use the merged map"


def read_probabilities(path: Path, n_outputs: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield one output after the other, in (0, 1); the whole array is never in memory.

    Args:
        path: of the .npz file.
        n_outputs: of the network.
        shape: of the label map (z, y, x) or (y, x); nnU-Net gives 2D images a first axis of one.

    Raises:
        DatasetError: damaged, of another shape, or no probabilities.
        OSError: the file cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive, _opened(archive, path) as file:
            found, fortran, dtype = _header(file)
            if dtype.kind != "f":
                raise DatasetError(f"{path}: holds {dtype} values; probabilities are floats: {FIX}")
            expected = (n_outputs, *((1,) if len(shape) == 2 else ()), *shape)
            if found not in (expected, (n_outputs, *shape)):
                raise DatasetError(
                    f"{path}: has the shape {found}, but the pool has {n_outputs} targets and the label map "
                    f"{shape} voxels (z, y, x), so {expected} is needed: {FIX}"
                )
            yield from _outputs(file, path, n_outputs, shape, fortran, dtype)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, UnicodeError, OSError) as error:
        # RuntimeError: a zip file with a password, or packed in a way that Python does not know
        if isinstance(error, OSError) and error.filename is not None:  # not there, or not ours to read
            raise
        raise DatasetError(f"{path}: damaged or cut off ({error}): {FIX}") from error


def _opened(archive: zipfile.ZipFile, path: Path):
    try:
        return archive.open(f"{KEY}.npy")
    except KeyError as error:
        raise DatasetError(f"{path}: has no array `{KEY}`: {FIX}") from error


def _header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type. Only version 1.0, as NumPy writes it: in later ones a header may claim 4 GB."""
    try:
        if (version := np.lib.format.read_magic(file)) != (1, 0):
            raise EOFError(f"version {version} of NumPy's format, not 1.0")
        return np.lib.format.read_array_header_1_0(file)
    except (ValueError, tokenize.TokenError, RecursionError, MemoryError) as error:  # of ast, which reads the header
        raise EOFError(error) from error


def _outputs(file, path: Path, n: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> Iterator[np.ndarray]:
    size = int(np.prod(shape, dtype=np.int64))
    # numpy writes an array whose axes are reversed as it lies in memory: here only where there is one output
    whole = _values(file, n * size, dtype).reshape((n, *shape), order="F") if fortran else None
    for i in range(n):
        values = _values(file, size, dtype).reshape(shape) if whole is None else whole[i]
        if size and not (values.min() >= 0 and values.max() <= 1):  # also NaN
            raise DatasetError(f"{path}: output {i} has values outside of 0 to 1, or NaN: {FIX}")
        yield values
    if file.read(1):  # the end, so that the checksum is looked at
        raise EOFError("longer than its header says")


def _values(file, count: int, dtype: np.dtype) -> np.ndarray:
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise EOFError("it ends too early")
    return np.frombuffer(data, dtype)
