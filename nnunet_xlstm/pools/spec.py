"""POOL.json: what a user writes to unite data sets, with or without their labels; read and checked."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.case_index import MODALITIES, SAMPLING
from nnunet_xlstm.datasets.subjects import subject_pattern
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.paths import check_file_name
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.pools.label_rules import (
    RULE_KEYS,
    SOURCE_RULE_KEYS,
    LabelRules,
    SourceRules,
    read_rules,
    read_source_rules,
)

POOL_KEYS = ("name", "sampling", "sources", "channels", *RULE_KEYS)
SOURCE_KEYS = ("dataset", "name", "cohort", "modality", "channels", "subjects", "exclude", "include", *SOURCE_RULE_KEYS)
SUBJECT_KEYS = ("pattern", "file")
LIST_KEY = "test_subjects"  # of a JSON object that `exclude` or `include` names


@dataclass(frozen=True)
class Source:
    """One source.

    Attributes:
        folder: of the raw data set or of the images.
        cohort: sources of one cohort share their people; the subject is `cohort/subject`.
        channels: pool channel -> index or name of the source's channel; None: every channel is a case of its own.
        pattern, subject_of: where the subject of a case stands; None where it does not.
        exclude, include: subjects; None includes all.
        labels: how its labels make targets; None in a pool of images.
    """

    name: str
    folder: Path
    cohort: str
    modality: str
    channels: Mapping[str, int | str] | None = None
    pattern: re.Pattern | None = None
    subject_of: Mapping[str, str] | None = None
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] | None = None
    labels: SourceRules | None = None


@dataclass(frozen=True)
class Pool:
    """The content of POOL.json; `rules` are those of the targets, None for a pool of images."""

    name: str | None
    sampling: str
    channels: tuple[str, ...]
    sources: tuple[Source, ...]
    rules: LabelRules | None = None


def read_pool(path: Path, raw: Path) -> Pool:
    """The file, checked; relative paths are relative to its folder, then to the source's.

    Args:
        raw: nnUNet_raw, where data sets are found by name.

    Raises:
        ValueError: unknown keys, wrong values, or a source that does not exist.
        OSError: the file cannot be read.
    """
    content = read_json(path)
    where = str(path)
    _check_keys(content, POOL_KEYS, where)
    rules = read_rules(content, where)
    sampling = content.get("sampling", (rules.sampling if rules else None) or "sqrt")
    if sampling not in SAMPLING:
        raise DatasetError(f"{where}: sampling {sampling!r}; use one of {', '.join(SAMPLING)}")
    channels = content.get("channels", ["image"])
    if not _texts(channels) or not channels or len(set(channels)) < len(channels):
        raise DatasetError(f'{where}: channels {channels!r}; give a list of different names, such as ["image"]')
    name = content.get("name")
    if name is not None and not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_-]+", name)):
        raise DatasetError(f"{where}: name {name!r}; use letters, digits, - and _ alone")
    rows = content.get("sources")
    if not isinstance(rows, list) or not rows:
        raise DatasetError(f'{where}: sources must be a list of at least one {{"dataset": ..., "modality": ...}}')
    sources: list[Source] = []
    for i, row in enumerate(rows):
        sources.append(_source(row, f"{where}, source {i + 1}", path.parent, raw, tuple(channels), sources, rules))
    return Pool(name, sampling, tuple(channels), tuple(sources), rules)


def _source(
    row: Any,
    where: str,
    base: Path,
    raw: Path,
    channels: tuple[str, ...],
    earlier: Sequence[Source],
    rules: LabelRules | None,
) -> Source:
    _check_keys(row, SOURCE_KEYS, where)
    dataset, modality = row.get("dataset"), row.get("modality")
    if not isinstance(dataset, str) or not dataset:
        raise DatasetError(f"{where}: dataset {dataset!r}; give the name of a data set in nnUNet_raw, or a path")
    folder = _folder(dataset, where, base, raw)
    where = f"{where} ({dataset})"
    if modality not in MODALITIES:
        raise DatasetError(f"{where}: modality {modality!r}; use one of {', '.join(MODALITIES)}")
    name = row.get("name", folder.name)
    check_file_name(name, f"{where}: name")
    if name in {source.name for source in earlier}:
        raise DatasetError(f"{where}: name {name!r} is another source's; give every source a name of its own")
    same = next((source.cohort for source in earlier if source.folder == folder), name)
    cohort = row.get("cohort", same)
    if not isinstance(cohort, str) or not cohort:
        raise DatasetError(f"{where}: cohort {cohort!r}; give sources of the same people one name")
    pattern, subject_of = _subjects(row.get("subjects"), where, base, folder)
    exclude = _names(row.get("exclude", []), f"{where}: exclude", base, folder)
    include = row.get("include")
    include = None if include is None else _names(include, f"{where}: include", base, folder)
    mapping = _channels(row.get("channels"), where, channels)
    labels = read_source_rules(row, rules, where)
    return Source(name, folder, cohort, modality, mapping, pattern, subject_of, exclude, include, labels)


def _folder(dataset: str, where: str, base: Path, raw: Path) -> Path:
    for candidate in (raw / dataset, base / os.path.expanduser(dataset)):
        if candidate.exists():
            return candidate.resolve()
    raise DatasetError(f"{where}: there is neither a data set '{dataset}' in {raw} nor {base / dataset}")


def _channels(value: Any, where: str, channels: tuple[str, ...]) -> dict[str, int | str] | None:
    if value is None:
        if len(channels) > 1:
            raise DatasetError(
                f"{where}: the pool has {len(channels)} channels; give channels, such as "
                f"{{{', '.join(f'{json_text(c)}: {i}' for i, c in enumerate(channels))}}}"
            )
        return None
    good = isinstance(value, dict) and all(
        isinstance(v, (int, str)) and not isinstance(v, bool) for v in value.values()
    )
    if not good or set(value) != set(channels):
        raise DatasetError(
            f"{where}: channels {value!r}; name an index or a channel of this source for every channel of the pool "
            f"({', '.join(channels)})"
        )
    return value


def json_text(text: str) -> str:
    return f'"{text}"'


def _subjects(value: Any, where: str, base: Path, folder: Path) -> tuple[re.Pattern | None, dict[str, str] | None]:
    if value is None:
        return None, None
    _check_keys(value, SUBJECT_KEYS, f"{where}: subjects")
    if len(value) != 1 or not all(isinstance(v, str) for v in value.values()):
        raise DatasetError(
            f'{where}: subjects {value!r}; give {{"pattern": REGEX}} or {{"file": JSON of case -> subject}}'
        )
    if "pattern" in value:
        return subject_pattern(value["pattern"]), None
    table = read_json(_file(value["file"], f"{where}: subjects", base, folder))
    if not isinstance(table, dict) or not all(isinstance(v, str) and v for v in table.values()):
        raise DatasetError(f"{where}: {value['file']} must hold an object case -> subject, both texts")
    return None, table


def _names(value: Any, where: str, base: Path, folder: Path, within: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """A list of subjects, or the path of a JSON file with one, or a list of both subjects and paths.

    Args:
        within: the files that name this one.
    """
    if isinstance(value, str):
        path = _file(value, where, base, folder)
        if path in within:
            raise DatasetError(f"{where}: {path} names itself; give the subjects there, or a list beside it")
        within = (*within, path)
        content = read_json(path)
        value = content.get(LIST_KEY) if isinstance(content, dict) else content
        if not _texts(value):
            raise DatasetError(f'{where}: {path} must hold a list of subjects, or {{"{LIST_KEY}": [...]}}')
    if not _texts(value):
        raise DatasetError(f"{where} {value!r}; give a list of subjects, or the path of a JSON file with one")
    # an entry that ends with .json is a file: several lists for one source
    found: list[str] = []
    for entry in value:
        found += _names(entry, where, base, folder, within) if entry.lower().endswith(".json") else (entry,)
    return tuple(dict.fromkeys(found))


def _file(name: str, where: str, base: Path, folder: Path) -> Path:
    for candidate in (base / os.path.expanduser(name), folder / name):
        if candidate.is_file():
            return candidate
    raise DatasetError(f"{where}: there is no file {name}, neither in {base} nor in {folder}")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) and v for v in value)


def _check_keys(value: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: holds a {type(value).__name__}; write an object with {', '.join(known)}")
    if unknown := [key for key in value if key not in known]:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise DatasetError(f"{where}: key '{unknown[0]}' is unknown{hint}; valid keys: {', '.join(known)}")
