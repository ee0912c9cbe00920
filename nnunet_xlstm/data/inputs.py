"""What a user names as input: images, folders of them, lists of paths, DICOM archives; and the items they make."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_xlstm.data.image_files import (
    APPLE_DOUBLE,
    DICOM_ENDINGS,
    ENDINGS,
    OTHER_ENDINGS,
    absolute,
    companions,
    files_below,
    is_half_of_a_pair,
    is_image,
    relative_to,
    stem,
)
from nnunet_xlstm.data.relabel import Relabel
from nnunet_xlstm.data.subjects import subject_of
from nnunet_xlstm.data.time_modes import FRAMES, TimeMode
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom import Reasons, find_series
from nnunet_xlstm.imaging.dicom_elements import is_dicom

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


@dataclass(frozen=True)
class Item:
    """What becomes one case, or one per frame: a scan, or one scan per channel.

    Attributes:
        label: a mask that exists already: the scan was checked when that was made, and is not read again.
        frame, frames, origin: as in CaseRow, for items that are a frame already.
        relabel: how its own label map becomes that of a pool; without it the case gets a mask of the body.
        tags: as in CaseRow, for items that have them already.
        min_slices: volumes with fewer are left out.
        last_axis_is_time: of a 3D file too.
        time: what becomes of its frames.
    """

    scans: tuple[Scan, ...]
    name: str
    source: str
    subject: str
    modality: str
    label: str = ""
    frame: int | None = None
    frames: int | None = None
    origin: tuple[str, ...] = ()
    relabel: Relabel | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    min_slices: int = 1
    last_axis_is_time: bool = False
    time: TimeMode = FRAMES

    @property
    def key(self) -> str:
        return " | ".join(scan.key for scan in self.scans)

    def stamp(self) -> str:
        """Return a hash of modality, options, paths, sizes and times of change: it changes when a file does, or what it
        means."""
        files = [name for scan in self.scans for file in scan.files for name in (file, *companions(file))]
        meaning = self.modality
        if (self.min_slices, self.last_axis_is_time) != (1, False):
            meaning += f" {self.min_slices} {self.last_axis_is_time}"
        if self.time != FRAMES:
            meaning += f" {self.time}"
        if self.relabel is None:
            return stamp_of(meaning, files)
        return stamp_of(meaning + self.relabel.stamp(), [*files, self.relabel.path])


def stamp_of(meaning: str, files: Sequence[str]) -> str:
    """Return a hash of a meaning, and of the paths, sizes and times of change of files.

    It changes too when a file appears or becomes readable.
    """
    digest = hashlib.sha1(meaning.encode("utf-8", "surrogatepass"))
    for file in files:
        try:
            facts = os.stat(file)
            state = f"{facts.st_size}\0{facts.st_mtime_ns}" if os.access(file, os.R_OK) else "unreadable"
        except OSError:
            state = "missing"
        digest.update(f"{file}\0{state}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


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
            raise DatasetError(f"--input {path}: no such file or folder")
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
        raise DatasetError(f"--input {' '.join(map(str, inputs))}: there is no {what} in it{hint}")
    return sorted(scans, key=lambda scan: (scan.relative, scan.key)), missing + left_out


def _read_list(path: Path) -> tuple[list[Path], Reasons]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"--input {path}: neither an image ({', '.join(ENDINGS)}) nor a text file with a path per line"
        ) from error
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    entries = [absolute(path.parent / name) for name in names]
    if not entries:
        raise DatasetError(f"--input {path}: it lists no path; write one per line")
    gone = [(str(entry), "no such file or folder") for entry in entries if not entry.exists()]
    return [entry for entry in entries if entry.exists()], gone


def _file_scans(roots: Sequence[tuple[Path, Path]]) -> tuple[list[Scan], Reasons]:
    """A scan for each image file, and what looks like an image but is none that can be read."""
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
    """A scan for each series, and images of other formats."""
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


def items_of_scans(
    scans: Sequence[Scan], source: str, modality: str, pattern: re.Pattern | None, **options: Any
) -> list[Item]:
    """Make one item per scan. The subject: by the pattern in the relative path, else as DICOM says, else the scan.

    Args:
        options: of Item: min_slices, last_axis_is_time and time.

    Raises:
        DatasetError: the pattern finds no subject in a path.
    """
    return [Item((scan,), scan.relative, source, _subject(scan, pattern), modality, **options) for scan in scans]


def _subject(scan: Scan, pattern: re.Pattern | None) -> str:
    return subject_of(pattern, scan.relative) if pattern else scan.subject or scan.relative


def items_of_channels(
    scans: Sequence[Scan],
    source: str,
    modality: str,
    pattern: re.Pattern | None,
    channels: Mapping[str, str],
    **options: Any,
) -> tuple[list[Item], Reasons]:
    """Make one item per subject, or per folder of a subject that has several, with one scan for every channel.

    Without pattern and DICOM, files of one folder belong together.

    Args:
        channels: name -> shell pattern that the relative path, or its last part, matches.
        options: as in items_of_scans.

    Returns:
        The items, and what was left out: scans of no channel or of two, and groups that are not complete.
    """
    left_out: Reasons = []
    subjects: dict[str, list[tuple[str, Scan]]] = {}
    for scan in scans:
        hits = [name for name, glob in channels.items() if _matches(scan.relative, glob)]
        if len(hits) != 1:
            left_out.append((scan.path, f"matches the patterns of {len(hits)} channels {' '.join(hits)}".strip()))
            continue
        folder = scan.relative.rpartition("/")[0]
        subject = subject_of(pattern, scan.relative) if pattern else scan.subject or folder or "all"
        subjects.setdefault(subject, []).append((hits[0], scan))
    items = []
    for subject, members in subjects.items():
        groups = {subject: members}
        if len({name for name, _ in members}) < len(members):  # a second visit
            groups = {}
            for name, scan in members:
                groups.setdefault(f"{subject}_{scan.relative.rpartition('/')[0]}", []).append((name, scan))
        for group, found in groups.items():
            names = [name for name, _ in found]
            wrong = [f"{names.count(name)} images of channel {name}" for name in channels if names.count(name) != 1]
            if wrong:
                left_out += [(scan.path, f"its group has {', '.join(wrong)}") for _, scan in found]
            else:
                by_name = dict(found)
                chosen = tuple(by_name[name] for name in channels)
                items.append(Item(chosen, group, source, subject, modality, **options))
    return items, left_out


def _matches(relative: str, glob: str) -> bool:
    return fnmatchcase(relative, glob) or fnmatchcase(relative.rpartition("/")[2], glob)
