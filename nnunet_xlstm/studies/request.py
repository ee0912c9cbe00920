"""Settings that a user gives to a study: flags and a preset file, checked in themselves; None: it was not said."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.validate import (
    ANY_TEXT,
    OBJECT,
    TEXT,
    Constraint,
    Either,
    Key,
    ListOf,
    Record,
    Value,
    check,
    is_number,
    is_text,
    null_or,
    number,
    optional,
)
from nnunet_xlstm.studies.kind import COMMON, Kind

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
VARIANT_RULE = "NAME:TRAINER, NAME:TRAINER@PLANS or NAME=CHECKPOINT:TRAINER@PLANS"


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        plans: "" for the only ones that there are.
        checkpoint: what the network starts from; None: from scratch.
        config: keys of its trainer, beside the study's.
        adapt: more options of `nnunet_xlstm adapt`.
    """

    name: str
    trainer: str
    plans: str = ""
    checkpoint: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    adapt: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"variant '{self.name}': its name becomes a folder's; use letters, digits, _, - and ., such as scratch"
            )
        if self.adapt and self.checkpoint is None:
            raise ConfigError(
                f"variant '{self.name}': 'adapt' {self.adapt} without a checkpoint; name one, or leave it out"
            )


def _parse_variant(text: str) -> Variant:
    """Return a variant as the command line has it.

    Raises:
        ConfigError: not of that form.
    """
    left, colon, right = text.rpartition(":")
    name, equals, checkpoint = left.partition("=")
    trainer, at, plans = right.partition("@")
    if not (colon and name and trainer) or (equals and not checkpoint) or (at and not plans):
        raise ConfigError(f"variant '{text}': give {VARIANT_RULE}")
    return Variant(name, trainer, plans, checkpoint or None)


@dataclass(frozen=True)
class Request:
    """Settings of a study as far as they were given; docs/how-to/studies.md says what each means."""

    dataset: str | None = None
    configuration: str | None = None
    labels: list[int] | None = None
    epochs: list[int] | None = None
    folds: list[int] | None = None
    seeds: int | None = None
    variants: list[Variant] | None = None
    iterations: int | None = None
    config: dict[str, Any] | None = None
    pool: Path | None = None
    test_subjects: Path | None = None
    subjects: Path | None = None
    subject: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("seeds", self.seeds), ("iterations", self.iterations)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} {value}: give 1 or more")
        for name, least in (("labels", 1), ("epochs", 1), ("folds", 0)):
            values = getattr(self, name)
            if values is not None and (not values or min(values) < least):
                raise ConfigError(f"{name} {values}: give {LISTS[name]}, each {least} or more")
        if self.subjects is not None and self.subject is not None:
            raise ConfigError("both 'subjects' (a file) and 'subject' (a pattern) were given; give one of them")
        names = [variant.name.casefold() for variant in self.variants or ()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(
                f"several variants are named '{twice[0]}' (case does not count); give each a name of its own"
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Request:
        """Return what the command line says: texts of variants, and a file of keys.

        Raises:
            ConfigError: a setting that makes no sense in itself.
            DatasetError: the file of keys cannot be read.
        """
        values = {field.name: options[field.name] for field in dataclasses.fields(cls)}
        if values["variants"] is not None:
            values["variants"] = [_parse_variant(text) for text in values["variants"]]
        if values["config"] is not None:
            values["config"] = read_json(values["config"], dict)
        return cls(**values)

    @property
    def given(self) -> dict[str, Any]:
        """Return the settings that were said."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def over(self, other: Request) -> Request:
        """Return what this one says, and the other where this one says nothing."""
        if {"subjects", "subject"} & set(self.given):  # two ways to say one thing
            other = dataclasses.replace(other, subjects=None, subject=None)
        return dataclasses.replace(other, **self.given)

    def check_for(self, kind: Kind) -> None:
        """Raise ConfigError for a setting that this kind of study does not take."""
        if wrong := [name for name in self.given if name not in (*COMMON, *kind.takes)]:
            raise ConfigError(
                f"'{wrong[0]}' is not a setting of study {kind.name}; it takes {', '.join((*COMMON, *kind.takes))}"
            )


LISTS = {"labels": "numbers of subjects", "epochs": "numbers of epochs", "folds": "numbers of folds"}
FILES = ("pool", "test_subjects", "subjects")
VARIANT = Record(
    {
        "name": Key(TEXT),
        "trainer": Key(TEXT),
        "plans": optional(ANY_TEXT),
        "checkpoint": optional(null_or(ANY_TEXT)),
        "config": optional(OBJECT),
        "adapt": optional(ListOf(ANY_TEXT)),
    }
)
WHOLE = number(whole=True)
SETTINGS: dict[str, Constraint] = {
    "dataset": Value("an id or a name", lambda value: isinstance(value, str) or is_number(value, whole=True)),
    "configuration": ANY_TEXT,
    **dict.fromkeys(LISTS, ListOf(WHOLE)),
    "seeds": WHOLE,
    "variants": ListOf(Either(Value(f"a text {VARIANT_RULE}", is_text), VARIANT)),
    "iterations": WHOLE,
    "config": OBJECT,
    **dict.fromkeys(FILES, ANY_TEXT),
    "subject": ANY_TEXT,
}
PRESET = Record({key: optional(constraint) for key, constraint in SETTINGS.items()})


def read_preset(path: Path) -> Request:
    """Read a request from a JSON file: an object with keys of `Request`; variants as on the command line or as objects.

    Raises:
        ConfigError: not such a file, an unknown key, or a value of another type.
    """
    content = read_json(path)
    check(content, PRESET, str(path), ConfigError)
    values = content | {key: Path(content[key]) for key in FILES if key in content}
    if "dataset" in values:
        values["dataset"] = str(values["dataset"])
    if "variants" in values:
        values["variants"] = [
            _parse_variant(row) if isinstance(row, str) else Variant(**row) for row in values["variants"]
        ]
    return Request(**values)
