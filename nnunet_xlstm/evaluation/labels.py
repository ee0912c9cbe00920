"""The classes of a data set, from nnU-Net's dataset.json: labels, regions and the ignore label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
        rows = dataset.get("labels")
        if not isinstance(rows, Mapping) or not rows:
            raise ValueError(
                "dataset.json has no 'labels'; it must hold a table name -> id, such as "
                '{"background": 0, "left ventricle": 1}'
            )
        labels, names, known, ignore = {}, {}, {0}, None
        for name, value in rows.items():
            ids = _ids(name, value)
            known.update(ids)
            if name == "ignore":
                (ignore,) = ids
            elif set(ids) != {0}:
                key = str(ids[0]) if isinstance(value, int) else str(ids)
                labels[key], names[key] = ids, name
        if not labels:
            raise ValueError("dataset.json: 'labels' holds the background only; give at least one structure")
        return cls(labels, names, frozenset(known), ignore)


def _ids(name: str, value: int | list[int]) -> tuple[int, ...]:
    ids = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not ids or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise ValueError(f"dataset.json: label '{name}' is {value!r}; use a whole number from 0 on, or a list of them")
    return ids


def read_classes(path: Path) -> Classes:
    """From a dataset.json, or from the folder that holds it.

    Raises:
        ValueError: the file is not readable or has no usable labels.
    """
    path = Path(path)
    path = path / "dataset.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}); give the dataset.json of the data set") from error
    try:
        return Classes.from_dataset(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
