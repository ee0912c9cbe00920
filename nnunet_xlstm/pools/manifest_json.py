"""The key `pool` of dataset.json, which holds a manifest: written, read, checked.

nnU-Net copies dataset.json into the folders of models and of predictions, so that the key is there when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from nnunet_xlstm.catalogue.entries import PoolTarget
from nnunet_xlstm.catalogue.schema import IDS, LABELS, MERGES, MODALITY, REGION_LIST, TARGET, TARGET_GROUPS
from nnunet_xlstm.datasets.dataset_json import NAME
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.paths import FILE_NAME
from nnunet_xlstm.io.validate import (
    TEXT,
    Key,
    ListOf,
    Record,
    TableOf,
    check,
    excerpt,
    is_number,
    matching,
    one_of,
    refuse,
    unknown,
)
from nnunet_xlstm.pools.manifest import PoolManifest
from nnunet_xlstm.pools.mapping import SourceMapping
from nnunet_xlstm.pools.schema import RESERVED

KEY = "pool"
NAMES = ListOf(TEXT, least=1)
CODE = matching("[1-9][0-9]{0,4}", "a code in quotation marks")
# masks are written to files named like the target
POOL_TARGET = Record({key: row for key, row in TARGET.items() if key != "id"} | {"name": Key(FILE_NAME)})
SOURCE = Record(  # open, as all that a later version may add to
    {
        "modality": Key(MODALITY),
        "field_of_view": Key(REGION_LIST),
        "labels": Key(LABELS),
        "targets": Key(TableOf(IDS, "an object target -> ids, several for their union", least=1)),
    },
    open=True,
)
POOL = Record(
    {
        "targets": Key(ListOf(POOL_TARGET, least=1)),
        "codes": Key(TableOf(NAMES, "an object code -> targets", CODE, least=1)),
        "hierarchy": Key(TARGET_GROUPS),
        "mutually_exclusive": Key(TARGET_GROUPS),
        "merge": Key(one_of(MERGES)),
        "sources": Key(TableOf(SOURCE, "an object name -> source", least=1)),
    },
    open=True,
)


def header_of(manifest: PoolManifest) -> dict[str, Any]:
    """Return what dataset.json says of labels: nnU-Net's keys, and `pool`."""
    pool: dict[str, Any] = {
        "targets": [asdict(target) for target in manifest.targets],
        "codes": {str(code): names for code, names in sorted(manifest.codes.items())},
        "hierarchy": manifest.hierarchy,
        "mutually_exclusive": manifest.mutually_exclusive,
        "merge": manifest.merge,
        "sources": {
            name: {key: getattr(source, key) for key in SOURCE.keys} for name, source in manifest.sources.items()
        },
    }
    return {"labels": manifest.labels(), "regions_class_order": manifest.class_order(), KEY: pool}


def read_manifest(content: Any, where: str = NAME) -> PoolManifest:
    """Read the whole content of a dataset.json.

    Args:
        content: of the file.
        where: its path, for messages.

    Raises:
        DatasetError: no pool with labels, or everything that is wrong with it.
    """
    if not isinstance(content, Mapping) or KEY not in content:
        raise DatasetError(
            f"{where}: key `{KEY}` is missing: its data set is not a pool with labels; make one with "
            "`nnunet_xlstm pool build`, and predict with a model that was trained on it"
        )
    pool = content[KEY]
    damaged = f"{where} is damaged, build the pool again"
    check(pool, POOL, damaged, path=KEY)
    names = [row["name"] for row in pool["targets"]]
    refuse(_pool_faults(pool, names), damaged)
    refuse(_nnunet_faults(content, names, {int(code): set(row) for code, row in pool["codes"].items()}), damaged)
    targets = tuple(PoolTarget.of(row) for row in pool["targets"])
    return PoolManifest(
        targets=targets,
        codes={int(code): tuple(members) for code, members in pool["codes"].items()},
        hierarchy=tuple(map(tuple, pool["hierarchy"])),
        mutually_exclusive=tuple(map(tuple, pool["mutually_exclusive"])),
        merge=pool["merge"],
        sources={
            name: SourceMapping(
                modality=row["modality"],
                field_of_view=tuple(row["field_of_view"]),
                labels=dict(row["labels"]),
                targets={target: tuple(ids) for target, ids in row["targets"].items()},
            )
            for name, row in pool["sources"].items()
        },
        representative=dict(zip((target.name for target in targets), content["regions_class_order"], strict=True)),
    )


def _pool_faults(pool: Mapping[str, Any], names: list[str]) -> Iterator[str]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"targets: {excerpt(name)} is listed twice"
    used = {
        "codes": pool["codes"].values(),
        "hierarchy": pool["hierarchy"],
        "mutually_exclusive": pool["mutually_exclusive"],
        "sources": (row["targets"] for row in pool["sources"].values()),
    }
    for key, members in used.items():
        for name in sorted({name for group in members for name in group} - set(names)):
            yield f"{key}: {unknown(name, names, 'target')}"
    for name, row in pool["sources"].items():
        if missing := {i for ids in row["targets"].values() for i in ids} - set(row["labels"].values()):
            yield f"sources.{name}: targets name the id {min(missing)}, which no label has: {excerpt(row['labels'])}"


def _nnunet_faults(content: Mapping[str, Any], names: list[str], codes: Mapping[int, set[str]]) -> Iterator[str]:
    """Yield what does not fit `labels` and `regions_class_order`, by which nnU-Net orders the network's outputs."""
    labels: Any = content.get("labels")
    order = content.get("regions_class_order")
    outputs = [name for name in labels if name not in RESERVED] if isinstance(labels, dict) else labels
    if outputs != names:
        yield f"targets: {excerpt(names)} are not the regions of `labels` in their order, {excerpt(outputs)}"
        return
    for name in names:
        region = labels[name] if isinstance(labels[name], list) else [labels[name]]
        holding = [code for code in codes if name in codes[code]]
        if len(region) != len(holding) or not all(code in region for code in holding):
            yield f"codes: {excerpt(name)} is in {holding}; `labels` says {excerpt(region)}"
    if not isinstance(order, list) or len(order) != len(names):
        yield f"regions_class_order is {excerpt(order)}; give one code for each of the {len(names)} targets"
        return
    for name, code in zip(names, order, strict=True):
        if not is_number(code, 1, whole=True) or name not in codes.get(code, ()):
            yield f"regions_class_order has {excerpt(code)} for {excerpt(name)}, which is no code with that target"
