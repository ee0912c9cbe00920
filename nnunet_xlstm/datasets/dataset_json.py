"""dataset.json of an nnU-Net raw data set: what it says, each key checked when it is asked for.

The one model of the file. A command that needs only the channels works on a file whose labels are wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.paths import check_file_name, is_path
from nnunet_xlstm.io.read import read_json

NAME = "dataset.json"
DEFAULT_ENDING = ".nii.gz"
MAX_ID = 2**31 - 1


@dataclass(frozen=True)
class Labels:
    """The labels of a data set.

    Attributes:
        ids: name -> ids, background included and `ignore` not; several ids are a region.
        ignore: id of the voxels that count nowhere; None without one.
    """

    ids: Mapping[str, tuple[int, ...]]
    ignore: int | None = None

    @property
    def known(self) -> frozenset[int]:
        """Every id that a label map may hold."""
        return frozenset({0, *(i for group in self.ids.values() for i in group)}) | (
            frozenset() if self.ignore is None else frozenset({self.ignore})
        )

    @property
    def has_regions(self) -> bool:
        return any(len(group) > 1 for group in self.ids.values())


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
        return self.path.parent

    def labels(self) -> Labels:
        """Return the key `labels`.

        Raises:
            DatasetError: it is missing, or a label has other than whole numbers from 0 on.
        """
        try:
            return parse_labels(self.content.get("labels"))
        except DatasetError as error:
            raise DatasetError(f"{self.path}: {str(error).removeprefix('dataset.json: ')}") from error

    def channels(self) -> tuple[str, ...]:
        """Return the names under `channel_names` (nnU-Net v1: `modality`), in the order of the file, as nnU-Net does.

        Raises:
            DatasetError: they are missing, or no texts.
        """
        names = self.content.get("channel_names", self.content.get("modality"))
        if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
            raise DatasetError(f'{self.path}: channel_names is {_shown(names)}; write a table such as {{"0": "CT"}}')
        return tuple(names.values())

    def image_channels(self) -> tuple[str, ...]:
        """Return what the channels are called: `image_channels` of data sets made here, else as `channels`.

        Raises:
            DatasetError: as `channels`; or another number of names.
        """
        channels = self.channels()
        names = self.content.get("image_channels") or list(channels)
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len(names) != len(channels):
            raise DatasetError(
                f"{self.path}: image_channels is {_shown(names)}; write one name for each of the {len(channels)} "
                "channels of channel_names"
            )
        return tuple(names)

    def file_ending(self) -> str:
        """Return the key `file_ending`.

        Raises:
            DatasetError: it is no ending, such as one with a separator of paths.
        """
        ending = self.content.get("file_ending", DEFAULT_ENDING)
        if not isinstance(ending, str) or not re.fullmatch(r"(\.[A-Za-z0-9_-]+)+", ending):
            raise DatasetError(f'{self.path}: file_ending is {_shown(ending)}; write one, such as ".nii.gz"')
        return ending

    def table(self) -> dict[str, CaseFiles] | None:
        """Return the key `dataset`: case -> its files, variables expanded as nnU-Net does; None without the key.

        Raises:
            DatasetError: another form, or a case whose name is no name of a file.
        """
        rows = self.content.get("dataset")
        if "dataset" not in self.content:
            return None
        cases = {}
        for case, row in rows.items() if isinstance(rows, dict) else [("", rows)]:
            images = row.get("images") if isinstance(row, dict) else None
            label = row.get("label") if isinstance(row, dict) else None
            if not isinstance(images, list) or not images or not all(map(is_path, images)) or not is_path(label):
                raise DatasetError(
                    f'{self.path}: `dataset` of dataset.json must hold case -> {{"images": [...], "label": ...}}; it '
                    f"holds {_shown(row)}" + (f" for {case!r}" if case else "")
                )
            check_file_name(case, f"{self.path}, `dataset`")
            cases[case] = CaseFiles(tuple(map(self._full, images)), self._full(label))
        return cases

    def _full(self, name: str) -> str:
        return os.path.abspath(self.folder / os.path.expandvars(name))


def parse_labels(rows: Any) -> Labels:
    """Return labels from the value of the key `labels`.

    Raises:
        DatasetError: no table, a label that `label_ids` refuses, one that holds the background or `ignore`, or a
            background other than 0.
    """
    if not isinstance(rows, Mapping) or not rows:
        raise DatasetError(
            "dataset.json has no 'labels'; it must hold a table name -> id, such as "
            '{"background": 0, "left ventricle": 1}'
        )
    ids = {name: label_ids(name, value) for name, value in rows.items()}
    ignore = ids.pop("ignore", None)
    if ignore is not None and len(ignore) > 1:
        raise DatasetError(f"dataset.json: label 'ignore' is {list(ignore)}; it must be one id")
    if ids.get("background", (0,)) != (0,):
        raise DatasetError(f"dataset.json: label 'background' is {list(ids['background'])}; nnU-Net needs 0, write it")
    labels = Labels(ids, ignore[0] if ignore else None)
    for name, group in ids.items():
        if (0 in group and group != (0,)) or labels.ignore in group:
            what = "the background, 0" if 0 in group else f"the ignore label, {labels.ignore}"
            raise DatasetError(f"dataset.json: label '{name}' is {list(group)}, which holds {what}; take it out")
    return labels


def label_ids(name: str, value: Any) -> tuple[int, ...]:
    """Return the ids of one label or region.

    Raises:
        DatasetError: other than a whole number from 0 on, or a list of different ones.
    """
    ids = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    whole = all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i <= MAX_ID for i in ids)
    if not ids or not whole or len(set(ids)) < len(ids):
        raise DatasetError(
            f"dataset.json: label '{name}' is {_shown(value)}; use a whole number from 0 on, or a list of different "
            "ones"
        )
    return ids


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
