"""Files on disk: which of them are images, which belong to one, and what lies below a folder."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.series import Reasons
from nnunet_xlstm.imaging.images import spacing_files
from nnunet_xlstm.imaging.integrity import PICTURES, TIFF

ENDINGS = (
    ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz", ".hdr", *TIFF, *PICTURES,
)  # fmt: skip
DICOM_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
# What holds images, and is not read; packed folders too. Files of any other ending are no images.
OTHER_ENDINGS = (
    ".img", ".img.gz", ".hdr.gz", ".mgz", ".mgh", ".mnc", ".par", ".rec", ".head", ".brik", ".vti", ".vtk",
    ".gif", ".webp", ".jp2", ".npy", ".npz", ".h5", ".hdf5", ".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar",
)  # fmt: skip
APPLE_DOUBLE = "._"  # what macOS writes beside a file on other file systems
# Files that belong to an image, by its ending: they may be missing at first, and come later
COMPANIONS = {".mhd": (".raw", ".zraw"), ".nhdr": (".raw", ".raw.gz"), ".hdr": (".img", ".img.gz")}


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its ending."""
    return path.name.lower().endswith(ENDINGS)


def stem(name: str) -> str:
    """Return a file's name without the ending of an image."""
    ending = max((e for e in ENDINGS if name.lower().endswith(e)), key=len, default="")
    return name[: len(name) - len(ending)]


def is_half_of_a_pair(file: Path) -> bool:
    """Return whether a file holds the voxels of a header beside it, which stands for both."""
    return file.suffix.lower() == ".img" and file.with_suffix(".hdr").is_file()


def companions(file: str) -> list[str]:
    """Return the paths, there or not, of the files that belong to an image."""
    base, ending = os.path.splitext(file)
    return [base + other for other in COMPANIONS.get(ending.lower(), ())] + [str(p) for p in spacing_files(Path(file))]


def files_below(folder: Path, unreadable: Reasons | None = None) -> Iterator[Path]:
    """Yield all files but the hidden ones, also behind links, each folder once.

    Args:
        folder: whose files are wanted, at any depth.
        unreadable: gets the folders that cannot be read; without it they are errors.

    Raises:
        DatasetError: a folder cannot be read.
    """

    def _refused(error: OSError) -> None:
        if unreadable is None:
            raise DatasetError(f"{error.filename}: cannot be read ({error.strerror})") from error
        unreadable.append((str(error.filename), f"a folder that cannot be read ({error.strerror})"))

    seen = set()
    for place, subfolders, names in os.walk(folder, onerror=_refused, followlinks=True):
        subfolders.sort()
        real = os.path.realpath(place)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def absolute(path: Path) -> Path:
    """Return the path from the root, without `..`, and with links as they are."""
    return Path(os.path.abspath(path))


def relative_to(path: Path, root: Path) -> str:
    """Return the path below a root, with composed letters: file systems differ in how they keep an accent."""
    path = absolute(path)
    relative = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return unicodedata.normalize("NFC", relative)
