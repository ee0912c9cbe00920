"""What a user names as input: images, folders of them, lists of paths, DICOM archives."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.elements import is_dicom
from nnunet_xlstm.imaging.dicom.series import Reasons, find_series
from nnunet_xlstm.imaging.image_files import (
    APPLE_DOUBLE,
    DICOM_ENDINGS,
    ENDINGS,
    OTHER_ENDINGS,
    absolute,
    files_below,
    is_half_of_a_pair,
    is_image,
    relative_to,
    stem,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """One image file, or the files of one DICOM series.

    Attributes:
        path: the file, or the series' folder: for messages.
        relative: the path below the input that led here, without ending: for names, subjects and patterns.
        key: what it is known by in later runs.
        subject: as the files say; empty if they do not.
        series: of DICOM files: what tells them from other series of the folder, for messages.
    """

    files: tuple[str, ...]
    path: str
    relative: str
    key: str
    dicom: bool = False
    subject: str = ""
    series: str = ""

    @property
    def origin(self) -> str:
        """Where the voxels come from: unique for every scan."""
        return f"{self.path}#{self.key.rpartition('|')[2]}" if self.dicom else self.path


def find_scans(inputs: Sequence[Path], dicom: bool = False) -> tuple[list[Scan], Reasons]:
    """Find all scans that the inputs lead to, each once.

    Args:
        inputs: image files, folders, or text files with one path per line (relative to the text file's folder).
        dicom: the inputs hold DICOM series.

    Returns:
        The scans; and listed paths that do not exist, folders that cannot be read, and files that look like images but
        cannot be taken in.

    Raises:
        DatasetError: an input does not exist, or there is no image in it.
    """
    missing: Reasons = []
    roots: list[tuple[Path, Path]] = []  # (file or folder, what names are relative to)
    several = sum(path.is_dir() for path in inputs) > 1
    for path in inputs:
        if not path.exists():
            raise DatasetError(f"-i {path}: no such file or folder")
        entry = absolute(path)
        if path.is_dir():
            roots.append((entry, entry.parent if several else entry))
        elif is_image(path) or (dicom and is_dicom(path)):
            roots.append((entry, entry.parent))
        else:
            listed, gone = _read_list(path)
            missing += gone
            common = Path(os.path.commonpath([p.parent for p in listed])) if listed else entry
            roots += [(p, common) for p in listed]
    scans, left_out = _dicom_scans(roots) if dicom else _file_scans(roots)
    if not scans and not missing:
        what = "DICOM series" if dicom else f"image ({', '.join(ENDINGS)})"
        hint = f"; {left_out[0][0]}: {left_out[0][1]}" if left_out else "" if dicom else "; for DICOM files add --dicom"
        raise DatasetError(f"-i {' '.join(map(str, inputs))}: there is no {what} in it{hint}")
    return sorted(scans, key=lambda scan: (scan.relative, scan.key)), missing + left_out


def _read_list(path: Path) -> tuple[list[Path], Reasons]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"-i {path}: neither an image ({', '.join(ENDINGS)}) nor a text file with a path per line"
        ) from error
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    entries = [absolute(path.parent / name) for name in names]
    if not entries:
        raise DatasetError(f"-i {path}: it lists no path; write one per line")
    gone = [(str(entry), "no such file or folder") for entry in entries if not entry.exists()]
    return [entry for entry in entries if entry.exists()], gone


def _file_scans(roots: Sequence[tuple[Path, Path]]) -> tuple[list[Scan], Reasons]:
    """Return a scan for each image file, and what looks like an image but is none that can be read."""
    scans: dict[str, Scan] = {}
    left_out: Reasons = []
    dicom: dict[Path, int] = {}  # folder -> files
    for entry, root in roots:
        for file in _files_at(entry, left_out):
            if not is_image(file) and (is_dicom(file) or file.name.lower().endswith(DICOM_ENDINGS)):
                dicom[file.parent] = dicom.get(file.parent, 0) + 1
            elif file.name.startswith(APPLE_DOUBLE):
                left_out.append((str(file), "what macOS keeps beside a file, not an image"))
            elif not is_image(file) and file.name.lower().endswith(OTHER_ENDINGS):
                if not is_half_of_a_pair(file):
                    left_out.append((str(file), "a format that is not read; unpack it, or convert it to .nii.gz"))
            elif is_image(file) or file == entry:
                real = file.resolve()
                # a link may lead to a store of files without endings
                path = str(real if is_image(real) else file)
                scan = Scan((path,), path, stem(relative_to(file, root)), str(real))
                scans.setdefault(scan.key, scan)
    left_out += [
        (str(folder), f"{count} DICOM file{'s'[: count > 1]}; take the folder in by a run with --dicom")
        for folder, count in dicom.items()
    ]
    return list(scans.values()), left_out


def _dicom_scans(roots: Sequence[tuple[Path, Path]]) -> tuple[list[Scan], Reasons]:
    """Return a scan for each series, and images of other formats."""
    root_of: dict[Path, Path] = {}
    seen: set[Path] = set()
    left_out: Reasons = []
    for entry, root in roots:
        for file in _files_at(entry, left_out):
            if is_dicom(file):
                if (real := file.resolve()) not in seen:
                    root_of[file] = root
                seen.add(real)
            elif file.name.lower().endswith(DICOM_ENDINGS):
                left_out.append((str(file), "is not a DICOM file, or damaged"))
            elif file.name.lower().endswith((*ENDINGS, *OTHER_ENDINGS)):
                left_out.append((str(file), "not a DICOM file; take it in by a run without --dicom"))
    series, unusable = find_series(tqdm(root_of, unit="file", desc="headers", disable=None))
    if anonymous := [one for one in series if not one.has_patient]:
        log.warning(
            "%d DICOM series have no PatientID (%s, ...): all series of one study count as one subject; a person with "
            "several studies is told by --subject", len(anonymous), anonymous[0].folder,
        )  # fmt: skip
    scans = []
    for one in series:
        folder = relative_to(one.folder, root_of[Path(one.files[0])])
        relative = "/".join(part for part in (folder, one.description) if part != ".")
        scans.append(Scan(one.files, str(one.folder), relative, one.key, True, one.patient, one.description))
    return scans, left_out + unusable


def _files_at(entry: Path, unreadable: Reasons) -> Iterator[Path]:
    return files_below(entry, unreadable) if entry.is_dir() else iter((entry,))
