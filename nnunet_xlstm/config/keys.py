"""How a config key is declared, and the constraint that its declaration is."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from nnunet_xlstm.io.validate import ANY_TEXT, FLAG, Constraint, ListOf, Value, breaks, null_or, number, one_of


def key(
    default,
    text: str,
    choices: tuple | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    interval: bool = False,
    contains: float | None = None,
):
    """Declare a config key: its default, one line of text, and the values it may have.

    Args:
        default: of the key.
        text: what the key is, one line.
        choices: texts that it may have; None allows all.
        at_least: lowest value, or lowest entry of a list.
        at_most: highest value, or highest entry of a list.
        interval: the value is [least, greatest].
        contains: a number that lies in that interval.
    """
    rules = {"choices": choices, "at_least": at_least, "at_most": at_most, "interval": interval, "contains": contains}
    return field(default=default, metadata={"text": text, **rules})


def share(text: str):
    """Declare a probability that null leaves as it is."""
    return key(None, text, at_least=0, at_most=1)


def interval(text: str, at_least: float | None = None, at_most: float | None = None, contains: float | None = None):
    """Declare a [least, greatest] that null leaves as it is."""
    return key(None, text, at_least=at_least, at_most=at_most, interval=True, contains=contains)


def constraint_of(annotation: Any, rules: Mapping[str, Any]) -> Constraint:
    """Return the constraint of a key.

    Args:
        annotation: its type: int, float, bool, str, list of numbers, or one of these or None.
        rules: as `key` keeps them.
    """
    if isinstance(annotation, types.UnionType):
        (inner,) = (option for option in typing.get_args(annotation) if option is not types.NoneType)
        return null_or(constraint_of(inner, rules))
    if typing.get_origin(annotation) is list:
        (item,) = typing.get_args(annotation)
        entries = ListOf(constraint_of(item, rules), lengths=(2,) * rules["interval"])
        return _interval(entries, rules["contains"]) if rules["interval"] else entries
    if annotation is bool:
        return FLAG
    if annotation is str:
        return one_of(rules["choices"]) if rules["choices"] else ANY_TEXT
    least, most = rules["at_least"], rules["at_most"]
    return number(-math.inf if least is None else least, math.inf if most is None else most, annotation is int)


def _interval(entries: ListOf, inside: float | None) -> Value:
    around = "" if inside is None else f" around {inside:g}"

    def holds(value: Any) -> bool:
        if breaks(entries, value):
            return False
        return value[0] <= value[1] and (inside is None or value[0] <= inside <= value[1])

    return Value(f"a range{around}, [least, greatest], each {entries.item.rule}", holds)
