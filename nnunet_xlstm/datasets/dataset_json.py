"""dataset.json of an nnU-Net raw data set: what it says, each key checked when it is asked for.

The one model of the file. A command that needs only the channels works on a file whose labels are wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.paths import FILE_NAME, PATH
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.validate import (
    TEXT,
    Either,
    Key,
    ListOf,
    Record,
    TableOf,
    check,
    excerpt,
    matching,
    number,
    refuse,
)

NAME = "dataset.json"
DEFAULT_ENDING = ".nii.gz"
MAX_ID = 2**31 - 1
ID = number(1, MAX_ID, whole=True)  # of a structure; 0 is the background
LABEL_ID = number(0, MAX_ID, whole=True)

LABELS = TableOf(
    Either(LABEL_ID, ListOf(LABEL_ID, least=1, distinct=True)),
    'an object name -> id, or ids of a region, such as {"background": 0, "left ventricle": 1}',
    least=1,
)
CHANNELS = TableOf(TEXT, 'an object number -> name, such as {"0": "CT"}', least=1)
FILE_ENDING = matching(r"(\.[A-Za-z0-9_-]+)+", 'an ending, such as ".nii.gz"')
TABLE = TableOf(
    Record({"images": Key(ListOf(PATH, least=1)), "label": Key(PATH)}, open=True),
    'an object case -> {"images": [...], "label": ...}',
    key=FILE_NAME,
)


@dataclass(frozen=True)
class Labels:
    """The labels of a data set; each but the background is a class that is scored.

    Attributes:
        ids: name -> ids, background included and `ignore` not; several ids are a region.
        ignore: id of the voxels that count nowhere; None without one.
        listed: names whose ids the file writes as a list.
    """

    ids: Mapping[str, tuple[int, ...]]
    ignore: int | None = None
    listed: frozenset[str] = frozenset()

    @property
    def known(self) -> frozenset[int]:
        """Every id that a label map may hold."""
        return frozenset({0}.union(*self.ids.values())) | ({self.ignore} if self.ignore is not None else set())

    @property
    def has_regions(self) -> bool:
        """Whether a label has several ids."""
        return any(len(group) > 1 for group in self.ids.values())

    @cached_property
    def names(self) -> dict[str, str]:
        """Key of a class in nnU-Net's summary.json, "1", or "(1, 2)" for a region -> name."""
        return {self._key(name): name for name, ids in self.ids.items() if ids != (0,)}

    @cached_property
    def scored(self) -> dict[str, tuple[int, ...]]:
        """Key of a class -> the ids that make it."""
        return {key: self.ids[name] for key, name in self.names.items()}

    def plain_names(self) -> dict[int, str]:
        """Return id -> name of the classes of one id; regions have no id of their own."""
        return {ids[0]: self.names[key] for key, ids in self.scored.items() if len(ids) == 1}

    def _key(self, name: str) -> str:
        ids = self.ids[name]
        return str(ids) if self.has_regions and name in self.listed else str(ids[0])


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case: absolute paths, one image for every channel."""

    images: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class DatasetFile:
    """A dataset.json; `content` is the whole object, of which only the keys that are asked for are checked."""

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> DatasetFile:
        """Read the file, or that of a folder.

        Raises:
            DatasetError: not there, not JSON, or no object.
        """
        path = Path(path)
        path = path / NAME if path.is_dir() else path
        return cls(path, read_json(path, dict))

    @property
    def folder(self) -> Path:
        """Folder of the data set."""
        return self.path.parent

    def labels(self) -> Labels:
        """Return the key `labels`.

        Raises:
            DatasetError: as `parse_labels`.
        """
        return parse_labels(self.content.get("labels"), str(self.path))

    def scored_labels(self) -> Labels:
        """Return the key `labels` of a data set that is scored.

        Raises:
            DatasetError: as `scored_labels`.
        """
        return scored_labels(self.content.get("labels"), str(self.path))

    def channel_table(self) -> dict[str, str]:
        """Return the key `channel_names` (nnU-Net v1: `modality`): number -> name, in the order of the file.

        Raises:
            DatasetError: they are missing, or no texts.
        """
        names = self.content.get("channel_names", self.content.get("modality"))
        check(names, CHANNELS, str(self.path), path="channel_names")
        return dict(names)

    @property
    def has_channels(self) -> bool:
        """Whether the file names any, as one that only explains label maps does not."""
        return not {"channel_names", "modality"}.isdisjoint(self.content)

    def channels(self) -> tuple[str, ...]:
        """Return the names of the channels in the order of the file, as nnU-Net does; errors as `channel_table`."""
        return tuple(self.channel_table().values())

    def image_channels(self) -> tuple[str, ...]:
        """Return what the channels are called: `image_channels` of data sets made here, else as `channels`.

        Raises:
            DatasetError: as `channels`; or another number of names.
        """
        channels = self.channels()
        names = self.content.get("image_channels") or list(channels)
        check(names, ListOf(TEXT, lengths=(len(channels),)), str(self.path), path="image_channels")
        return tuple(names)

    def file_ending(self) -> str:
        """Return the key `file_ending`.

        Raises:
            DatasetError: it is no ending, such as one with a separator of paths.
        """
        ending = self.content.get("file_ending", DEFAULT_ENDING)
        check(ending, FILE_ENDING, str(self.path), path="file_ending")
        return ending

    def table(self) -> dict[str, CaseFiles] | None:
        """Return the key `dataset`: case -> its files, variables expanded as nnU-Net does; None without the key.

        Raises:
            DatasetError: another form, or a case whose name is no name of a file.
        """
        if "dataset" not in self.content:
            return None
        rows = self.content["dataset"]
        check(rows, TABLE, str(self.path), path="dataset")
        return {
            case: CaseFiles(tuple(map(self._full, row["images"])), self._full(row["label"]))
            for case, row in rows.items()
        }

    def _full(self, name: str) -> str:
        return os.path.abspath(self.folder / os.path.expandvars(name))


def parse_labels(rows: Any, where: str = NAME) -> Labels:
    """Return labels from the value of the key `labels`.

    Args:
        rows: the value.
        where: the file, for messages.

    Raises:
        DatasetError: no table of ids, a label that holds the background or `ignore`, or a background other than 0.
    """
    check(rows, LABELS, where, path="labels")
    refuse(_label_faults(rows), where)
    ids = {name: tuple(value) if isinstance(value, (list, tuple)) else (value,) for name, value in rows.items()}
    (ignore,) = ids.pop("ignore", (None,))
    return Labels(ids, ignore, frozenset(name for name in ids if not isinstance(rows[name], int)))


def scored_labels(rows: Any, where: str = NAME) -> Labels:
    """Return labels that can be scored, from the value of the key `labels`.

    Raises:
        DatasetError: as `parse_labels`; no label but the background, or two that nnU-Net gives one key.
    """
    labels = parse_labels(rows, where)
    own = [name for name, ids in labels.ids.items() if ids != (0,)]
    if not own:
        raise DatasetError(f"{where}: labels holds the background only; give at least one structure")
    for name in own:
        if (other := labels.names[labels._key(name)]) != name:
            raise DatasetError(
                f"{where}: labels {excerpt(name)} and {excerpt(other)} are both {labels._key(name)}; give each its own"
            )
    return labels


def _label_faults(rows: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the ids are to each other and must not be."""
    groups = {name: value if isinstance(value, (list, tuple)) else [value] for name, value in rows.items()}
    ignore = groups.pop("ignore", [None])
    if len(ignore) > 1:
        yield f"labels.ignore is {excerpt(ignore)}; give one id"
    if list(groups.get("background", [0])) != [0]:
        yield f"labels.background is {excerpt(rows['background'])}; give 0, which nnU-Net needs"
    for name, group in groups.items():
        if 0 in group and len(group) > 1:
            yield f"labels.{name} is {excerpt(group)}, which holds the background, 0; take it out"
        if ignore[0] in group:
            yield f"labels.{name} is {excerpt(group)}, which holds the ignore label, {ignore[0]}; take it out"
