"""What SimpleITK hides of a NIfTI file: it reads NaN as 0, and the missing end of a file that was cut off as 0 too."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

GZIP_MAGIC = b"\x1f\x8b"
FLOATS = {16: "f4", 64: "f8"}  # NIfTI's codes of data types
GEOMETRY = ((76, 108), (123, 124), (252, 328))  # pixdim; units; codes, quaternion, offsets and affine, of NIfTI-1


def bad_voxels_per_frame(path: Path) -> list[int]:
    """How many voxels are NaN or infinite, per frame (one for 3D), after the file was read to its end.

    Header fields after the NIfTI-1.1 and NIfTI-2 standards (nifti.nimh.nih.gov).

    Raises:
        ValueError: the file is damaged or ends too early.
    """
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == GZIP_MAGIC
        with gzip.open(path) if zipped else open(path, "rb") as file:
            return _scan(file)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise ValueError(f"the file is damaged or cut off ({error})") from error
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error})") from error


def _scan(file) -> list[int]:
    start = file.read(348)
    order = "<" if start[:4] in (struct.pack("<i", 348), struct.pack("<i", 540)) else ">"
    (size,) = struct.unpack_from(f"{order}i", start)
    if size == 540:
        start += file.read(540 - 348)
        code, bits = struct.unpack_from(f"{order}2h", start, 12)
        dims = struct.unpack_from(f"{order}8q", start, 16)
        (offset,) = struct.unpack_from(f"{order}q", start, 168)
    elif size == 348:
        dims = struct.unpack_from(f"{order}8h", start, 40)
        code, bits = struct.unpack_from(f"{order}2h", start, 70)
        offset = int(struct.unpack_from(f"{order}f", start, 108)[0])
    else:
        raise ValueError("not a NIfTI file")
    edges = [max(1, n) for n in dims[1 : 1 + dims[0]]] if 0 < dims[0] < 8 else []
    volume = int(np.prod(edges[:3], dtype=np.int64)) * bits // 8
    file.read(max(0, offset - len(start)))
    counts = []
    for _ in range(int(np.prod(edges[3:], dtype=np.int64))):
        data = file.read(volume)
        if len(data) < volume:
            raise ValueError("the file is cut off")
        values = np.frombuffer(data, f"{order}{FLOATS[code]}") if code in FLOATS else np.zeros(1)
        counts.append(int(np.count_nonzero(~np.isfinite(values))))
    return counts


def copy_geometry(source: Path, target: Path) -> None:
    """Gives an unzipped NIfTI file the geometry of another, bit for bit: ITK rounds oblique directions when it writes.

    Nothing is done where either is not NIfTI-1 in little-endian order, as ITK and nibabel write it.
    """
    with open(source, "rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
    with gzip.open(source) if zipped else open(source, "rb") as file:
        header = file.read(348)
    with open(target, "r+b") as file:
        if header[:4] == file.read(4) == struct.pack("<i", 348):
            for start, stop in GEOMETRY:
                file.seek(start)
                file.write(header[start:stop])
