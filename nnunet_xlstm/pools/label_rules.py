"""What POOL.json says of labels: the targets of the pool, and which labels of each source make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunet_xlstm.catalogue.checks import groups, shown, table_faults
from nnunet_xlstm.catalogue.entries import DataSet, load_dataset, load_pool
from nnunet_xlstm.catalogue.schema import MERGES, REGIONS, TARGET
from nnunet_xlstm.datasets.case_index import MODALITIES
from nnunet_xlstm.datasets.dataset_json import Labels
from nnunet_xlstm.errors import DatasetError, UserError
from nnunet_xlstm.pools.manifest import PoolTarget

RULE_KEYS = ("pool", "targets", "over", "exclusive", "merge")  # of POOL.json
SOURCE_RULE_KEYS = ("catalogue", "targets", "not_annotated")  # of a source
TARGET_DEFAULTS = {"group": "organ", "modality": list(MODALITIES), "region": list(REGIONS)}


@dataclass(frozen=True)
class LabelRules:
    """The targets of a pool.

    Attributes:
        over: chains of targets; the first includes the others, which are painted over it in this order.
        exclusive: groups of targets that cannot overlap.
        merge: `unified`: a target is the same in all sources; `none`: each source has its own.
        entries: of a pool of the catalogue, entry -> target -> native ids; it may take fewer than the entry has.
    """

    targets: tuple[PoolTarget, ...]
    over: tuple[tuple[str, ...], ...] = ()
    exclusive: tuple[tuple[str, ...], ...] = ()
    merge: str = "unified"
    sampling: str | None = None
    entries: Mapping[str, Mapping[str, list[int]]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [target.name for target in self.targets]


@dataclass(frozen=True)
class SourceRules:
    """What POOL.json says of one source's labels.

    Attributes:
        entry: of the catalogue.
        targets: target -> label ids; None takes the entry's.
        not_annotated: target -> cases in which nobody looked for it.
    """

    entry: DataSet | None = None
    targets: Mapping[str, list[int]] | None = None
    not_annotated: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceLabels:
    """One source's labels as its files have them.

    Attributes:
        labels: name -> id, of its dataset.json.
        targets: target of the pool -> ids.
        optional: ids that are not annotated in every case: where such a label is absent it is unknown.
        ignore: the id of voxels that do not count.
        field_of_view: regions that its scans may show.
    """

    labels: Mapping[str, int]
    targets: Mapping[str, tuple[int, ...]]
    optional: frozenset[int] = frozenset()
    ignore: int | None = None
    field_of_view: tuple[str, ...] = REGIONS
    not_annotated: Mapping[str, frozenset[str]] = field(default_factory=dict)


# Reading POOL.json ---------------------------------------------------------------------------------------------------


def read_rules(content: Mapping[str, Any], where: str) -> LabelRules | None:
    """The targets of POOL.json; None for a pool of images.

    Raises:
        ValueError: what is wrong, and what to write.
    """
    given = [name for name in RULE_KEYS if name in content]
    if not given:
        return None
    if "pool" in content:
        if clash := set(given) - {"pool", "merge"}:
            raise DatasetError(f"{where}: pool and {min(clash)} are both given; a pool of the catalogue brings its own")
        plan = _named(content["pool"], load_pool, f"{where}: pool")
        targets = tuple(PoolTarget(t.name, t.group, tuple(t.modality), tuple(t.region)) for t in plan.targets)
        merge = _merge(content.get("merge", plan.merge), where)
        entries = {source.dataset.name: source.targets for source in plan.sources}
        return LabelRules(targets, _tuples(plan.over), _tuples(plan.exclusive), merge, plan.sampling, entries)
    rows = content.get("targets")
    if not isinstance(rows, list) or not rows:
        raise DatasetError(f'{where}: targets {shown(rows)}; list {{"name": "liver", "group": "organ"}} and so on')
    table = {name: row for name, row in TARGET.items() if name != "id"}
    for i, row in enumerate(rows, start=1):
        filled = TARGET_DEFAULTS | row if isinstance(row, dict) else row
        if faults := list(table_faults(filled, table, "the target")):
            raise DatasetError(f"{where}: targets, {i}: {faults[0]}")
    filled = [TARGET_DEFAULTS | row for row in rows]
    targets = tuple(PoolTarget(t["name"], t["group"], tuple(t["modality"]), tuple(t["region"])) for t in filled)
    names = [target.name for target in targets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DatasetError(f"{where}: target {min(twice)} is listed twice; keep one")
    if taken := {"background", "ignore"} & set(names):
        raise DatasetError(f"{where}: nnU-Net keeps the name {min(taken)} for itself; name the target differently")
    for key in ("over", "exclusive"):
        for fault in groups(content.get(key, [])):
            raise DatasetError(f"{where}: {key}: {fault}")
        for name in (name for group in content.get(key, []) for name in group if name not in names):
            raise DatasetError(f"{where}: {key}: there is no target {shown(name)}; use {', '.join(names)}")
    merge = _merge(content.get("merge", "unified"), where)
    return LabelRules(targets, _tuples(content.get("over", [])), _tuples(content.get("exclusive", [])), merge)


def read_source_rules(row: Mapping[str, Any], rules: LabelRules | None, where: str) -> SourceRules | None:
    """The label keys of one source; None for a pool of images.

    Raises:
        ValueError: what is wrong, and what to write.
    """
    given = [name for name in SOURCE_RULE_KEYS if name in row]
    if rules is None:
        if given:
            raise DatasetError(f"{where}: {given[0]} says how to use labels, but the file lists no targets (or pool)")
        return None
    entry = _named(row["catalogue"], load_dataset, f"{where}: catalogue") if "catalogue" in row else None
    targets = row.get("targets")
    if entry is None and targets is None:
        raise DatasetError(
            f'{where}: which of its labels make the targets? Give "catalogue": NAME, or "targets": {{"liver": [1, 2]}}'
        )
    missing = row.get("not_annotated") or {}
    for key, value, kind in (("targets", targets, int), ("not_annotated", missing, str)):
        for fault in _mapping_faults(value, rules.names, kind):
            raise DatasetError(f"{where}: {key}: {fault}")
    return SourceRules(entry, targets, missing)


def _mapping_faults(value: Any, names: Sequence[str], kind: type):
    what = "label ids, such as [1, 2]" if kind is int else 'case names, such as ["case_007"]'
    if value is None:
        return
    if not isinstance(value, dict):
        yield f"{shown(value)}; write an object target -> list of {what}"
        return
    for target, items in value.items():
        if target not in names:
            yield f"{shown(target)} is no target of the pool; use {', '.join(names)}"
        good = isinstance(items, list) and items and all(type(i) is kind for i in items)
        if not good or len(set(items)) < len(items) or (kind is int and min(items) < 1):
            yield f"{target}: {shown(items)}; list different {what}"


def _named(value: Any, load, where: str):
    if not isinstance(value, str):
        raise DatasetError(f"{where}: {shown(value)} is no name")
    try:
        return load(value)
    except UserError as error:
        raise DatasetError(f"{where}: {error}") from error


def _merge(value: Any, where: str) -> str:
    if value not in MERGES:
        raise DatasetError(f"{where}: merge {shown(value)}; use one of {', '.join(MERGES)}")
    return value


def _tuples(value: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group) for group in value)


# Joining a source's labels to the targets -----------------------------------------------------------------------------


def source_labels(name: str, rules: SourceRules, pool: LabelRules, own: Labels) -> SourceLabels:
    """The labels of a source on disk, joined to the targets of the pool.

    The ids of an entry of the catalogue are those the authors publish; a converted data set has others. They are
    joined by the labels' names, or, where a name is missing, taken as they are if both have the same ids.

    Args:
        own: of its dataset.json.

    Raises:
        DatasetError: labels that cannot be joined, or none that makes a target.
    """
    where = f"source {name}"
    if own.ids.get("background") != (0,):
        raise DatasetError(
            f'{where}: `labels` of its dataset.json has no "background": 0; it is no nnU-Net v2 data set'
        )
    plain = {label: ids for label, ids in own.ids.items() if ids != (0,)}
    ids = {i for group in plain.values() for i in group}
    named = {label: group[0] for label, group in plain.items() if len(group) == 1}
    entry = rules.entry
    own_id = {i: i for i in ids} if entry is None else _own_ids(where, entry, named, ids)
    native = rules.targets
    if native is None:
        chosen = pool.entries.get(entry.name, entry.targets)
        native = {t: [own_id[i] for i in group] for t, group in chosen.items() if t in pool.names}
    elif unknown := {i for group in native.values() for i in group} - ids:
        raise DatasetError(f"{where}: targets name the id {min(unknown)}, which its dataset.json has not: {shown(own)}")
    if not native:
        raise DatasetError(f"{where}: labels none of the pool's targets {', '.join(pool.names)}; leave it out")
    optional = () if entry is None else (own_id[entry.labels[label]] for label in entry.optional_labels)
    return SourceLabels(
        named | {str(i): i for i in sorted(ids - set(named.values()))},  # ids that only regions hold
        {t: tuple(native[t]) for t in pool.names if t in native},
        frozenset(optional),
        own.ignore,
        tuple(entry.field_of_view) if entry else REGIONS,
        {t: frozenset(cases) for t, cases in rules.not_annotated.items()},
    )


def _own_ids(where: str, entry: DataSet, named: Mapping[str, int], ids: set[int]) -> dict[int, int]:
    """Native id of the entry -> id in the files."""
    if set(entry.labels) <= set(named):
        return {number: named[label] for label, number in entry.labels.items()}
    if set(entry.labels.values()) == ids:
        return {i: i for i in ids}
    raise DatasetError(
        f"{where}: the labels of its dataset.json, {shown(dict(named))}, are not those of the catalogue's "
        f"{entry.name}, {shown(entry.labels)}: convert the data set with `nnunet_xlstm convert {entry.name}`, or give "
        "targets with the ids of its dataset.json"
    )


def prefixed(rules: LabelRules, sources: Mapping[str, SourceLabels]) -> tuple[LabelRules, dict[str, SourceLabels]]:
    """`merge: none` applied (every source then has targets of its own), and targets without any source left out."""
    if rules.merge == "none":
        targets, over, exclusive, own = [], [], [], {}
        for name, labels in sources.items():

            def mine(target: str, name: str = name) -> str:
                return f"{name}__{target}"

            kept = [t for t in rules.targets if t.name in labels.targets]
            targets += [PoolTarget(mine(t.name), t.group, t.modality, t.region) for t in kept]
            over += [tuple(map(mine, chain)) for chain in _within(rules.over, labels.targets, chains=True)]
            exclusive += [tuple(map(mine, group)) for group in _within(rules.exclusive, labels.targets)]
            own[name] = _renamed(labels, mine)
        return LabelRules(tuple(targets), tuple(over), tuple(exclusive), "none", rules.sampling), own
    used = {t for labels in sources.values() for t in labels.targets}
    kept = tuple(t for t in rules.targets if t.name in used)
    over, exclusive = _within(rules.over, used, chains=True), _within(rules.exclusive, used)
    return LabelRules(kept, over, exclusive, rules.merge, rules.sampling), dict(sources)


def _renamed(labels: SourceLabels, rename) -> SourceLabels:
    targets = {rename(t): ids for t, ids in labels.targets.items()}
    missing = {rename(t): cases for t, cases in labels.not_annotated.items()}
    return SourceLabels(labels.labels, targets, labels.optional, labels.ignore, labels.field_of_view, missing)


def _within(groups: Sequence[Sequence[str]], names, chains: bool = False) -> tuple[tuple[str, ...], ...]:
    """The groups without targets that are not there; one of one says nothing, nor a chain without its first."""
    kept = [tuple(t for t in group if t in names) for group in groups if not chains or group[0] in names]
    return tuple(group for group in kept if len(group) > 1)
