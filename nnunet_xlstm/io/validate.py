"""One vocabulary of constraints for JSON files and configurations, and one sentence for what breaks them.

A schema is data: constraints inside constraints. `check` tells what is wrong with a value, all faults at once, each as
"KEY is VALUE; give RULE". After scikit-learn's `utils/_param_validation.py`; why not pydantic: see "Why so" in
docs/explanation/architecture.md.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from nnunet_xlstm.errors import DatasetError, UserError

MAX_FAULTS = 20  # told of one file: one that is wrong all through says no more than its beginning
MAX_SHOWN = 80  # characters of a value in a message, and of a key that a close one is looked for


class Constraint(Protocol):
    """What a value must be."""

    @property
    def rule(self) -> str:
        """Finish the sentence "give ..."; also the column "type" of generated pages."""

    def faults(self, value: Any, path: str = "") -> Iterator[str]:
        """Yield a sentence for each thing that is wrong; `path` leads to the value, such as `targets[0].name`."""


def check(value: Any, schema: Constraint, where: str, error: type[UserError] = DatasetError, path: str = "") -> None:
    """Refuse a value that breaks its schema; `where` is the file or option, `path` leads to the value in it."""
    refuse(schema.faults(value, path), where, error)


def refuse(faults: Iterable[str], where: str, error: type[UserError] = DatasetError) -> None:
    """Raise `error` with the first MAX_FAULTS sentences; do nothing where there is none."""
    found = list(islice(faults, MAX_FAULTS))
    if len(found) > 1:
        head = f"{where}: {len(found)} faults{' or more' * (len(found) == MAX_FAULTS)}"
        raise error("\n- ".join([head, *found]))
    if found:
        raise error(f"{where}: {found[0]}")


def fault(path: str, value: Any, rule: str) -> str:
    """Return the sentence for a value that breaks a rule."""
    return f"{path or 'it'} is {excerpt(value)}; give {rule}"


def breaks(constraint: Constraint, value: Any) -> bool:
    """Return whether anything is wrong with a value."""
    return any(True for _ in constraint.faults(value))


def excerpt(value: Any) -> str:
    """Return a value as JSON, cut to MAX_SHOWN characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def unknown(name: Any, known: Iterable[str], what: str = "key") -> str:
    """Return the sentence for a name that is not among those known, with the nearest of them."""
    known = list(known)
    return f"{what} {excerpt(name)} is unknown{did_you_mean(name, known)}; use {', '.join(known) or 'none'}"


def did_you_mean(name: Any, known: Sequence[str]) -> str:
    """Return " (did you mean NEAREST?)", or nothing where none is near."""
    near = difflib.get_close_matches(name, known, 1) if isinstance(name, str) and len(name) <= MAX_SHOWN else []
    return f" (did you mean {near[0]}?)" if near else ""


def is_text(value: Any) -> bool:
    """Return whether a value is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def is_number(value: Any, least: float = -math.inf, most: float = math.inf, whole: bool = False) -> bool:
    """Return whether a value is a finite number within bounds; true and false are none."""
    is_known = type(value) is int or (not whole and isinstance(value, float) and math.isfinite(value))
    return is_known and least <= value <= most


@dataclass(frozen=True)
class Value:
    """A value that is looked at as a whole."""

    rule: str
    holds: Callable[[Any], bool]

    def faults(self, value: Any, path: str = "") -> Iterator[str]:
        """Yield what is wrong."""
        if not self.holds(value):
            yield fault(path, value, self.rule)


TEXT = Value("text", is_text)
ANY_TEXT = Value("text", lambda value: isinstance(value, str))  # also blank
FLAG = Value("true or false", lambda value: isinstance(value, bool))
OBJECT = Value("an object", lambda value: isinstance(value, Mapping) and all(isinstance(key, str) for key in value))


def number(least: float = -math.inf, most: float = math.inf, whole: bool = False) -> Value:
    """Constrain to a finite number from `least` to `most`."""
    low = f" from {least:.10g}" * (least > -math.inf)
    high = f" to {most:.10g}" if most < math.inf else " on" * bool(low)
    return Value(f"a {'whole ' * whole}number{low}{high}", lambda value: is_number(value, least, most, whole))


def one_of(options: Sequence[str]) -> Value:
    """Constrain to one of these texts."""
    return Value(f"one of {', '.join(options)}", lambda value: isinstance(value, str) and value in options)


def matching(pattern: str, rule: str) -> Value:
    """Constrain to a text of which all matches a regular expression."""
    return Value(rule, lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None)


PLAIN_NAME = matching(r"[A-Za-z0-9_-]+", "a name of letters, digits, - and _ alone")


@dataclass(frozen=True)
class Either:
    """A plain value, or another; of a list or an object it is told in which part the other breaks."""

    plain: Constraint
    other: Constraint

    @property
    def rule(self) -> str:
        """Say what to give."""
        return f"{self.plain.rule}, or {self.other.rule}"

    def faults(self, value: Any, path: str = "") -> Iterator[str]:
        """Yield what is wrong."""
        if breaks(self.plain, value):
            if isinstance(value, (list, tuple, Mapping)):
                yield from self.other.faults(value, path)
            elif breaks(self.other, value):
                yield fault(path, value, self.rule)


def null_or(constraint: Constraint) -> Either:
    """Constrain to null or what another constraint says."""
    return Either(Value("null", lambda value: value is None), constraint)


@dataclass(frozen=True)
class ListOf:
    """A list with at least `least` entries of one kind, or with one of some `lengths`."""

    item: Constraint
    least: int = 0
    lengths: tuple[int, ...] = ()
    distinct: bool = False

    @property
    def rule(self) -> str:
        """Say what to give."""
        size = " or ".join(map(str, self.lengths)) or (f"at least {self.least}" if self.least else "")
        kind = " different" * self.distinct + " entries" * bool(size or self.distinct)
        return f"a list{' of' * bool(kind)}{f' {size}' * bool(size)}{kind}, each entry {self.item.rule}"

    def faults(self, value: Any, path: str = "") -> Iterator[str]:
        """Yield what is wrong."""
        is_list = isinstance(value, (list, tuple))
        if not is_list or len(value) < self.least or (self.lengths and len(value) not in self.lengths):
            yield fault(path, value, self.rule)
            return
        for i, entry in enumerate(value):
            yield from self.item.faults(entry, f"{path}[{i}]")
        if self.distinct and len(set(map(repr, value))) < len(value):
            yield fault(path, value, self.rule)


@dataclass(frozen=True)
class TableOf:
    """An object whose keys are names of the file's own; `rule` says what leads to what."""

    item: Constraint
    rule: str
    key: Constraint = ANY_TEXT
    least: int = 0
    distinct: bool = False  # no two keys have the same value

    def faults(self, value: Any, path: str = "") -> Iterator[str]:
        """Yield what is wrong."""
        if not isinstance(value, Mapping) or len(value) < self.least:
            yield fault(path, value, self.rule)
            return
        owner: dict[str, Any] = {}
        for name, entry in value.items():
            if breaks(self.key, name):
                yield f"{path or 'it'} has the key {excerpt(name)}; give {self.key.rule}"
                continue
            yield from self.item.faults(entry, f"{path}{'.' * bool(path)}{name}")
            if self.distinct and (other := owner.setdefault(repr(entry), name)) != name:
                both = f"{excerpt(other)} and {excerpt(name)}"
                yield f"{path or 'it'}: {both} are both {excerpt(entry)}; give each its own"


@dataclass(frozen=True)
class Key:
    """One key of a Record; its meaning and example stand in generated pages."""

    constraint: Constraint
    meaning: str = ""
    example: Any = None
    required: bool = True


@dataclass(frozen=True)
class Record:
    """An object with these keys and, unless it is `open`, no others."""

    keys: Mapping[str, Key]
    open: bool = False

    @property
    def rule(self) -> str:
        """Say what to give."""
        return f"an object with {', '.join(self.keys)}"

    def faults(self, value: Any, path: str = "") -> Iterator[str]:
        """Yield what is wrong."""
        if not isinstance(value, Mapping):
            yield fault(path, value, self.rule)
            return
        start = f"{path}: " if path else ""
        for name in value:
            if name not in self.keys and not self.open:
                yield start + unknown(name, self.keys)
        for name, key in self.keys.items():
            if name in value:
                yield from key.constraint.faults(value[name], f"{path}{'.' * bool(path)}{name}")
            elif key.required:
                example = "" if key.example is None else f", such as {excerpt(key.example)}"
                yield f"{start}key {excerpt(name)} is missing; give {key.constraint.rule}{example}"


def optional(constraint: Constraint) -> Key:
    """Declare a key that may be absent."""
    return Key(constraint, required=False)
