"""The catalogue of published data sets and pools, `dataset_json/*.json`: read, checked and resolved.

Every fault of a file is told at once, as sentences of what is wrong, where, and what to write instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from nnunet_xlstm.catalogue.schema import DATASET, POOL
from nnunet_xlstm.errors import DatasetError, UserError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.validate import Key, Record, check, excerpt, refuse

POOL_PREFIX = "pool_"
ACCESS_PHRASES = {
    "public": "without an account",
    "registration": "after registration",
    "application": "on application",
    "private": "private",
    None: "of unknown access",
}


@dataclass(frozen=True)
class DataSet:
    """One entry of the catalogue; the keys are explained in `schema.DATASET`."""

    name: str
    title: str
    url: str | None
    licence: str | None
    citation: str | None
    access: str | None
    channels: list[dict[str, Any]]
    labels: dict[str, int]
    cases: dict[str, int | bool | None]
    layout: dict[str, Any] | None
    nnunet_converter: str | None
    targets: dict[str, list[int]]
    mutually_exclusive: list[list[str]]
    hierarchy: list[list[str]]
    field_of_view: list[str]
    verified: dict[str, str]
    sources: list[str]
    version: str | None = None
    annotation: str = "masks"
    optional_labels: tuple[str, ...] = ()
    label_aliases: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def modalities(self) -> set[str]:
        """Those of all channels and cases."""
        return {
            m for c in self.channels for m in ([c["modality"]] if isinstance(c["modality"], str) else c["modality"])
        }

    @property
    def no_masks(self) -> str:
        """Say what there is instead of masks; empty where there are masks."""
        return {"masks": "", "none": "no annotation"}.get(self.annotation, f"{self.annotation}, no masks")


@dataclass(frozen=True)
class PoolTarget:
    """One target of a pool, which is one output of a network.

    Attributes:
        group: organ, vessel or lesion. modality: those that can show it. region: where it can lie.
    """

    name: str
    group: str
    modality: tuple[str, ...]
    region: tuple[str, ...]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> PoolTarget:
        """Make a target of a row of JSON that was checked."""
        return cls(row["name"], row["group"], tuple(row["modality"]), tuple(row["region"]))


@dataclass(frozen=True)
class PoolSource:
    """A data set of a pool; `targets` are those of the pool that it labels, with their native ids."""

    dataset: DataSet
    cases: int | None
    targets: dict[str, list[int]]


@dataclass(frozen=True)
class PoolPlan:
    """A pool of the catalogue, with its sources resolved."""

    name: str
    title: str
    targets: tuple[PoolTarget, ...]
    sources: tuple[PoolSource, ...]
    mutually_exclusive: list[list[str]]
    hierarchy: list[list[str]]
    merge: str
    modality: list[str]
    sampling: str
    notes: tuple[str, ...] = ()


# Reading ------------------------------------------------------------------------------------------------------------


@cache
def shipped() -> tuple[str, ...]:
    """Return the names of the data sets that are shipped."""
    return tuple(name for name in _shipped_files() if not name.startswith(POOL_PREFIX))


@cache
def shipped_pools() -> tuple[str, ...]:
    """Return the names of the pools that are shipped."""
    return tuple(name for name in _shipped_files() if name.startswith(POOL_PREFIX))


@cache
def load_dataset(name: str) -> DataSet:
    """Return a shipped entry.

    Raises:
        DatasetError: there is none of that name.
    """
    return read_dataset(_shipped_file(name, shipped(), "data set"))


@cache
def load_pool(name: str) -> PoolPlan:
    """Return a shipped pool; errors as `load_dataset`."""
    return read_pool_plan(_shipped_file(name, shipped_pools(), "pool"))


def count_sets(entries: Iterable[DataSet]) -> str:
    """Count the published data sets by access, and those that are made on the user's machine apart from them."""
    access = Counter(entry.access for entry in entries)
    made = access.pop("local", 0)
    parts = [f"{access[kind]} {text}" for kind, text in ACCESS_PHRASES.items() if access[kind]]
    return f"{access.total()} published data sets ({', '.join(parts)}) and {made} made from them or by this project"


def read_dataset(path: Path) -> DataSet:
    """Read and check an entry.

    Raises:
        DatasetError: with all faults of the file.
    """
    return DataSet(**_checked(path, DATASET, _dataset_rules))


def read_pool_plan(path: Path) -> PoolPlan:
    """Read and check a pool; its sources are shipped entries.

    Raises:
        DatasetError: with all faults of the file.
    """
    content = _checked(path, POOL, _pool_rules)
    rows = [PoolTarget.of(row) for row in content["targets"]]
    sources = [
        PoolSource(load_dataset(row["catalogue"]), row.get("cases"), _source_targets(row, {t.name for t in rows}))
        for row in content["sources"]
    ]
    return PoolPlan(**content | {"targets": tuple(rows), "sources": tuple(sources)})


def _shipped_files() -> list[str]:
    folder = resources.files("nnunet_xlstm.dataset_json")
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".json"))


def _shipped_file(name: str, known: tuple[str, ...], what: str) -> Path:
    if name not in known:
        raise DatasetError(f"The catalogue has no {what} {excerpt(name)}; it has {', '.join(known)}.")
    return Path(str(resources.files("nnunet_xlstm.dataset_json") / f"{name}.json"))


def _checked(path: Path, schema: dict[str, Key], rules: Callable[[dict[str, Any]], Iterator[str]]) -> dict[str, Any]:
    content = read_json(path)
    check(content, Record(schema), str(path))
    refuse(rules(content), str(path))
    if content["name"] != path.stem:
        raise DatasetError(
            f"{path}: name is {excerpt(content['name'])}; give {excerpt(path.stem)}, as the file is called"
        )
    return content


def _source_targets(row: dict[str, Any], known: set[str]) -> dict[str, list[int]]:
    """Return an override as it is; else the entry's targets that the pool has."""
    if "targets" in row:
        return row["targets"]
    return {target: ids for target, ids in load_dataset(row["catalogue"]).targets.items() if target in known}


# Rules between keys -------------------------------------------------------------------------------------------------


def _dataset_rules(content: dict[str, Any]) -> Iterator[str]:
    labels, targets, label_aliases = content["labels"], content["targets"], content.get("label_aliases", {})
    yield from _annotation_faults(content)
    yield from _id_faults(targets, labels, "targets")
    yield from _group_faults(content, targets)
    for group in content["mutually_exclusive"]:
        ids = [number for target in group for number in targets.get(target, ())]
        if len(set(ids)) < len(ids):
            yield f"mutually_exclusive: {excerpt(group)} share a native id, so they overlap: drop the group"
    for chain in content["hierarchy"]:
        for target in chain[1:]:
            if missing := set(targets.get(target, ())) - set(targets.get(chain[0], ())):
                yield f'hierarchy: "{chain[0]}" lacks {sorted(missing)} of "{target}", which it includes; add them'
    for label in {*content.get("optional_labels", ()), *label_aliases.values()} - labels.keys():
        yield f"optional_labels, label_aliases: there is no label {excerpt(label)}; use {excerpt(list(labels))}"
    for number in set(map(int, label_aliases)) & set(labels.values()):
        yield f"label_aliases: {number} is the id of a label; leave it out"
    yield from _layout_faults(content)
    if set(content["verified"].values()) != {"no"} and not content["sources"]:
        yield "sources: empty, but facts are marked as verified; say where each was seen"


def _annotation_faults(content: dict[str, Any]) -> Iterator[str]:
    annotation = content.get("annotation", "masks")
    for key in ("labels", "targets"):
        if annotation == "masks" and not content[key]:
            yield f'{key}: empty; list them, or say under annotation what there is instead of masks, such as "none"'
        elif annotation != "masks" and content[key]:
            yield f'{key}: given, but annotation is "{annotation}", which has no ids; write {{}}, or annotation "masks"'
    if annotation != "masks" and (content["layout"] or content["nnunet_converter"]):
        yield f'annotation: "{annotation}", but layout or nnunet_converter is given; write null, there are no masks'


def _layout_faults(content: dict[str, Any]) -> Iterator[str]:
    layout, converter = content["layout"], content["nnunet_converter"]
    if layout is None and converter is None and content["verified"]["layout"] != "no":
        yield 'layout: null without nnunet_converter; write the patterns, or mark layout "no" as not known'
    if layout is not None and converter is not None:
        yield "layout, nnunet_converter: both are given; keep one"
    names = [channel["name"] for channel in content["channels"]]
    if len(set(names)) < len(names):
        yield f"channels: two have one name in {excerpt(names)}; give each its own"
    for key in {"image", "test_image"} & (layout or {}).keys():
        if set(layout[key]) != set(names):
            yield f"layout: {key} has patterns for {excerpt(list(layout[key]))}; the channels are {excerpt(names)}"


def _pool_rules(content: dict[str, Any]) -> Iterator[str]:
    names = [row["name"] for row in content["targets"]]
    if [row["id"] for row in content["targets"]] != list(range(1, len(names) + 1)):
        yield f"targets: the ids are not 1 to {len(names)} in the order of the list; number them so"
    for name in {name for name in names if names.count(name) > 1}:
        yield f'targets: "{name}" is listed twice; keep one'
    yield from _group_faults(content, names)
    entries = [row["catalogue"] for row in content["sources"]]
    for name in {name for name in entries if entries.count(name) > 1}:
        yield f'sources: "{name}" is listed twice; keep one'
    labelled: set[str] = set()
    for row in content["sources"]:
        where = f"sources, {row['catalogue']}"
        try:
            entry = load_dataset(row["catalogue"])
        except UserError as error:
            yield f"{where}: {error}"
            continue
        mapped = _source_targets(row, set(names))
        labelled |= mapped.keys()
        yield from _id_faults(mapped, entry.labels, where)
        for target in mapped.keys() - set(names):
            yield f'{where}: "{target}" is no target of the pool; use {excerpt(names)}'
        if not mapped:
            yield f"{where}: labels none of the targets; leave it out, or give targets"
        if extra := entry.modalities - set(content["modality"]):
            yield f"{where}: has {', '.join(sorted(extra))} images; add that to modality"
    for name in names:
        if name not in labelled:
            yield f'targets: no source labels "{name}"; leave it out, or add a source'


def _id_faults(targets: dict[str, list[int]], labels: dict[str, int], where: str) -> Iterator[str]:
    for target, ids in targets.items():
        if missing := set(ids) - set(labels.values()):
            yield f'{where}: "{target}" names the ids {sorted(missing)}, which no label has; use {excerpt(labels)}'


def _group_faults(content: dict[str, Any], known: Any) -> Iterator[str]:
    for key in ("mutually_exclusive", "hierarchy"):
        for target in {target for group in content[key] for target in group if target not in known}:
            yield f'{key}: there is no target "{target}"; use {excerpt(list(known))}'
