"""What becomes a case: one scan, or one scan per channel."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

import SimpleITK as sitk

from nnunet_xlstm.datasets.scans import Scan
from nnunet_xlstm.datasets.subjects import subject_of
from nnunet_xlstm.datasets.time_modes import FRAMES, TimeMode
from nnunet_xlstm.imaging.dicom.series import Reasons
from nnunet_xlstm.imaging.image_files import companions


class LabelMaker(Protocol):
    """Makes the label map of a case; `pools.relabel.Relabel` is one."""

    @property
    def path(self) -> str:
        """Of the native label map."""

    def fingerprint(self) -> str:
        """Name what is made, so that a later run knows whether it would make the same."""

    def make(self) -> tuple[sitk.Image, tuple[str, ...]]:
        """Return the label map, and the targets that are annotated in it."""


class Job(Protocol):
    """What `build.build` needs of an item: a name, whose it is, and what tells it and its changes."""

    @property
    def name(self) -> str:
        """Name that the case begins with."""

    @property
    def source(self) -> str:
        """Data set that it comes from."""

    @property
    def subject(self) -> str:
        """Whose it is."""

    @property
    def modality(self) -> str:
        """CT, MR or PET."""

    @property
    def key(self) -> str:
        """What tells it from others in later runs."""

    def fingerprint(self) -> str:
        """Return a hash that changes when a file does, or what it means."""


@dataclass(frozen=True)
class Item:
    """What becomes one case, or one per frame: a scan, or one scan per channel.

    Attributes:
        label: a mask that exists already: the scan was checked when that was made, and is not read again.
        frame, frames, origin: as in CaseRecord, for items that are a frame already.
        relabel: how its own label map becomes that of a pool; without it the case gets a mask of the body.
        tags: as in CaseRecord, for items that have them already.
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
    relabel: LabelMaker | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    min_slices: int = 1
    last_axis_is_time: bool = False
    time: TimeMode = FRAMES

    @property
    def key(self) -> str:
        """What tells the item from others in later runs."""
        return " | ".join(scan.key for scan in self.scans)

    def fingerprint(self) -> str:
        """Return a hash that changes when a file does, or what it means.

        It is of modality, options, paths, sizes and times of change.
        """
        files = [name for scan in self.scans for file in scan.files for name in (file, *companions(file))]
        meaning = self.modality
        if (self.min_slices, self.last_axis_is_time) != (1, False):
            meaning += f" {self.min_slices} {self.last_axis_is_time}"
        if self.time != FRAMES:
            meaning += f" {self.time}"
        if self.relabel is None:
            return fingerprint_of(meaning, files)
        return fingerprint_of(meaning + self.relabel.fingerprint(), [*files, self.relabel.path])


def fingerprint_of(meaning: str, files: Sequence[str]) -> str:
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


def items_of_scans(
    scans: Sequence[Scan], source: str, modality: str, pattern: re.Pattern | None, **options: Any
) -> list[Item]:
    """Make one item per scan. The subject: by the pattern in the relative path, else as DICOM says, else the scan.

    Args:
        scans: images.
        source: name of the data set.
        modality: of all images.
        pattern: finds the subject; None without one.
        options: of Item: min_slices, last_axis_is_time and time.

    Raises:
        DatasetError: the pattern finds no subject in a path.
    """
    items = []
    for scan in scans:
        subject = subject_of(pattern, scan.relative) if pattern else scan.subject or scan.relative
        items.append(Item((scan,), scan.relative, source, subject, modality, **options))
    return items


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
        scans: images.
        source: name of the data set.
        modality: of all images.
        pattern: finds the subject; None without one.
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
