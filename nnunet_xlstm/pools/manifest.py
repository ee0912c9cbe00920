"""The key `pool` of dataset.json: what the outputs of a network trained on a pool mean, and what each source labels.

nnU-Net copies dataset.json into the folders of models and of predictions, so that the key is there when it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nnunet_xlstm.catalogue.checks import (
    Faults,
    Key,
    choice,
    choices,
    groups,
    is_id,
    is_text,
    rows,
    shown,
    table_faults,
)
from nnunet_xlstm.catalogue.checks import labels as label_ids
from nnunet_xlstm.catalogue.schema import GROUPS, MERGES, REGIONS
from nnunet_xlstm.datasets.case_index import MODALITIES
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.paths import RULE, is_file_name

KEY = "pool"


@dataclass(frozen=True)
class PoolTarget:
    """One output of the network.

    Attributes:
        group: organ, vessel or lesion.
        modality: those that can show it.
        region: where it can lie.
    """

    name: str
    group: str
    modality: tuple[str, ...]
    region: tuple[str, ...]


@dataclass(frozen=True)
class PoolSource:
    """What one source labels.

    Attributes:
        field_of_view: regions that its scans may show.
        labels: name -> id, of its own dataset.json.
        targets: target of the pool -> ids of its own; several are a union.
    """

    modality: str
    field_of_view: tuple[str, ...]
    labels: Mapping[str, int]
    targets: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class PoolTargets:
    """The content of the key.

    Attributes:
        targets: in the order of painting, which is that of `labels` and of the network's outputs.
        codes: value of a merged label map -> the targets there.
        over: chains; the first target includes the others, which are painted over it in this order.
        exclusive: groups of targets that cannot overlap.
        merge: `unified`: a target is the same in all sources; `none`: each source has its own.
        painted: target -> the code that stands for it in a merged map, from `regions_class_order` beside the key.
    """

    targets: tuple[PoolTarget, ...]
    codes: Mapping[int, tuple[str, ...]]
    over: tuple[tuple[str, ...], ...]
    exclusive: tuple[tuple[str, ...], ...]
    merge: str
    sources: Mapping[str, PoolSource]
    painted: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(target.name for target in self.targets)

    def source(self, name: str) -> PoolSource:
        """Raises ValueError with the sources that there are."""
        if name not in self.sources:
            raise DatasetError(f"the pool has no source {shown(name)}; it has {', '.join(self.sources)}")
        return self.sources[name]

    def to_json(self) -> dict[str, Any]:
        """The value of the key `pool`."""
        return {
            "targets": [
                {"name": t.name, "group": t.group, "modality": list(t.modality), "region": list(t.region)}
                for t in self.targets
            ],
            "codes": {str(code): list(names) for code, names in sorted(self.codes.items())},
            "over": [list(chain) for chain in self.over],
            "exclusive": [list(group) for group in self.exclusive],
            "merge": self.merge,
            "sources": {
                name: {
                    "modality": source.modality,
                    "field_of_view": list(source.field_of_view),
                    "labels": dict(source.labels),
                    "targets": {target: list(ids) for target, ids in source.targets.items()},
                }
                for name, source in self.sources.items()
            },
        }

    @classmethod
    def from_dataset_json(cls, content: Any, where: str = "dataset.json") -> PoolTargets:
        """From the whole content of a dataset.json.

        Args:
            where: its path, for messages.

        Raises:
            ValueError: no pool with labels, or everything that is wrong with it.
        """
        if not isinstance(content, Mapping) or KEY not in content:
            raise DatasetError(
                f"{where}: has no key `{KEY}`: its data set is no pool with labels; make one with `nnunet_xlstm pool "
                "build`, and predict with a model that was trained on it"
            )
        pool = content[KEY]
        if isinstance(pool, dict):
            pool = {key: value for key, value in pool.items() if key in POOL}  # a later version may say more
        faults = list(table_faults(pool, POOL, f"`{KEY}`")) or list(_rules(pool)) or list(_nnunet_faults(content, pool))
        if faults:
            raise DatasetError("\n- ".join([f"{where}: the key `{KEY}` is damaged; build the pool again", *faults]))
        names = [row["name"] for row in pool["targets"]]
        return cls(
            tuple(
                PoolTarget(row["name"], row["group"], tuple(row["modality"]), tuple(row["region"]))
                for row in pool["targets"]
            ),
            {int(code): tuple(members) for code, members in pool["codes"].items()},
            tuple(tuple(chain) for chain in pool["over"]),
            tuple(tuple(group) for group in pool["exclusive"]),
            pool["merge"],
            {
                name: PoolSource(
                    row["modality"],
                    tuple(row["field_of_view"]),
                    dict(row["labels"]),
                    {target: tuple(ids) for target, ids in row["targets"].items()},
                )
                for name, row in pool["sources"].items()
            },
            dict(zip(names, content["regions_class_order"], strict=True)),
        )


# Faults of one value --------------------------------------------------------------------------------------------------


def _file_name(value: Any) -> Faults:
    """Masks are written to files of this name."""
    if not is_file_name(value):
        yield f"{shown(value)} is no name of a target: {RULE}"


def _codes(value: Any) -> Faults:
    if not isinstance(value, dict) or not value:
        yield f'{shown(value)} holds no codes; write {{"1": ["liver"]}}'
        return
    for code, members in value.items():
        if not re.fullmatch(r"[1-9][0-9]{0,4}", code):
            yield f"{shown(code)} is no code in quotation marks"
        if not isinstance(members, list) or not members or not all(map(is_text, members)):
            yield f'"{code}" has the targets {shown(members)}; list their names'


def _ids(value: Any) -> Faults:
    if not isinstance(value, dict) or not value:
        yield f'{shown(value)} holds no targets; write {{"liver": [1, 2]}}'
        return
    for target, ids in value.items():
        if not isinstance(ids, list) or not ids or not all(map(is_id, ids)) or len(set(ids)) < len(ids):
            yield f'"{target}" has the ids {shown(ids)}; list different ids, such as [1, 2] for their union'


def _sources(value: Any) -> Faults:
    if not isinstance(value, dict) or not value:
        yield f"{shown(value)} holds no sources; write an object name -> {', '.join(SOURCE)}"
        return
    for name, row in value.items():
        row = {key: v for key, v in row.items() if key in SOURCE} if isinstance(row, dict) else row
        for fault in table_faults(row, SOURCE, "the source"):
            yield f"{name}: {fault}"


# Tables ---------------------------------------------------------------------------------------------------------------

TARGET = {
    "name": Key("name", "of the target", "liver", _file_name),
    "group": Key("text", "organ, vessel or lesion", "organ", choice(GROUPS)),
    "modality": Key("list of modalities", "that can show it", ["CT", "MR"], choices(MODALITIES)),
    "region": Key("list of regions", "where it can lie", ["abdomen"], choices(REGIONS)),
}
SOURCE = {
    "modality": Key("text", "of its images", "CT", choice(MODALITIES)),
    "field_of_view": Key("list of regions", "that its scans may show", ["abdomen"], choices(REGIONS)),
    "labels": Key("label -> id", "of its dataset.json", {"liver": 1, "cancer": 2}, label_ids),
    "targets": Key("target -> ids", "of its dataset.json", {"liver": [1, 2]}, _ids),
}
POOL = {
    "targets": Key("list of targets", "in the order of painting", [{"name": "liver"}], rows(TARGET, "the target")),
    "codes": Key("code -> targets", "of merged maps", {"1": ["liver"]}, _codes),
    "over": Key("list of chains", "painted in this order", [["liver", "liver_tumor"]], groups),
    "exclusive": Key("list of groups", "that cannot overlap", [["kidney_left", "kidney_right"]], groups),
    "merge": Key("text", "one target for all sources, or one for each", "unified", choice(MERGES)),
    "sources": Key("name -> source", "that were united", {"Dataset003_Liver": {}}, _sources),
}


# Rules between keys ---------------------------------------------------------------------------------------------------


def _rules(pool: Mapping[str, Any]) -> Iterator[str]:
    names = [row["name"] for row in pool["targets"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"targets: {shown(name)} is listed twice"
    used = {
        "codes": pool["codes"].values(),
        "over": pool["over"],
        "exclusive": pool["exclusive"],
        "sources": (row["targets"] for row in pool["sources"].values()),
    }
    for key, members in used.items():
        for name in sorted({name for group in members for name in group} - set(names)):
            yield f"{key}: there is no target {shown(name)}; use {shown(names)}"
    for name, row in pool["sources"].items():
        if missing := {i for ids in row["targets"].values() for i in ids} - set(row["labels"].values()):
            yield f"sources, {name}: the targets name the id {min(missing)}, which no label has: {shown(row['labels'])}"


def _nnunet_faults(content: Mapping[str, Any], pool: Mapping[str, Any]) -> Iterator[str]:
    """What does not fit `labels` and `regions_class_order`, by which nnU-Net orders the network's outputs."""
    labels, order = content.get("labels"), content.get("regions_class_order")
    names = [row["name"] for row in pool["targets"]]
    outputs = [name for name in labels if name not in ("background", "ignore")] if isinstance(labels, dict) else labels
    if outputs != names:
        yield f"targets: {shown(names)} are not the regions of `labels` in their order, {shown(outputs)}"
        return
    codes = {int(code): set(members) for code, members in pool["codes"].items()}
    for name in names:
        region = labels[name] if isinstance(labels[name], list) else [labels[name]]
        found = [code for code in codes if name in codes[code]]
        if len(region) != len(found) or not all(code in region for code in found):
            yield f"codes: {shown(name)} is in {found}; `labels` says {shown(region)}"
    if not isinstance(order, list) or len(order) != len(names):
        yield f"`regions_class_order` is {shown(order)}; it must list one code for each of the {len(names)} targets"
        return
    for name, code in zip(names, order, strict=True):
        if not is_id(code) or name not in codes.get(code, ()):
            yield f"`regions_class_order` has {shown(code)} for {shown(name)}, which is no code with that target"
