"""`docs/reference/dataset-json.md`: the keys of the catalogue and a table of all it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nnunet_xlstm.catalogue import schema
from nnunet_xlstm.catalogue.entries import DataSet, count_sets, load_dataset, load_pool, shipped, shipped_pools
from nnunet_xlstm.io.validate import Key, excerpt

MANY_LABELS = 8  # more are counted, not listed

DATASET_TEXT = """\
# dataset_json

The catalogue: one file per published data set, `dataset_json/NAME.json`,
and pools of them, `dataset_json/pool_NAME.json`.
Nothing is downloaded; a licence here is a hint, the authors' page decides.
`nnunet_xlstm.catalogue.entries` reads and checks the files and tells all faults of a file at once.
This page is made from the same tables.

## A data set

An unknown key is an error; background 0 is never listed.
"""
LAYOUT_TEXT = f"""
`layout` finds the files below the folder that the official download unpacks to.
`{{case}}` is the name of the case, the same wherever it stands in a pattern; `{{phase}}` is ED or ES, each an image
of its own; `{{label}}` is the name of a label; `*` is any part of a name, `**` any folders or none.
A training case is one that has a label. It is null where nnU-Net has its own converter, or where it is not known.

`access` is one of

{"".join(f"- `{kind}`: {meaning};" + chr(10) for kind, meaning in schema.ACCESS.items()).rstrip(";" + chr(10))}.

Where `annotation` is not masks there is nothing to convert; the images serve pre-training
([`nnunet_xlstm unlabelled`](../how-to/pretraining-data.md)), and the notes say what else there is.

`field_of_view` and a target's `region` are of {", ".join(schema.REGIONS)}:
a target that no scan of a set can contain is suppressed in its predictions.

`verified` has a mark for each of {", ".join(schema.FACTS)}:

- `file`: seen in a file of the data set, or in code that reads it;
- `paper`: on the official page or in the publication;
- `no`: neither. What stands there is second-hand or assumed.

The mark of `cases` is that of the training cases; that of `targets` is of the labels they are made of, and `sources`
says where a union was checked. `url` and `citation` have no mark.
"""
POOL_TEXT = """
## A pool

`pool build` reads a user's [POOL.json](pool.md), which names folders on disk. These files name entries of the catalogue
instead: which targets a pool has, and which native ids of each source make them.
"""
POOL_END = f"""
Groups are painted in the order {", ".join(schema.GROUPS)}; inside them `hierarchy` decides.
"""


def page() -> str:
    """Return the page."""
    sets = [load_dataset(name) for name in shipped()]
    return "\n".join(
        [
            DATASET_TEXT,
            *_keys("key", schema.DATASET),
            *_keys("\nkey of a channel", schema.CHANNEL),
            *_keys("\nkey of `cases`", schema.CASES),
            *_keys("\nkey of `layout`", schema.LAYOUT),
            LAYOUT_TEXT + POOL_TEXT,
            *_keys("key", schema.POOL),
            *_keys("\nkey of a target", schema.TARGET),
            *_keys("\nkey of a source", schema.SOURCE),
            POOL_END,
            *_set_table(sets),
            *_pool_table(),
            "",
        ]
    )


def _keys(title: str, table: dict[str, Key]) -> Iterator[str]:
    yield title.replace("key", "| key", 1) + " | type | meaning | example |\n|---|---|---|---|"
    for key, row in table.items():
        optional = "" if row.required else " (optional)"
        yield f"| `{key}`{optional} | {row.constraint.rule} | {row.meaning} | `{excerpt(row.example)}` |"


def _set_table(sets: list[DataSet]) -> Iterator[str]:
    total = Counter(mark for entry in sets for mark in entry.verified.values())
    marks = ", ".join(f"{total[mark]} by {mark}" if mark != "no" else f"{total[mark]} not" for mark in schema.MARKS)
    yield "## Data sets\n"
    yield f"{count_sets(sets)}.\n"
    yield f"{total.total()} facts: {marks}.\n"
    by = " / ".join(schema.MARKS)
    yield f"| name | access | channels | labels | cases: train / test | licence | verified: {by} |"
    yield "|---|---|---|---|---|---|---|"
    for entry in sets:
        count = Counter(entry.verified.values())
        cells = [
            f"`{entry.name}`",
            _mark(entry, "access"),
            ", ".join(channel["name"] for channel in entry.channels),
            entry.no_masks or _labels(entry.labels),
            f"{_known(entry.cases['train'])} / {_known(entry.cases['test'])}",
            _mark(entry, "licence"),
            " / ".join(str(count[mark]) for mark in schema.MARKS),
        ]
        yield f"| {' | '.join(cells)} |"
    yield "\nAn access or a licence with (?) is not verified; ? alone is not known."


def _mark(entry: DataSet, fact: str) -> str:
    value = getattr(entry, fact)
    return f"{value} (?)" if value and entry.verified[fact] == "no" else _known(value)


def _labels(labels: dict[str, int]) -> str:
    if len(labels) > MANY_LABELS:
        return f"{len(labels)} labels"
    return ", ".join(f"{number} {label}" for label, number in labels.items())


def _known(value: object) -> str:
    return "?" if value is None else str(value)


def _pool_table() -> Iterator[str]:
    yield "\n## Pools\n"
    yield "| name | what | targets | sources |\n|---|---|---|---|"
    for pool in map(load_pool, shipped_pools()):
        sources = ", ".join(f"{s.dataset.name} {s.cases}" if s.cases else s.dataset.name for s in pool.sources)
        yield f"| `{pool.name}` | {pool.title} | {len(pool.targets)} | {sources} |"
