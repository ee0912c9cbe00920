"""What can be wrong with one value of a file of the catalogue."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_xlstm.datasets.case_index import MODALITIES
from nnunet_xlstm.datasets.dataset_json import MAX_ID
from nnunet_xlstm.datasets.subjects import subject_pattern
from nnunet_xlstm.errors import DatasetError

PLACEHOLDERS = ("case", "label", "phase")
NAME = r"[A-Za-z0-9_-]+"

Faults = Iterator[str]


@dataclass(frozen=True)
class Key:
    """One key of a file; `faults` yields what is wrong with its value and what to write."""

    type: str
    meaning: str
    example: Any
    faults: Callable[[Any], Faults]
    required: bool = True


def table_faults(value: Any, table: dict[str, Key], what: str) -> Faults:
    """What is wrong with an object by itself: its keys, then the value of each."""
    if not isinstance(value, dict):
        yield f"{what} is {shown(value)}; write an object with {', '.join(table)}"
        return
    for key in value.keys() - table.keys():
        yield f"{what} has the unknown key {shown(key)}; use {', '.join(table)}"
    for key, row in table.items():
        if key in value:
            for fault in row.faults(value[key]):
                yield f"{key}: {fault}"
        elif row.required:
            yield f"{key} is missing; write {row.type}, such as {shown(row.example)}"


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


# Checks of one value ------------------------------------------------------------------------------------------------


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ID


def text(value: Any) -> Faults:
    if not is_text(value):
        yield f"{shown(value)} is no text"


def text_or_null(value: Any) -> Faults:
    if value is not None and not is_text(value):
        yield f"{shown(value)} is neither a text nor null; write null for what is not known"


def number(value: Any) -> Faults:
    if not is_id(value):
        yield f"{shown(value)} is no whole number above 0"


def name(value: Any) -> Faults:
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
        yield f"{shown(value)} is no name; use letters, digits, - and _ alone"


def texts(value: Any) -> Faults:
    if not isinstance(value, list) or not all(map(is_text, value)):
        yield f"{shown(value)} is no list of texts"
    elif len(set(value)) < len(value):
        yield f"{shown(value)} holds a text twice; write each once"


def choice(options: Sequence[str]) -> Callable[[Any], Faults]:
    def faults(value: Any) -> Faults:
        if value not in options:
            yield f"{shown(value)} is unknown; use one of {', '.join(options)}"

    return faults


def choices(options: Sequence[str]) -> Callable[[Any], Faults]:
    def faults(value: Any) -> Faults:
        if not isinstance(value, list) or not value:
            yield f"{shown(value)} is no list; write one of {', '.join(options)} or several in [ ]"
            return
        yield from texts(value)
        for item in value:
            yield from choice(options)(item)

    return faults


def or_null(check: Callable[[Any], Faults]) -> Callable[[Any], Faults]:
    def faults(value: Any) -> Faults:
        if value is not None:
            yield from check(value)

    return faults


def or_empty(check: Callable[[Any], Faults]) -> Callable[[Any], Faults]:
    def faults(value: Any) -> Faults:
        if value != {}:
            yield from check(value)

    return faults


def groups(value: Any) -> Faults:
    if not isinstance(value, list):
        yield f'{shown(value)} is no list of lists; write [["kidney_left", "kidney_right"]], or [] for none'
        return
    for group in value:
        if not isinstance(group, list) or len(group) < 2:
            yield f"{shown(group)} is no group; list two targets or more"
        else:
            yield from texts(group)


def labels(value: Any) -> Faults:
    if not isinstance(value, dict) or not value:
        yield f'{shown(value)} holds no labels; write {{"liver": 1}} (0 is the background and is not listed)'
        return
    owner: dict[int, str] = {}
    for label, number in value.items():
        if not is_text(label):
            yield f"{shown(label)} is no name of a label"
        if not is_id(number):
            yield f'"{label}" has the id {shown(number)}; write the whole number above 0 that stands in the files'
        elif owner.setdefault(number, label) != label:
            yield f'"{label}" and "{owner[number]}" have the same id {number}; give each its own'


def targets(value: Any) -> Faults:
    if not isinstance(value, dict) or not value:
        yield f'{shown(value)} holds no targets; write {{"liver": [1, 2]}}'
        return
    for target, ids in value.items():
        yield from name(target)
        if not isinstance(ids, list) or not ids or not all(map(is_id, ids)) or len(set(ids)) < len(ids):
            yield f'"{target}" has the ids {shown(ids)}; list different native ids, such as [1, 2] for their union'


def stray(value: Any) -> Faults:
    if not isinstance(value, dict):
        yield f'{shown(value)} is no object; write {{"421": "left atrium"}}'
        return
    for number, label in value.items():
        if not re.fullmatch(r"[1-9][0-9]{0,8}", number):
            yield f"{shown(number)} is no id in quotation marks"
        if not is_text(label):
            yield f'"{number}" is read as {shown(label)}; name one of the labels'


def modality(value: Any) -> Faults:
    yield from (choices if isinstance(value, list) else choice)(MODALITIES)(value)


def count(value: Any) -> Faults:
    if value is not None and not is_id(value) and (value != 0 or isinstance(value, bool)):
        yield f"{shown(value)} is no number of cases; write a whole number, or null for what is not known"


def flag(value: Any) -> Faults:
    if value is not None and not isinstance(value, bool):
        yield f"{shown(value)}; write true, false, or null for what is not known"


def pattern(value: Any) -> Faults:
    if not is_text(value):
        yield f'{shown(value)} is no pattern; write a path below the root, such as "ct_train/{{case}}_image.nii.gz"'
        return
    if value.startswith(("/", "~")) or "\\" in value or ".." in value.split("/"):
        yield f"{shown(value)} leaves the root of the data set; write a path below it, with /"
    if "{case}" not in value:
        yield f"{shown(value)} does not say where the name of the case stands; write {{case}} there"
    for found in re.findall(r"\{(.*?)\}", value):
        if found not in PLACEHOLDERS:
            yield f"{shown(value)} has the placeholder {{{found}}}; use {', '.join(f'{{{p}}}' for p in PLACEHOLDERS)}"


def patterns(value: Any) -> Faults:
    if not isinstance(value, dict) or not value:
        yield f'{shown(value)} is no object; write {{"CT": "imagesTr/{{case}}_0000.nii.gz"}}, a row for every channel'
        return
    for path in value.values():
        yield from pattern(path)


def expression(value: Any) -> Faults:
    if not is_text(value):
        yield f"{shown(value)} is no text"
        return
    try:
        subject_pattern(value)
    except DatasetError as error:
        yield str(error)


def nested(table: dict[str, Key], what: str, null: bool = False) -> Callable[[Any], Faults]:
    def faults(value: Any) -> Faults:
        if value is not None or not null:
            yield from table_faults(value, table, what)

    return faults


def rows(table: dict[str, Key], what: str) -> Callable[[Any], Faults]:
    def faults(value: Any) -> Faults:
        if not isinstance(value, list) or not value:
            yield f"{shown(value)} is no list of objects with {', '.join(table)}"
            return
        for i, row in enumerate(value, start=1):
            for fault in table_faults(row, table, what):
                yield f"{i}: {fault}"

    return faults
