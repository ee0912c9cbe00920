"""Keys of POOL.json as data, and what they must be to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nnunet_xlstm.catalogue.schema import IDS, MERGES, MODALITY, TARGET, TARGET_GROUPS, TEXTS
from nnunet_xlstm.datasets.case_index import SAMPLING
from nnunet_xlstm.io.paths import FILE_NAME
from nnunet_xlstm.io.validate import (
    PLAIN_NAME,
    TEXT,
    Either,
    Key,
    ListOf,
    Record,
    TableOf,
    Value,
    excerpt,
    fault,
    is_number,
    is_text,
    null_or,
    one_of,
    optional,
    unknown,
)

RESERVED = ("background", "ignore")  # names of labels that nnU-Net keeps for itself
RULES = ("pool", "targets", "hierarchy", "mutually_exclusive", "merge")  # keys that a pool with labels has
SOURCE_RULES = ("catalogue", "targets", "not_annotated")  # and its sources

SUBJECTS = Either(TEXT, TEXTS)  # or the path of a JSON file with them; an entry that ends with .json is such a path
CHANNEL = Value("the index or the name of a channel", lambda value: is_text(value) or is_number(value, whole=True))
SOURCE = Record(
    {
        "dataset": Key(TEXT, example="Dataset003_Liver"),
        "modality": Key(MODALITY, example="CT"),
        "name": optional(FILE_NAME),
        "cohort": optional(TEXT),
        "channels": optional(null_or(TableOf(CHANNEL, "an object channel of the pool -> index or name"))),
        "subjects": optional(null_or(Record({"pattern": optional(TEXT), "file": optional(TEXT)}))),
        "exclude": optional(SUBJECTS),
        "include": optional(null_or(SUBJECTS)),
        "catalogue": optional(TEXT),
        "targets": optional(null_or(TableOf(IDS, "an object target -> label ids, such as [1, 2]"))),
        "not_annotated": optional(
            null_or(TableOf(ListOf(TEXT, least=1, distinct=True), 'an object target -> cases, such as ["case_007"]'))
        ),
    }
)
POOL = Record(
    {
        "sources": Key(ListOf(SOURCE, least=1), example=[{"dataset": "Dataset003_Liver", "modality": "CT"}]),
        "name": optional(null_or(PLAIN_NAME)),
        "sampling": optional(one_of(SAMPLING)),
        "channels": optional(ListOf(TEXT, least=1, distinct=True)),
        "pool": optional(TEXT),
        "targets": optional(
            ListOf(
                Record({k: Key(v.constraint, required=k == "name") for k, v in TARGET.items() if k != "id"}), least=1
            )
        ),
        "hierarchy": optional(TARGET_GROUPS),
        "mutually_exclusive": optional(TARGET_GROUPS),
        "merge": optional(one_of(MERGES)),
    }
)


def target_faults(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the targets of a file whose keys are sound."""
    given = [key for key in RULES if key in content]
    if "pool" in given and (clash := set(given) - {"pool", "merge"}):
        yield f"pool and {min(clash)} are both given; a pool of the catalogue brings its own: take one out"
    elif given and not {"pool", "targets"} & set(given):
        yield f'{given[0]} is given without targets; list them, such as [{{"name": "liver"}}]'
    names = [row["name"] for row in content.get("targets", ())]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"targets: {excerpt(name)} is listed twice; keep one"
    for name in sorted(set(RESERVED) & set(names)):
        yield f"targets: nnU-Net keeps the name {name} for itself; name the target differently"
    for key in ("hierarchy", "mutually_exclusive") if names else ():
        for name in dict.fromkeys(name for group in content.get(key, ()) for name in group if name not in names):
            yield f"{key}: {unknown(name, names, 'target')}"


def source_faults(rows: Sequence[Mapping[str, Any]], names: Sequence[str], channels: Sequence[str]) -> Iterator[str]:
    """Yield what does not fit the pool in its sources.

    Args:
        rows: the sources.
        names: of the targets.
        channels: of the pool.
    """
    for i, row in enumerate(rows):
        where = f"sources[{i}]"
        given = [key for key in SOURCE_RULES if key in row]
        if given and not names:
            yield f"{where}: {given[0]} says how to use labels, but the file lists no targets (or pool); list them"
        elif names and "catalogue" not in row and row.get("targets") is None:
            yield f'{where}: which labels make the targets? Give catalogue: NAME, or targets: {{"liver": [1, 2]}}'
        for key in ("targets", "not_annotated"):
            for target in (row.get(key) or {}) if names else ():
                if target not in names:
                    yield f"{where}.{key}: {unknown(target, names, 'target')}"
        mapping = row.get("channels")
        if mapping is None and len(channels) > 1:
            example = excerpt({channel: number for number, channel in enumerate(channels)})
            yield f"{where}: the pool has {len(channels)} channels; give channels, such as {example}"
        elif mapping is not None and set(mapping) != set(channels):
            yield f"{where}.channels is {excerpt(mapping)}; give one for every channel of the pool: {excerpt(channels)}"
        if row.get("subjects") is not None and len(row["subjects"]) != 1:
            both = '{"pattern": REGEX} or {"file": JSON of case -> subject}'
            yield fault(f"{where}.subjects", row["subjects"], both)
