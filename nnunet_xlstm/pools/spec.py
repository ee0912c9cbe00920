"""POOL.json: what a user writes to unite data sets, with or without their labels; read and checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_xlstm.catalogue.entries import DataSet, PoolTarget, load_dataset, load_pool
from nnunet_xlstm.catalogue.schema import REGIONS, TEXTS
from nnunet_xlstm.datasets.case_index import MODALITIES
from nnunet_xlstm.datasets.case_table import TEST_SUBJECTS
from nnunet_xlstm.datasets.subjects import subject_pattern
from nnunet_xlstm.errors import DatasetError, UserError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.validate import TEXT, TableOf, check, excerpt, refuse
from nnunet_xlstm.pools.schema import POOL, source_faults, target_faults

DEFAULTS = {"group": "organ", "modality": list(MODALITIES), "region": list(REGIONS)}  # of a target


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source.

    Attributes:
        folder: of the raw data set or of the images.
        cohort: sources of one cohort share their people; the subject is `cohort/subject`.
        channels: pool channel -> index or name of the source's channel; None: every channel is a case of its own.
        pattern, subject_of: where the subject of a case stands; None where it does not.
        exclude, include: subjects; None includes all.
        entry: of the catalogue.
        targets: target -> ids of its dataset.json; None takes `published`.
        published: target -> ids as the authors of the entry publish them.
        not_annotated: target -> cases in which nobody looked for it.
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
    entry: DataSet | None = None
    targets: Mapping[str, Sequence[int]] | None = None
    published: Mapping[str, Sequence[int]] = field(default_factory=dict)
    not_annotated: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The content of POOL.json.

    Attributes:
        targets: empty for a pool of images without labels.
        hierarchy: chains of targets; the first includes the others, which are painted over it in this order.
        mutually_exclusive: groups of targets that cannot overlap.
        merge: `unified`: a target is the same in all sources; `none`: each source has its own.
    """

    name: str | None
    sampling: str
    channels: tuple[str, ...]
    sources: tuple[Source, ...]
    targets: tuple[PoolTarget, ...] = ()
    hierarchy: tuple[tuple[str, ...], ...] = ()
    mutually_exclusive: tuple[tuple[str, ...], ...] = ()
    merge: str = "unified"


def read_pool(path: Path, raw: Path) -> Pool:
    """Read the file; relative paths are relative to its folder, then to the source's.

    Args:
        path: of POOL.json.
        raw: nnUNet_raw, where data sets are found by name.

    Raises:
        DatasetError: the file cannot be read, has unknown keys or wrong values, or a source does not exist.
    """
    content, where = read_json(path), str(path)
    check(content, POOL, where)
    refuse(target_faults(content), where)
    plan = _named(load_pool, content["pool"], f"{where}: pool") if "pool" in content else None
    if plan is not None:
        published, targets = {source.dataset.name: source.targets for source in plan.sources}, plan.targets
        content = {
            "merge": plan.merge,
            "hierarchy": plan.hierarchy,
            "mutually_exclusive": plan.mutually_exclusive,
            "sampling": plan.sampling,
        } | content
    else:
        published, targets = {}, tuple(PoolTarget.of(DEFAULTS | row) for row in content.get("targets", ()))
    channels = tuple(content.get("channels", ("image",)))
    names = [target.name for target in targets]
    refuse(source_faults(content["sources"], names, channels), where)
    sources: list[Source] = []
    for i, row in enumerate(content["sources"]):
        place = f"{where}: sources[{i}] ({row['dataset']})"
        sources.append(_source(row, place, path.parent, raw, sources, names, published))
    return Pool(
        name=content.get("name"),
        sampling=content.get("sampling", "sqrt"),
        channels=channels,
        sources=tuple(sources),
        targets=targets,
        hierarchy=tuple(map(tuple, content.get("hierarchy", ()))),
        mutually_exclusive=tuple(map(tuple, content.get("mutually_exclusive", ()))),
        merge=content.get("merge", "unified"),
    )


def _source(
    row: Mapping[str, Any],
    where: str,
    base: Path,
    raw: Path,
    earlier: Sequence[Source],
    names: Sequence[str],
    published: Mapping[str, Mapping[str, Sequence[int]]],
) -> Source:
    folder = _found(row["dataset"], where, (raw, base)).resolve()
    name = row.get("name", folder.name)
    if name in {source.name for source in earlier}:
        raise DatasetError(f"{where}: name {excerpt(name)} is another source's; give every source a name of its own")
    same = next((source.cohort for source in earlier if source.folder == folder), name)
    subjects, include = row.get("subjects") or {}, row.get("include")
    subject_of = None
    if "file" in subjects:
        subject_of = read_json(table := _found(subjects["file"], where, (base, folder)))
        check(subject_of, TableOf(TEXT, "an object case -> subject"), str(table))
    entry = _named(load_dataset, row["catalogue"], f"{where}: catalogue") if "catalogue" in row else None
    chosen = published.get(entry.name, entry.targets) if entry else {}
    return Source(
        name=name,
        folder=folder,
        cohort=row.get("cohort", same),
        modality=row["modality"],
        channels=row.get("channels"),
        pattern=subject_pattern(subjects["pattern"]) if "pattern" in subjects else None,
        subject_of=subject_of,
        exclude=_names(row.get("exclude", []), f"{where}: exclude", (base, folder)),
        include=None if include is None else _names(include, f"{where}: include", (base, folder)),
        entry=entry,
        targets=row.get("targets"),
        published={target: ids for target, ids in chosen.items() if target in names},
        not_annotated=row.get("not_annotated") or {},
    )


def _named(load: Any, name: str, where: str) -> Any:
    """Return what the catalogue has under a name."""
    try:
        return load(name)
    except UserError as error:
        raise DatasetError(f"{where}: {error}") from error


def _found(name: str, where: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (path := folder / os.path.expanduser(name)).exists():
            return path
    raise DatasetError(f"{where}: there is no {name}, neither in {' nor in '.join(map(str, folders))}; correct it")


def _names(value: Any, where: str, folders: Sequence[Path], within: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """Return the subjects of a list, or of the JSON file that a path names; or of a list of both.

    Args:
        value: a list of texts, or a text.
        where: file and key, for messages.
        folders: where paths begin.
        within: the files that name this one.
    """
    if isinstance(value, str):
        path = _found(value, where, folders)
        if path in within:
            raise DatasetError(f"{where}: {path} names itself; give the subjects there, or a list beside it")
        within, content = (*within, path), read_json(path)
        value = content.get(TEST_SUBJECTS) if isinstance(content, dict) else content
        check(value, TEXTS, str(path), path=TEST_SUBJECTS)
    subjects: list[str] = []
    for entry in value:
        subjects += _names(entry, where, folders, within) if entry.lower().endswith(".json") else (entry,)
    return tuple(dict.fromkeys(subjects))
