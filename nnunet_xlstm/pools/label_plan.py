"""The labels of all sources as one plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.pools.codes import Codes, make_codes, members_of
from nnunet_xlstm.pools.label_rules import LabelRules, SourceLabels, prefixed, source_labels
from nnunet_xlstm.pools.manifest import PoolSource, PoolTargets
from nnunet_xlstm.pools.relabel import Relabel
from nnunet_xlstm.pools.spec import Pool


@dataclass(frozen=True)
class LabelPlan:
    """All sources' labels as codes of one pool."""

    rules: LabelRules
    sources: Mapping[str, SourceLabels]
    modality: Mapping[str, str]
    codes: Codes

    def relabel(self, source: str, case: str, path: str) -> Relabel:
        """The job of one case."""
        labels = self.sources[source]
        ids = {i for group in labels.targets.values() for i in group} | set(labels.labels.values())
        table = self.codes.table(labels.targets, ids)
        if labels.ignore is not None:
            table[labels.ignore] = self.codes.ignore
        missing = frozenset(t for t, cases in labels.not_annotated.items() if case in cases)
        return Relabel(path, labels, self.codes, tuple(sorted(table.items())), missing)

    def header(self) -> dict[str, Any]:
        """What dataset.json says of labels: nnU-Net's keys, and `pool`."""
        ignore = any(labels.ignore is not None for labels in self.sources.values())
        by_name = {target.name: target for target in self.rules.targets}
        sources = {
            name: PoolSource(
                self.modality[name],
                tuple(labels.field_of_view),
                dict(labels.labels),
                {t: tuple(ids) for t, ids in labels.targets.items()},
            )
            for name, labels in self.sources.items()
        }
        pool = PoolTargets(
            tuple(by_name[name] for name in self.codes.order),
            {code: tuple(t for t in self.codes.order if t in members) for code, members in self.codes.sets.items()},
            self.rules.over,
            self.rules.exclusive,
            self.rules.merge,
            sources,
        )
        return {
            "labels": self.codes.labels(ignore),
            "regions_class_order": self.codes.class_order(),
            "pool": pool.to_json(),
        }


def plan_labels(pool: Pool) -> LabelPlan:
    """Join the labels of all sources on disk.

    Raises:
        ValueError: a source without labels, or whose labels do not fit; OSError: its dataset.json cannot be read.
    """
    found = {}
    for source in pool.sources:
        file = source.folder / "dataset.json"
        if not file.is_file():
            raise DatasetError(
                f"source {source.name}: {source.folder} has no dataset.json; a pool with labels unites raw data sets "
                "of nnU-Net: see `nnunet_xlstm convert --list`"
            )
        found[source.name] = source_labels(source.name, source.labels, pool.rules, DatasetFile.read(file).labels())
    rules, labels = prefixed(pool.rules, found)
    groups = {target.name: target.group for target in rules.targets}
    every = [one.targets for one in labels.values()]
    partly = {members for one in labels.values() for members in _partly_annotated(one)}
    codes = make_codes(rules.names, groups, every, rules.over, partly)
    return LabelPlan(rules, labels, {source.name: source.modality for source in pool.sources}, codes)


def _partly_annotated(labels: SourceLabels) -> set[frozenset[str]]:
    """Sets of targets that a voxel may have in cases where some targets are not annotated."""
    uncertain = {t for t, ids in labels.targets.items() if t in labels.not_annotated or labels.optional & set(ids)}
    found = set()
    for i in {i for ids in labels.targets.values() for i in ids}:
        members = members_of(labels.targets, i)
        doubt = sorted(members & uncertain)
        for missing in chain.from_iterable(combinations(doubt, n) for n in range(1, len(doubt) + 1)):
            found.add(members - set(missing))
    return found - {frozenset()}
