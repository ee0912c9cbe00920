"""study.json: a study read back from its folder, and compared with what is asked now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.raw_dataset import FOLDS
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.paths import PATH
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.validate import (
    ANY_TEXT,
    OBJECT,
    Key,
    ListOf,
    Record,
    TableOf,
    check,
    excerpt,
    matching,
    null_or,
    number,
    one_of,
    refuse,
)
from nnunet_xlstm.studies.kind import Kind
from nnunet_xlstm.studies.request import NAME, VARIANT, Variant
from nnunet_xlstm.studies.study import FILE, MAX_NUMBER, LabelledSet, Study

FOLDER_NAME = matching(NAME.pattern, "a name of letters, digits, _, - and .")
TEXTS = ListOf(ANY_TEXT)
NUMBER = number(0, MAX_NUMBER, whole=True)
SET = Record(
    {
        "name": Key(FOLDER_NAME),
        "raw": Key(PATH),
        "preprocessed": Key(PATH),
        "subjects": Key(TableOf(ANY_TEXT, "an object case -> subject")),
        "test_cases": Key(TEXTS),
        "folds": Key(FOLDS),
        "channels": Key(ListOf(NUMBER)),
        "unscored": Key(TEXTS),
    }
)


def _schema(kind: Kind) -> Record:
    return Record(
        {
            "kind": Key(one_of((kind.name,))),
            "folder": Key(ANY_TEXT),  # it may have been moved
            "configuration": Key(ANY_TEXT),
            "sets": Key(ListOf(SET, least=1)),
            "variants": Key(ListOf(VARIANT)),
            "seeds": Key(NUMBER),
            "values": Key(ListOf(NUMBER)),
            "folds": Key(ListOf(NUMBER)),
            "pooled": Key(TEXTS),
            "iterations": Key(null_or(number(1, whole=True))),
            "epoch": Key(null_or(number(1, whole=True))),
            "config": Key(OBJECT),
            "hashes": Key(TableOf(ANY_TEXT, "an object file -> hash")),
            "orders": Key(TableOf(TEXTS, "an object seed -> subjects")),
            "versions": Key(TableOf(ANY_TEXT, "an object package -> version")),
        }
    )


def read_study(folder: Path, kind: Kind) -> Study | None:
    """Return the study of a folder; None where there is none yet.

    Raises:
        ConfigError: its file is not of a study of this kind.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    content, where = read_json(path), f"{path} is not a study of this version, give another -o"
    check(content, _schema(kind), where, ConfigError)
    refuse(_faults(content, kind), where, ConfigError)
    variants = [Variant(**row) for row in content["variants"]]
    sets = [LabelledSet(**row | {key: Path(row[key]) for key in ("raw", "preprocessed")}) for row in content["sets"]]
    return Study(**content | {"kind": kind, "folder": folder, "sets": sets, "variants": variants})


def _faults(content: Mapping[str, Any], kind: Kind) -> Iterator[str]:
    """Yield what the keys must not be to each other."""
    sets, folds = content["sets"], content["folds"]
    if bool(content["values"]) != (kind.axis is not None):
        yield f"values is {excerpt(content['values'])}; give {'some' if kind.axis else 'none'} for a study {kind.name}"
    if folds and (len(sets) > 1 or max(folds) >= len(sets[0]["folds"])):
        yield f"folds is {excerpt(folds)}; give numbers of folds of a single data set"


def check_same(stored: Study, wanted: Study) -> None:
    """Check that a study goes on as it was begun; variants, values, folds and seeds may be added.

    Raises:
        ConfigError: names the first difference.
    """
    for variant in stored.variants:
        for name, was in asdict(variant).items():
            if name != "checkpoint":  # where it lies does not matter, its hash is compared below
                _check(f"variant '{variant.name}': {name}", was, getattr(wanted.variant(variant.name), name))
    _check("data sets", [d.dataset for d in stored.sets], [d.dataset for d in wanted.sets])
    for name in ("configuration", "iterations", "epoch", "config"):
        _check(name, getattr(stored, name), getattr(wanted, name))
    for was, now in zip(stored.sets, wanted.sets, strict=True):
        for case in {**was.subjects, **now.subjects}:
            _check(f"subjects of {case}", was.subjects.get(case), now.subjects.get(case))
        for name in ("test_cases", "folds", "channels", "unscored"):
            _check(name.replace("_", " "), getattr(was, name), getattr(now, name))
    for name in ("hashes", "orders"):
        for key, was in getattr(stored, name).items():
            _check(f"{name} of {key}", was, getattr(wanted, name).get(key))


def _check(what: str, was: Any, now: Any) -> None:
    if was != now:
        raise ConfigError(
            f"this study was begun with another setting; {what}: was {excerpt(was)}, is {excerpt(now)}. Leave it as it "
            "was (variants, folds, seeds, labels and epochs may be added), or give another -o"
        )
