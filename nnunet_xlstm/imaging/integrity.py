"""Checks that image files are whole, in the formats whose readers do not say it.

Found by cutting and flipping bytes (SimpleITK 2.5): of MetaImage, GIPL, BMP, JPEG, TIFF and zipped NRRD files ITK
returns zeros, old memory or the slices that are left, or blames a missing file. NIfTI has a module of its own.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import math
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging import nifti
from nnunet_xlstm.imaging.gzipped import named_errors

if TYPE_CHECKING:
    Unpack = zlib._Decompress | bz2.BZ2Decompressor

PICTURES = (".png", ".bmp", ".jpg", ".jpeg")
TIFF = (".tif", ".tiff")
MAX_HEADER = 1 << 20  # bytes of a text header
CHUNK = 1 << 22
PACKED_CHUNK = 1 << 12  # bytes; bzip2 packs up to 20,000 times, and all that a piece unpacks to is in memory at once
META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
NRRD_BYTES = {"char": 1, "int8": 1, "short": 2, "int16": 2, "int": 4, "int32": 4, "float": 4, "double": 8}
NRRD_BYTES |= {"int64": 8, "longlong": 8, "long long": 8}
GIPL_BITS = {1: 1, 7: 8, 8: 8, 15: 16, 16: 16, 31: 32, 32: 32, 64: 32, 65: 64}


def check_whole(path: Path) -> None:
    """Check that a file holds all that its header says, without keeping its voxels.

    Raises:
        DatasetError: damaged, cut off, with a spacing that is zero or not finite, or with voxels outside its folder.
    """
    path = Path(path)
    name = path.name.lower()
    check = next((check for endings, check in CHECKS if name.endswith(endings)), None)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    with named_errors(path):
        if check is not None:
            check(path)
        elif path.stat().st_size == 0:
            raise DatasetError(f"{path}: is empty; get it again")


def check_length(path: Path) -> None:
    """Check that a file is as long as its header says, without unpacking it where gzip's last word tells.

    A file that was cut off does not pass (but for one in four billion), one with a changed byte may: `check_whole`.

    Raises:
        DatasetError: as `check_whole`.
    """
    path = Path(path)
    if not path.name.lower().endswith(nifti.ENDINGS) or not nifti.ends_as_claimed(nifti.read_header(path)):
        check_whole(path)


def has_full_length(path: Path) -> bool:
    """Return whether a file is as long as its header says; see `check_length`."""
    try:
        check_length(path)
    except DatasetError:
        return False
    return True


# Formats --------------------------------------------------------------------------------------------------------------


def _meta(path: Path) -> None:
    """Check MetaImage: lines `Key = value`, the last of them ElementDataFile."""
    fields, start = {}, 0
    with open(path, "rb") as file:
        for line in iter(lambda: file.readline(MAX_HEADER), b""):
            key, equals, value = line.decode("latin-1").partition("=")
            if not equals or file.tell() > MAX_HEADER:
                raise DatasetError(f"{path}: is no MetaImage file, or damaged: line {line[:40]!r} of its header")
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                start = file.tell()
                break
    where = fields.get("ElementDataFile")
    if where is None:
        raise DatasetError(f"{path}: its header ends before ElementDataFile; it is cut off or damaged: get it again")
    _check_spacing(path, "ElementSpacing", fields.get("ElementSpacing", "").split())
    count = _product(path, "DimSize", fields.get("DimSize", "").split())
    count *= _product(path, "ElementNumberOfChannels", [fields.get("ElementNumberOfChannels", "1")])
    kind = re.sub(r"^MET_U?|_ARRAY$", "", fields.get("ElementType", ""))
    if kind not in META_BYTES:
        raise DatasetError(
            f"{path}: its header says ElementType = {fields.get('ElementType')}; it is damaged or unusual"
        )
    data = path if where == "LOCAL" else _beside(path, where)
    packed = fields.get("CompressedData", "False").lower() == "true"
    if fields.get("BinaryData", "True").lower() == "false":
        return  # text: ITK reads it or says that it cannot
    skip = int(fields.get("HeaderSize", 0)) if where != "LOCAL" else start
    _check_length(path, data, max(skip, 0), count * META_BYTES[kind], zlib.decompressobj(47) if packed else None)


def _nrrd(path: Path) -> None:
    """Check NRRD: lines `field: value` up to an empty one; then the data, or the name of their file."""
    fields = {}
    with open(path, "rb") as file:
        if not file.readline(MAX_HEADER).startswith(b"NRRD"):
            raise DatasetError(f"{path}: is no NRRD file, or damaged")
        for line in iter(lambda: file.readline(MAX_HEADER), b""):
            text = line.decode("latin-1").strip()
            if not text or file.tell() > MAX_HEADER:
                break
            key, colon, value = text.partition(":")
            if colon and not text.startswith("#"):
                fields[key.strip().lower()] = value.lstrip("=").strip()
        start = file.tell()
    spacings = fields.get("spacings", "").split()
    kinds = fields.get("kinds", "").split() or ["domain"] * len(spacings)
    in_space = [s for s, kind in zip(spacings, kinds, strict=False) if kind in ("domain", "space")]
    _check_spacing(path, "spacings", in_space)
    for vector in re.findall(r"\(([^)]*)\)", fields.get("space directions", "")):
        values = _numbers(vector.split(","))
        _check_spacing(path, "space directions", [str(math.hypot(*values))] if values else ["nan"])
    count = _product(path, "sizes", fields.get("sizes", "").split())
    kind = re.sub(r"^(unsigned |signed )|_t$|^u(?=int|char|short|long)", "", fields.get("type", ""))
    if kind not in NRRD_BYTES:
        raise DatasetError(f"{path}: its header says type: {fields.get('type')}; it is damaged or unusual")
    where = fields.get("data file", fields.get("datafile"))
    data, skip = (path, start) if where is None else (_beside(path, where), 0)
    encoding = fields.get("encoding", "raw").lower()
    need = count * NRRD_BYTES[kind]
    if encoding in ("gzip", "gz") and not fields.get("byte skip", "0").strip("0"):
        _check_length(path, data, skip, need, zlib.decompressobj(31))
    elif encoding in ("bzip2", "bz2"):
        _check_length(path, data, skip, need, bz2.BZ2Decompressor())
    elif encoding == "raw":
        _check_length(path, data, skip, need, None)


def _gipl(path: Path) -> None:
    """Check GIPL: 256 bytes of header, big-endian; four edges, then the type."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
        header = file.read(256)
        if len(header) < 256:
            raise DatasetError(f"{path}: is cut off within its header; get it again")
        edges, kind = struct.unpack_from(">4H", header), struct.unpack_from(">H", header, 8)[0]
        if kind not in GIPL_BITS:
            raise DatasetError(f"{path}: its header names the type {kind}; it is damaged")
        _check_spacing(path, "voxel size", [str(v) for v in struct.unpack_from(">3f", header, 10)])
        need = (math.prod(max(1, n) for n in edges) * GIPL_BITS[kind] + 7) // 8
        most = os.path.getsize(path) * nifti.GZIP_MAX_RATIO
        got = 0
        while got < need <= most and (chunk := file.read(min(CHUNK, need - got))):
            got += len(chunk)
        if got < need:
            _cut_off(path, got, need)
        file.read(nifti.MAX_TRAILING)  # to the end, so that the checksum is looked at


def _picture(path: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            picture.verify()  # PNG: all chunks up to the last one
        with Image.open(path) as picture:
            picture.load()
    except (UnidentifiedImageError, SyntaxError, ValueError, OSError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DatasetError(f"{path}: is damaged or cut off ({error}); get it again") from error


def _tiff(path: Path) -> None:
    import tifffile

    log = logging.getLogger("tifffile")
    found: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        """Keep a message from handlers."""
        found.append(record.getMessage())
        return False

    log.addFilter(keep)
    try:
        with tifffile.TiffFile(path) as file:
            size = os.path.getsize(path)
            for page in file.pages:
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
                    if offset + count > size:
                        _cut_off(path, size, offset + count)
                page.asarray()
    except DatasetError:
        raise
    except Exception as error:  # tifffile and its codecs raise whatever a damaged file leads to
        raise DatasetError(f"{path}: is damaged or cut off ({error}); get it again") from error
    finally:
        log.removeFilter(keep)
    if wrong := [text for text in found if re.search("TiffFileError|invalid|corrupt", text)]:
        raise DatasetError(f"{path}: is damaged or cut off ({wrong[0]}); get it again")


CHECKS: tuple[tuple[tuple[str, ...], Callable[[Path], None]], ...] = (
    (nifti.ENDINGS, nifti.check_whole),
    ((".mha", ".mhd"), _meta),
    ((".nrrd", ".nhdr"), _nrrd),
    ((".gipl", ".gipl.gz"), _gipl),
    (PICTURES, _picture),
    (TIFF, _tiff),
)


# Parts ----------------------------------------------------------------------------------------------------------------


def _beside(path: Path, name: str) -> Path:
    """Return the file that holds the voxels of a detached header; it must lie in the header's folder or below."""
    if name.upper().startswith("LIST") or "%" in name:
        raise DatasetError(f"{path}: its voxels are spread over several files ({name}); convert it to one .nii.gz")
    data = path.parent / name
    if not data.resolve().is_relative_to(path.parent.resolve()):
        raise DatasetError(
            f"{path}: its header leads to {name}, outside its own folder; put both files into one folder"
        )
    if not data.is_file():
        raise DatasetError(f"{path}: the file of its voxels, {name}, is not beside it; both are needed")
    return data


def _check_length(path: Path, data: Path, skip: int, need: int, unpack: Unpack | None) -> None:
    """Check that `need` bytes follow after `skip`, and their checksum; `unpack`: a decompressor, None for raw data."""
    got = max(os.path.getsize(data) - skip, 0) if unpack is None else 0
    if unpack is not None:
        with open(data, "rb") as file:
            file.seek(skip)
            while not unpack.eof and got <= need and (chunk := file.read(PACKED_CHUNK)):
                got += len(unpack.decompress(chunk))
    if got < need or (unpack is not None and not unpack.eof):
        _cut_off(path, got, need)


def _cut_off(path: Path, got: int, need: int) -> None:
    raise DatasetError(f"{path}: is cut off or damaged: {got} of {need} bytes of voxels are there; get it again")


def _numbers(texts: list[str]) -> list[float]:
    try:
        return [float(text) for text in texts]
    except ValueError:
        return []


def _product(path: Path, field: str, texts: list[str]) -> int:
    if not texts or not all(re.fullmatch(r"\d{1,18}", text) and int(text) for text in texts):
        raise DatasetError(f"{path}: its header says {field} = {' '.join(texts) or 'nothing'}; it is damaged")
    return math.prod(int(text) for text in texts)


def _check_spacing(path: Path, field: str, texts: list[str]) -> None:
    values = _numbers(texts)
    if len(values) < len(texts) or not all(math.isfinite(v) and v != 0 for v in values):
        raise DatasetError(
            f"{path}: its header says {field} = {' '.join(texts)}; the spacing in mm must be finite and not 0: correct "
            "that field of the header"
        )
