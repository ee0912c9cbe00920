"""Hypothesis strategies that spoil a valid document: JSON trees, bytes of a file, names."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

NAMES = [
    "", ".", "..", "../x", "../../precious.txt", "/elsewhere/escaped", "a/b", "a\\b", "$HOME", "${PATH}", "~", "=1+1",
    "-o", "a\0b", "a\nb", "\u00e9", "\ud800", "x" * 300, "._a", "CON", "a.nii.gz", "%s%n", "{0}", " ", "1", "-1",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 255, 256, 65536, 2**31, 2**63, 10**40, 0.5, -0.0, 1e-300, 1e308, float("nan"), float("inf")]
SHAPES = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"": None},
    ["a", "a"],
    [1, 1],
    {"a": {"b": {"c": []}}},
    [[[[[[1]]]]]],
]
BYTES = [b"\0", b"\xff", b"\x7f", b"\x80\x80", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\xc0\x7f"]
ODD = [*NAMES, *NUMBERS, *SHAPES]


def paths(tree: Any, at: tuple = ()) -> list[tuple]:
    """The places of a JSON tree, the root first."""
    found = [at]
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        found += paths(child, (*at, key))
    return found


@st.composite
def spoiled(draw, tree: Any) -> Any:
    """The tree with one to four changes: another value, a missing or new key, a new name, two values exchanged."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 4))):
        places = paths(tree)
        place = draw(st.sampled_from(places))
        if not place:
            if draw(st.integers(0, 20)) == 0:
                return draw(st.sampled_from(ODD))
            continue
        parent = tree
        for key in place[:-1]:
            parent = parent[key]
        key = place[-1]
        change = draw(st.integers(0, 5))
        if change <= 1:
            parent[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif change == 2:
            del parent[key]
        elif change == 3 and isinstance(parent, dict):
            parent[draw(st.sampled_from(NAMES))] = parent.pop(key)
        elif change == 4:
            other: Any = tree
            for step in draw(st.sampled_from(places)):
                try:
                    other = other[step]
                except (LookupError, TypeError):
                    break
            parent[key] = copy.deepcopy(other)
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(NAMES))] = copy.deepcopy(draw(st.sampled_from(ODD)))
        else:
            parent.insert(key, copy.deepcopy(draw(st.sampled_from(ODD))))
    return tree


@st.composite
def spoiled_json(draw, tree: Any) -> bytes:
    """The bytes of a spoiled JSON file; now and then cut off, with a changed byte, or nested deeply."""
    text = json.dumps(draw(spoiled(tree)))
    data = text.encode("utf-8", "surrogatepass")
    how = draw(st.integers(0, 40))
    if how == 0:
        return data[: draw(st.integers(0, len(data)))]
    if how == 1:
        return draw(spoiled_bytes(data))
    if how == 2:
        return b'{"a":' * 3000 + data + b"}" * 3000
    return data


@st.composite
def spoiled_bytes(draw, data: bytes, first: int | None = None) -> bytes:
    """A file with some changed bytes, among the `first` ones alone if given, or cut off."""
    changed = bytearray(data)
    end = min(first or len(data), len(data))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(0, end - 1)))
        new = draw(
            st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80\x80", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\xc0\x7f"])
        )
        changed[position : position + len(new)] = new
    if draw(st.integers(0, 5)) == 0:
        del changed[draw(st.integers(0, len(changed))) :]
    return bytes(changed)
