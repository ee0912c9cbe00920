"""The classes of a data set, from nnU-Net's dataset.json: labels, regions and the ignore label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.dataset_json import DatasetFile, parse_labels
from nnunet_xlstm.errors import DatasetError


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
            DatasetError: no usable `labels`.
        """
        rows = dataset.get("labels") if isinstance(dataset, Mapping) else None
        read = parse_labels(rows)
        labels, names = {}, {}
        for name, ids in read.ids.items():
            if ids != (0,):
                key = str(ids) if read.has_regions and not isinstance(rows[name], int) else str(ids[0])  # as nnU-Net
                if key in labels:
                    raise DatasetError(
                        f"dataset.json: '{names[key]}' and '{name}' are both {key}; give each its own id"
                    )
                labels[key], names[key] = ids, name
        if not labels:
            raise DatasetError("dataset.json: 'labels' holds the background only; give at least one structure")
        return cls(labels, names, read.known, read.ignore)

    def definition(self) -> dict[str, Any]:
        """What each class is made of and what is ignored, for summary.json."""
        return {
            "labels": {self.names[key]: list(ids) for key, ids in self.labels.items()},
            "regions": "a class of several label ids is their union",
            "ignore_label": self.ignore,
            "ignored voxels": "those where the reference is the ignore label; taken out of both masks first",
        }


@dataclass(frozen=True)
class Dataset:
    """What a dataset.json says: its classes, the ending of its files and the names of its channels."""

    classes: Classes
    file_ending: str
    channels: tuple[str, ...]


def read_dataset(path: Path) -> Dataset:
    """Read a dataset.json, or that of a folder.

    Raises:
        DatasetError: the file is not readable, or has no usable labels, file ending or channels.
    """
    file = DatasetFile.read(path)
    try:
        classes = Classes.from_dataset(file.content)
    except DatasetError as error:
        raise DatasetError(f"{file.path}: {str(error).removeprefix('dataset.json: ')}") from error
    has_channels = not {"channel_names", "modality"}.isdisjoint(file.content)
    return Dataset(classes, file.file_ending(), file.channels() if has_channels else ())


def read_classes(path: Path) -> Classes:
    """The classes alone; see `read_dataset`."""
    return read_dataset(path).classes
