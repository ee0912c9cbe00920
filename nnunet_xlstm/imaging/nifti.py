"""NIfTI files, read to their end.

SimpleITK reads the geometry of a NIfTI file well, but not its voxels: it takes the missing end of a file that was cut
off, and NaN, for 0, and does not look at gzip's checksum. So the voxels are decoded here, from the header fields of the
NIfTI-1.1, NIfTI-2 and Analyze 7.5 standards (nifti.nimh.nih.gov).
"""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.gzipped import GZIP_MAGIC, named_errors, opened, unzipped

ENDINGS = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
GZIP_MAX_RATIO = 1032  # deflate cannot do better (zlib.net/zlib_tech.html)
MAX_TRAILING = 1 << 20  # bytes after the voxels that are read for the checksum's sake
KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
TIME_UNITS = {8: 1e3, 16: 1.0, 24: 1e-3}  # code in xyzt_units -> ms
ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")  # of bytes
UNSAID_MS = 1e3  # ITK and others write 1 s where they know of no interval
GEOMETRY = ((76, 108), (123, 124), (252, 328))  # pixdim; units; codes, quaternion, offsets and affine, of NIfTI-1


@dataclass(frozen=True)
class NiftiHeader:
    """What is needed to decode the voxels.

    Attributes:
        shape: voxels per axis (x, y, z, t, ...), as the file says.
        dtype: of one voxel on disk; None for colour, complex and other values that are no single number.
        bits: of one voxel.
        offset: bytes from the start of `voxels` to the first voxel.
        scale: (slope, intercept) of the true values; None where the values on disk are the true ones.
        voxels: the file that holds them: the file itself, or the .img beside a .hdr.
        interval_ms: from frame to frame, of a 4D file; 0 where the header does not say it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype | None
    bits: int
    offset: int
    scale: tuple[float, float] | None
    voxels: Path
    interval_ms: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels on disk."""
        return (math.prod(self.shape) * self.bits + 7) // 8


def read_header(path: Path) -> NiftiHeader:
    """Read and check the header, and that the file can be as long as it says.

    Raises:
        DatasetError: no NIfTI file, damaged, cut off, or with a spacing that is zero or not finite.
    """
    path = Path(path)
    with opened(_header_file(path)) as file:
        start = file.read(540)
    header = _header(path, *_fields(path, start))
    size = os.path.getsize(header.voxels)
    with open(header.voxels, "rb") as file:
        most = size * GZIP_MAX_RATIO if file.read(2) == GZIP_MAGIC else size
    if header.offset + header.nbytes > most:
        edges = " x ".join(map(str, header.shape))
        raise DatasetError(
            f"{path}: its header claims {edges} voxels, {header.nbytes / 1e6:.6g} MB, which its {size / 1e6:.3g} MB on "
            "disk cannot hold; it is cut off or damaged: get it again"
        )
    return header


def read_voxels(path: Path, header: NiftiHeader) -> np.ndarray:
    """Read all voxels, (..., z, y, x), true values: NaN stays NaN, and scaled integers become float32.

    Raises:
        DatasetError: damaged or cut off.
    """
    raw = np.empty(header.shape[::-1], header.dtype)
    flat = raw.reshape(-1).view(np.uint8)
    position = 0
    for chunk in _stream_bytes(path, header):
        flat[position : position + len(chunk)] = np.frombuffer(chunk, np.uint8)
        position += len(chunk)
    return _true_values(raw, header)


def iterate_slices(path: Path, header: NiftiHeader) -> Iterator[np.ndarray]:
    """Yield the voxels slice by slice along the last axis of the file that is longer than 1; values as `read_voxels`.

    Raises:
        DatasetError: damaged or cut off; after the last slice too, if the checksum is wrong.
    """
    shape = header.shape[::-1]
    skip = next((i for i, n in enumerate(shape) if n > 1), 0)
    slice_shape = shape[skip + 1 :]
    nbytes = math.prod(slice_shape) * header.bits // 8
    rest = bytearray()
    for chunk in _stream_bytes(path, header):
        rest += chunk
        while len(rest) >= nbytes > 0:
            yield _true_values(np.frombuffer(bytes(rest[:nbytes]), header.dtype).reshape(slice_shape), header)
            del rest[:nbytes]


def _stream_bytes(path: Path, header: NiftiHeader) -> Iterator[bytes]:
    """Yield the voxels as they lie on disk, piece by piece; then read on to the checksum.

    Raises:
        DatasetError: damaged or cut off.
    """
    skip, left, trailing = header.offset, header.nbytes, 0
    with named_errors(path):
        for piece in unzipped(header.voxels):
            if skip:
                skip, piece = max(0, skip - len(piece)), piece[skip:]
            if left:
                yield piece if len(piece) <= left else piece[:left]
            trailing += max(0, len(piece) - left)
            left = max(0, left - len(piece))
            if trailing > MAX_TRAILING:
                raise DatasetError(
                    f"{path}: goes on for more than {MAX_TRAILING} bytes after its voxels; it is damaged"
                )
    if left:
        raise DatasetError(f"{path}: is cut off: {left} of {header.nbytes} bytes of voxels are missing; get it again")


def ends_as_claimed(header: NiftiHeader) -> bool:
    """Return whether gzip's last word, the length of what was packed modulo 2^32, is that of header and voxels."""
    size = os.path.getsize(header.voxels)
    with open(header.voxels, "rb") as file:
        if file.read(2) != GZIP_MAGIC:
            return size >= header.offset + header.nbytes
        file.seek(max(0, size - 4))
        return file.read(4) == struct.pack("<I", (header.offset + header.nbytes) % 2**32)


def check_whole(path: Path) -> None:
    """Read a file to its end without keeping it.

    Raises:
        DatasetError: damaged, cut off, or with a spacing that is zero or not finite.
    """
    for _ in _stream_bytes(path, read_header(path)):
        pass


def copy_geometry(source: Path, target: Path) -> None:
    """Give an unzipped NIfTI file the geometry of another, bit for bit: ITK rounds oblique directions when it writes.

    Nothing is done where either is not NIfTI-1 in little-endian order, as ITK and nibabel write it.
    """
    with opened(source) as file:
        header = file.read(348)
    with open(target, "r+b") as file:
        if header[:4] == file.read(4) == struct.pack("<i", 348):
            for start, stop in GEOMETRY:
                file.seek(start)
                file.write(header[start:stop])


def _header_file(path: Path) -> Path:
    return _sibling(path, ".img", ".hdr") if ".img" in path.name.lower()[-7:] else path


def _sibling(path: Path, old: str, new: str) -> Path:
    """Return the other file of a pair, zipped or not."""
    name = path.name.removesuffix(".gz")
    base = name[: -len(old)]
    for candidate in (f"{base}{new}", f"{base}{new}.gz", f"{base}{new.upper()}"):
        if path.with_name(candidate).is_file():
            return path.with_name(candidate)
    raise DatasetError(f"{path}: there is no {base}{new} beside it; both files of the pair are needed")


def _fields(path: Path, start: bytes) -> tuple[dict[str, Any], str]:
    """Return the fields of a NIfTI-1 or NIfTI-2 header by their names in the standard, and the order of its bytes."""
    from nibabel import nifti1, nifti2

    for order, kind in itertools.product(ORDERS, (nifti1.header_dtype, nifti2.header_dtype)):
        if start[:4] == struct.pack(f"{order}i", kind.itemsize) and len(start) >= kind.itemsize:
            record = np.frombuffer(start, kind.newbyteorder(order), 1)[0]
            return {name: record[name].tolist() for name in kind.names or ()}, order
    raise DatasetError(f"{path}: is not a NIfTI file, or cut off within its header")


def _header(path: Path, fields: Mapping[str, Any], order: str) -> NiftiHeader:
    dims, pixdim, offset = fields["dim"], fields["pixdim"], fields["vox_offset"]
    code, bits, scale = fields["datatype"], fields["bitpix"], (fields["scl_slope"], fields["scl_inter"])
    # Analyze 7.5, which has neither scale nor affine
    is_analyze = fields["sizeof_hdr"] == 348 and fields["magic"] not in (b"n+1", b"ni1")
    quaternion = [fields[f"quatern_{axis}"] for axis in "bcd"] + [fields[f"qoffset_{axis}"] for axis in "xyz"]
    for name, values in (("qform", quaternion), ("sform", [fields[f"srow_{axis}"] for axis in "xyz"])):
        if not is_analyze and fields[f"{name}_code"] > 0 and not np.isfinite(values).all():
            raise DatasetError(
                f"{path}: the {name} of its header holds NaN or infinity, so its geometry is not usable; correct it, "
                f"or set {name}_code to 0"
            )
    if not 1 <= dims[0] <= 7 or min(dims[1 : 1 + dims[0]]) < 1:
        raise DatasetError(f"{path}: its header says dim = {dims}; the first must be 1 to 7, the others 1 or more")
    spacing = pixdim[1 : 1 + min(dims[0], 3)]
    if not all(np.isfinite(spacing)) or not all(spacing):
        raise DatasetError(
            f"{path}: its header says pixdim = {[float(f'{v:.6g}') for v in spacing]}; the spacing in mm must be "
            "finite and not 0: correct the field `pixdim` of the header"
        )
    if not np.isfinite(offset) or offset < 0 or bits < 1:
        raise DatasetError(f"{path}: its header says vox_offset = {offset}, bitpix = {bits}; it is damaged")
    dtype = np.dtype(f"{order}{KINDS[code]}") if code in KINDS else None
    if dtype is not None and dtype.itemsize * 8 != bits:
        raise DatasetError(f"{path}: its header says datatype = {code} with bitpix = {bits}; it is damaged")
    is_identity = is_analyze or not all(np.isfinite(scale)) or scale[0] == 0 or scale == (1, 0)
    is_pair = is_analyze or fields["magic"] in (b"ni1", b"ni2")
    return NiftiHeader(
        shape=tuple(dims[1 : 1 + dims[0]]),
        dtype=dtype,
        bits=bits,
        offset=int(offset),
        scale=None if is_identity else scale,
        voxels=_sibling(_header_file(path), ".hdr", ".img") if is_pair else path,
        interval_ms=0.0 if is_analyze else _interval_ms(pixdim[4], fields["xyzt_units"]),
    )


def _interval_ms(step: float, units: int) -> float:
    interval = float(f"{abs(step) * TIME_UNITS.get(units & 0x38, 0.0):.6g}")  # without the rounding of float32
    return interval if np.isfinite(interval) and interval != UNSAID_MS else 0.0


def _true_values(raw: np.ndarray, header: NiftiHeader) -> np.ndarray:
    if header.scale is None:
        return raw if raw.dtype.isnative else raw.astype(raw.dtype.newbyteorder("="))
    slope, intercept = header.scale
    kind = np.float64 if raw.dtype == np.float64 else np.float32  # as ITK
    return (raw * np.float64(slope) + intercept).astype(kind)
