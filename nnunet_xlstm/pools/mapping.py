"""What one source labels: native ids -> targets of the pool, joined from POOL.json, catalogue and dataset.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from nnunet_xlstm.catalogue.entries import DataSet
from nnunet_xlstm.catalogue.schema import REGIONS
from nnunet_xlstm.datasets.dataset_json import NAME, DatasetFile
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.validate import excerpt
from nnunet_xlstm.pools.spec import Source

TargetIds = Mapping[str, tuple[int, ...]]  # target -> native ids; several ids are a union


@dataclass(frozen=True, kw_only=True)
class SourceMapping:
    """The labels of one source as its files have them, and the targets that they make.

    Attributes:
        field_of_view: regions that its scans may show.
        labels: name -> id, of its dataset.json.
        targets: target of the pool -> ids; an id may belong to several targets.
        optional: ids that are not annotated in every case: where such a label is absent it is unknown.
        ignore: the id of voxels that do not count.
        not_annotated: target -> cases in which nobody looked for it.

    The last three matter while the pool is made, and are not in its dataset.json.
    """

    modality: str
    field_of_view: tuple[str, ...] = REGIONS
    labels: Mapping[str, int]
    targets: TargetIds
    optional: frozenset[int] = frozenset()
    ignore: int | None = None
    not_annotated: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def ids(self) -> frozenset[int]:
        """Every id of a label or a target."""
        return frozenset(self.labels.values()).union(*self.targets.values())

    def members(self, number: int) -> frozenset[str]:
        """Return the targets that a native id belongs to."""
        return frozenset(target for target, ids in self.targets.items() if number in ids)

    def same_targets(self) -> list[list[int]]:
        """Return the ids that nothing tells apart, as they have the same targets; the lowest stands for all."""
        found: dict[frozenset[str], list[int]] = {}
        for i in sorted(set().union(*self.targets.values())):
            found.setdefault(self.members(i), []).append(i)
        return [ids for ids in found.values() if len(ids) > 1]

    def renamed(self, rename: Callable[[str], str]) -> SourceMapping:
        """Return the same with other names of targets."""
        return replace(
            self,
            targets={rename(target): ids for target, ids in self.targets.items()},
            not_annotated={rename(target): cases for target, cases in self.not_annotated.items()},
        )


def map_source(source: Source, names: tuple[str, ...]) -> SourceMapping:
    """Join the labels of a source on disk to the targets of a pool.

    The ids of an entry of the catalogue are those the authors publish; a converted data set has others. They are
    joined by the labels' names, or, where a name is missing, taken as they are if both have the same ids.

    Args:
        source: as POOL.json has it.
        names: of the targets, in the pool's order.

    Raises:
        DatasetError: no dataset.json, labels that cannot be joined, or none that makes a target.
    """
    where = f"source {source.name}"
    if not (source.folder / NAME).is_file():
        raise DatasetError(
            f"{where}: {source.folder} has no dataset.json; a pool with labels unites raw data sets of nnU-Net: see "
            "`nnunet_xlstm convert --list`"
        )
    declared = DatasetFile.read(source.folder).labels()
    if declared.ids.get("background") != (0,):
        raise DatasetError(
            f'{where}: `labels` of its dataset.json has no "background": 0; it is no nnU-Net v2 data set: add it'
        )
    plain = {label: ids for label, ids in declared.ids.items() if ids != (0,)}
    ids = {i for group in plain.values() for i in group}
    named = {label: group[0] for label, group in plain.items() if len(group) == 1}
    entry = source.entry
    own_id = {i: i for i in ids} if entry is None else _own_ids(where, entry, named, ids)
    native = source.targets
    if native is None:
        native = {target: [own_id[i] for i in group] for target, group in source.published.items()}
    elif unknown := {i for group in native.values() for i in group} - ids:
        raise DatasetError(
            f"{where}: targets name the id {min(unknown)}; give ids of its dataset.json: {excerpt(named)}"
        )
    if not native:
        raise DatasetError(f"{where}: labels none of the pool's targets {', '.join(names)}; leave it out")
    return SourceMapping(
        modality=source.modality,
        field_of_view=tuple(entry.field_of_view) if entry else REGIONS,
        labels=named | {str(i): i for i in sorted(ids - set(named.values()))},  # ids that only regions hold
        targets={target: tuple(native[target]) for target in names if target in native},
        optional=frozenset(own_id[entry.labels[label]] for label in entry.optional_labels) if entry else frozenset(),
        ignore=declared.ignore,
        not_annotated={target: frozenset(cases) for target, cases in source.not_annotated.items()},
    )


def _own_ids(where: str, entry: DataSet, named: Mapping[str, int], ids: set[int]) -> dict[int, int]:
    """Native id of the entry -> id in the files."""
    if set(entry.labels) <= set(named):
        return {number: named[label] for label, number in entry.labels.items()}
    if set(entry.labels.values()) == ids:
        return {i: i for i in ids}
    raise DatasetError(
        f"{where}: the labels of its dataset.json, {excerpt(named)}, are not those of the catalogue's {entry.name}, "
        f"{excerpt(entry.labels)}: convert the data set with `nnunet_xlstm convert {entry.name}`, or give targets with "
        "the ids of its dataset.json"
    )
