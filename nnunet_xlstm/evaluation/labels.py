"""The classes of a data set, from nnU-Net's dataset.json: labels, regions and the ignore label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.files import read_json


@dataclass(frozen=True)
class Classes:
    """What is scored.

    Attributes:
        labels: class key, as nnU-Net writes it ("1", or "(1, 2)" for a region) -> the label ids that make the class.
        names: class key -> name in dataset.json.
        known: every id that a label map may hold, background and ignore label included.
        ignore: id of the voxels that count nowhere; None without one.
    """

    labels: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]
    known: frozenset[int]
    ignore: int | None = None

    @classmethod
    def from_ids(cls, ids: Mapping[str, int]) -> Classes:
        """Plain labels from name -> id."""
        return cls.from_dataset({"labels": {"background": 0, **ids}})

    @classmethod
    def from_dataset(cls, dataset: Mapping[str, Any]) -> Classes:
        """From the content of dataset.json.

        Raises:
            ValueError: no usable `labels`.
        """
        rows = dataset.get("labels") if isinstance(dataset, Mapping) else None
        if not isinstance(rows, Mapping) or not rows:
            raise DatasetError(
                "dataset.json has no 'labels'; it must hold a table name -> id, such as "
                '{"background": 0, "left ventricle": 1}'
            )
        labels, names, ignore = {}, {}, None
        all_ids = {name: _ids(name, value) for name, value in rows.items()}
        regions = any(len(ids) > 1 for ids in all_ids.values())
        for name, ids in all_ids.items():
            if name == "ignore":
                if len(ids) > 1:
                    raise DatasetError(f"dataset.json: label 'ignore' is {list(ids)}; it must be one id")
                ignore = ids[0]
            elif set(ids) != {0}:
                key = str(ids) if regions and not isinstance(rows[name], int) else str(ids[0])  # as nnU-Net does
                if key in labels:
                    raise DatasetError(
                        f"dataset.json: '{names[key]}' and '{name}' are both {key}; give each its own id"
                    )
                labels[key], names[key] = ids, name
        if not labels:
            raise DatasetError("dataset.json: 'labels' holds the background only; give at least one structure")
        for key, ids in labels.items():
            if 0 in ids or ignore in ids:
                what = "the background, 0" if 0 in ids else f"the ignore label, {ignore}"
                raise DatasetError(
                    f"dataset.json: label '{names[key]}' is {list(ids)}, which holds {what}; take it out"
                )
        return cls(labels, names, frozenset({0}.union(*all_ids.values())), ignore)

    def definition(self) -> dict[str, Any]:
        """What each class is made of and what is ignored, for summary.json."""
        return {
            "labels": {self.names[key]: list(ids) for key, ids in self.labels.items()},
            "regions": "a class of several label ids is their union",
            "ignore_label": self.ignore,
            "ignored voxels": "those where the reference is the ignore label; taken out of both masks first",
        }


def _ids(name: str, value: int | list[int]) -> tuple[int, ...]:
    ids = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    whole = all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids)
    if not ids or not whole or len(set(ids)) < len(ids):
        raise DatasetError(
            f"dataset.json: label '{name}' is {value!r}; use a whole number from 0 on, or a list of different ones"
        )
    return ids


@dataclass(frozen=True)
class Dataset:
    """What a dataset.json says: its classes, the ending of its files and the names of its channels."""

    classes: Classes
    file_ending: str
    channels: tuple[str, ...]


def read_dataset(path: Path) -> Dataset:
    """From a dataset.json, or from the folder that holds it.

    Raises:
        ValueError: the file is not readable, or has no usable labels.
    """
    path = Path(path)
    path = path / "dataset.json" if path.is_dir() else path
    content = read_json(path, dict)
    try:
        classes = Classes.from_dataset(content)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    ending = content.get("file_ending", ".nii.gz")
    channels = content.get("channel_names") or content.get("modality") or {}
    if not isinstance(ending, str) or not ending.startswith(".") or not isinstance(channels, Mapping):
        raise DatasetError(
            f"{path}: file_ending {ending!r}, channel_names {channels!r}; they must be a text such as '.nii.gz' and a "
            'table such as {"0": "CT"}'
        )
    return Dataset(classes, ending, tuple(str(name) for name in channels.values()))


def read_classes(path: Path) -> Classes:
    """The classes alone; see `read_dataset`."""
    return read_dataset(path).classes
