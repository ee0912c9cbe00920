"""What a user names as input: images, folders of them, lists of paths, DICOM archives; and the items they make."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from nnunet_xlstm.data.relabel import Relabel
from nnunet_xlstm.data.subjects import subject_of
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom import find_series

ENDINGS = (
    ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz", ".hdr", ".tif", ".tiff",
)  # fmt: skip
Reasons = list[tuple[str, str]]  # (path, why it is left out)


@dataclass(frozen=True)
class Scan:
    """One image file, or the files of one DICOM series.

    Attributes:
        path: the file, or the series' folder: for messages.
        relative: the path below the input that led here, without ending: for names, subjects and patterns.
        key: what it is known by in later runs.
        subject: as the files say; empty if they do not.
    """

    files: tuple[str, ...]
    path: str
    relative: str
    key: str
    dicom: bool = False
    subject: str = ""


@dataclass(frozen=True)
class Item:
    """What becomes one case, or one per frame: a scan, or one scan per channel.

    Attributes:
        label: a mask that exists already: the scan was checked when that was made, and is not read again.
        frame, frames, origin: as in CaseRow, for items that are a frame already.
        relabel: how its own label map becomes that of a pool; without it the case gets a mask of the body.
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

    @property
    def key(self) -> str:
        return " | ".join(scan.key for scan in self.scans)

    def stamp(self) -> str:
        """Changes when a file does, or what its labels mean: hash of modality, paths, sizes and times of change."""
        files = [file for scan in self.scans for file in scan.files]
        if self.relabel is None:
            return stamp_of(self.modality, files)
        return stamp_of(self.modality + self.relabel.stamp(), [*files, self.relabel.path])


def stamp_of(meaning: str, files: Sequence[str]) -> str:
    """Changes when one of the files does, or what they mean: hash of the meaning, paths, sizes and times of change."""
    digest = hashlib.sha1(meaning.encode("utf-8", "surrogatepass"))
    for file in files:
        try:
            facts = os.stat(file)
            digest.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
        except OSError:
            digest.update(f"{file}\0missing\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def find_scans(inputs: Sequence[Path], dicom: bool = False) -> tuple[list[Scan], Reasons]:
    """All scans that the inputs lead to, each once, and listed paths that do not exist.

    Args:
        inputs: image files, folders, or text files with one path per line (relative to the text file's folder).
        dicom: the folders hold DICOM series.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: nothing is found.
    """
    scans: dict[str, Scan] = {}
    missing: Reasons = []
    several = sum(path.is_dir() for path in inputs) > 1
    for path in inputs:
        if not path.exists():
            raise DatasetError(f"--input {path}: no such file or folder")
        if path.is_dir():
            roots = [(path, absolute(path).parent if several else absolute(path))]
        elif is_image(path):
            roots = [(path, absolute(path).parent)]
        else:
            listed, gone = _read_list(path)
            missing += gone
            common = Path(os.path.commonpath([absolute(p).parent for p in listed])) if listed else path
            roots = [(p, common) for p in listed]
        for entry, root in roots:
            for scan in _scans_at(entry, root, dicom):
                scans.setdefault(scan.key, scan)
    if not scans and not missing:
        what = "DICOM series" if dicom else f"image ({', '.join(ENDINGS)})"
        hint = "" if dicom else "; for DICOM files add --dicom"
        raise DatasetError(f"--input {' '.join(map(str, inputs))}: there is no {what} in it{hint}")
    return sorted(scans.values(), key=lambda scan: (scan.relative, scan.key)), missing


def is_image(path: Path) -> bool:
    """By its ending."""
    return path.name.lower().endswith(ENDINGS)


def stem(name: str) -> str:
    """A file's name without the ending of an image."""
    ending = max((e for e in ENDINGS if name.lower().endswith(e)), key=len, default="")
    return name[: len(name) - len(ending)]


def _read_list(path: Path) -> tuple[list[Path], Reasons]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"--input {path}: neither an image ({', '.join(ENDINGS)}) nor a text file with a path per line"
        ) from error
    entries = [path.parent / line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not entries:
        raise DatasetError(f"--input {path}: it lists no path; write one per line")
    gone = [(str(entry), "no such file or folder") for entry in entries if not entry.exists()]
    return [entry for entry in entries if entry.exists()], gone


def _scans_at(entry: Path, root: Path, dicom: bool) -> list[Scan]:
    if dicom and entry.is_dir():
        found = []
        for series in find_series(entry):
            folder = str(series.folder.resolve())
            relative = "/".join((_relative(series.folder, root), series.description or series.uid))
            found.append(Scan(series.files, folder, relative, f"{folder}#{series.uid}", True, series.patient))
        return found
    files = [entry]
    if entry.is_dir():
        files = [path for path in files_below(entry) if is_image(path)]
    scans = []
    for file in files:
        real = file.resolve()
        path = str(real if is_image(real) else absolute(file))  # a link may lead to a store of files without endings
        scans.append(Scan((path,), path, stem(_relative(file, root)), str(real)))
    return scans


def files_below(folder: Path) -> Iterator[Path]:
    """All files but the hidden ones, also behind links, each folder once."""
    seen = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield from (Path(place) / name for name in names if not name.startswith("."))


def absolute(path: Path) -> Path:
    """Without `..`, and links as they are."""
    return Path(os.path.abspath(path))


def _relative(path: Path, root: Path) -> str:
    path = absolute(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def items_of_scans(scans: Sequence[Scan], source: str, modality: str, pattern: re.Pattern | None) -> list[Item]:
    """One item per scan. The subject: by the pattern in the relative path, else as DICOM says, else the scan itself.

    Raises:
        ValueError: the pattern finds no subject in a path.
    """
    return [Item((scan,), scan.relative, source, _subject(scan, pattern), modality) for scan in scans]


def _subject(scan: Scan, pattern: re.Pattern | None) -> str:
    return subject_of(pattern, scan.relative) if pattern else scan.subject or scan.relative


def items_of_channels(
    scans: Sequence[Scan], source: str, modality: str, pattern: re.Pattern | None, channels: Mapping[str, str]
) -> tuple[list[Item], Reasons]:
    """One item per subject, or per folder of a subject that has several, with one scan for every channel.

    Without pattern and DICOM, files of one folder belong together.

    Args:
        channels: name -> shell pattern that the relative path, or its last part, matches.

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
                items.append(Item(tuple(by_name[name] for name in channels), group, source, subject, modality))
    return items, left_out


def _matches(relative: str, glob: str) -> bool:
    return fnmatchcase(relative, glob) or fnmatchcase(relative.rpartition("/")[2], glob)
