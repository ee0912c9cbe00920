"""How a config key is declared."""

from __future__ import annotations

from dataclasses import field


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
        at_least, at_most: bounds of the value, or of every entry of a list.
        interval: the value is [least, greatest]. contains: a number that lies in it.
    """
    rules = {"choices": choices, "at_least": at_least, "at_most": at_most, "interval": interval, "contains": contains}
    return field(default=default, metadata={"text": text, **rules})


def share(text: str):
    """Declare a probability that null leaves as it is."""
    return key(None, text, at_least=0, at_most=1)


def interval(text: str, at_least: float | None = None, at_most: float | None = None, contains: float | None = None):
    """Declare a [least, greatest] that null leaves as it is."""
    return key(None, text, at_least=at_least, at_most=at_most, interval=True, contains=contains)
