"""Keys of the catalogue's files as data: type, meaning, example, and what can be wrong with one value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_xlstm.data.dataset_file import MAX_ID
from nnunet_xlstm.data.pool_cases import MODALITIES, SAMPLING
from nnunet_xlstm.data.subjects import subject_pattern
from nnunet_xlstm.errors import DatasetError

REGIONS = ("head", "neck", "thorax", "abdomen", "pelvis", "limbs")
GROUPS = ("organ", "vessel", "lesion")  # painted in this order
MERGES = ("unified", "none")
FACTS = ("labels", "channels", "cases", "licence", "layout", "targets", "access")
MARKS = ("file", "paper", "no")
PLACEHOLDERS = ("case", "label", "phase")
ACCESS = {
    "public": "anyone can download it, without an account",
    "registration": "after an account, a form or a click, and nobody decides",
    "application": "after somebody has decided on a request or an agreement",
    "private": "only its authors have it",
    "local": "made on the user's own machine: an excerpt of published data that this project measures on, or phantoms",
}
ANNOTATIONS = ("masks", "contours", "values", "none")
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


def channels(value: Any) -> Faults:
    if not isinstance(value, list) or not value:
        yield f'{shown(value)} holds no channels; write [{{"name": "CT", "modality": "CT"}}]'
        return
    for row in value:
        yield from table_faults(row, CHANNEL, "a channel")
    names = [row["name"] for row in value if isinstance(row, dict) and is_text(row.get("name"))]
    if len(set(names)) < len(names):
        yield f"two channels have one name in {shown(names)}; name each differently"


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


# Tables -------------------------------------------------------------------------------------------------------------

CHANNEL = {
    "name": Key("text", "as the authors call it", "CT", text),
    "modality": Key("modality or list", "CT, MR or PET; a list where the cases differ", "CT", modality),
}
CASES = {
    "train": Key(
        "number or null", "cases with labels to be had, as the authors count them; all cases if none has", 131, count
    ),
    "test": Key("number or null", "cases of the test set", 70, count),
    "test_labels": Key("true, false, null", "whether the labels of the test set are public", False, flag),
}
LAYOUT = {
    "image": Key("channel -> pattern", "images with labels", {"CT": "ct_train/{case}_image.nii.gz"}, patterns),
    "label": Key("pattern", "their labels; with {label} one mask per label", "ct_train/{case}_label.nii.gz", pattern),
    "test_image": Key("channel -> pattern", "test set", {"CT": "ct_test/{case}_image.nii.gz"}, patterns, False),
    "test_label": Key("pattern", "where they are public", "ct_test/{case}_label.nii.gz", pattern, False),
    "subject": Key(
        "regular expression",
        "finds the subject in the name of a case; else it is the case",
        r"^patient\d+",
        expression,
        False,
    ),
}
VERIFIED = {fact: Key("mark", "", "file", choice(MARKS)) for fact in FACTS}

DATASET = {
    "name": Key("name", "of the entry and its file", "MSD03_Liver", name),
    "title": Key("text", "what it is", "Medical Segmentation Decathlon, task 3: liver", text),
    "url": Key("text or null", "official page or publication", "http://medicaldecathlon.com", text_or_null),
    "licence": Key("text or null", "of the data; null: not known", "CC BY-SA 4.0", text_or_null),
    "citation": Key("text or null", "what its authors ask to cite", "arXiv:1902.09063", text_or_null),
    "version": Key("text or null", "where versions differ in ids", "1", text_or_null, required=False),
    "channels": Key("list of channels", "in nnU-Net's order", [{"name": "CT", "modality": "CT"}], channels),
    "access": Key(
        "text or null", "who can have it, see below; null: not known", "public", or_null(choice(tuple(ACCESS)))
    ),
    "annotation": Key(
        "text",
        "what the authors give beside the images: masks (the default), contours (points or lines), values (numbers or "
        "classes of a case), none; all but masks leave labels and targets empty",
        "masks",
        choice(ANNOTATIONS),
        required=False,
    ),
    "labels": Key("label -> id", "native ids, without 0", {"liver": 1, "cancer": 2}, or_empty(labels)),
    "optional_labels": Key("list of labels", "not annotated in every case", ["larynx"], texts, required=False),
    "stray": Key(
        "id -> label", "values that no label has, and what to read them as", {"421": "LA"}, stray, required=False
    ),
    "cases": Key("object", "see below", {"train": 131, "test": 70, "test_labels": False}, nested(CASES, "cases")),
    "layout": Key("object or null", "see below", {"label": "{case}_label.nii.gz"}, nested(LAYOUT, "layout", null=True)),
    "nnunet_converter": Key(
        "text or null", "nnU-Net's own converter, a module or a command", "Dataset027_ACDC", text_or_null
    ),
    "targets": Key("target -> ids", "unified targets; several ids are a union", {"liver": [1, 2]}, or_empty(targets)),
    "exclusive": Key("list of groups", "targets that cannot overlap", [["kidney_left", "kidney_right"]], groups),
    "over": Key("list of chains", "painted in this order, lesions over organs", [["liver", "liver_tumor"]], groups),
    "field_of_view": Key("list of regions", "all that some scan may show", ["thorax", "abdomen"], choices(REGIONS)),
    "verified": Key("fact -> mark", "how each fact was verified", {"labels": "file"}, nested(VERIFIED, "verified")),
    "sources": Key("list of texts", "where the facts were seen", ["dataset.json of the archive"], texts),
    "notes": Key("list of texts", "traps", ["read the labels as 16 bit"], texts, required=False),
}

TARGET = {
    "id": Key("number", "1, 2, 3 ... in the order of the list", 1, number),
    "name": Key("name", "of the unified target", "liver", name),
    "group": Key("text", "organ, vessel or lesion", "organ", choice(GROUPS)),
    "modality": Key("list of modalities", "that can show it", ["CT", "MR"], choices(MODALITIES)),
    "region": Key("list of regions", "where it can lie", ["abdomen"], choices(REGIONS)),
}
SOURCE = {
    "catalogue": Key("name", "an entry of the catalogue", "MSD03_Liver", name),
    "cases": Key("number or null", "cases that the pool's authors count", 131, count, required=False),
    "targets": Key("target -> ids", "replaces the entry's targets", {"liver": [1, 2]}, targets, required=False),
}
POOL = {
    "name": Key("name", "of the pool and its file", "pool_tumor", name),
    "title": Key("text", "what it is", "Tumours and organs of ten data sets", text),
    "targets": Key("list of targets", "see below", [{"id": 1, "name": "liver"}], rows(TARGET, "the target")),
    "sources": Key("list of sources", "see below", [{"catalogue": "MSD03_Liver"}], rows(SOURCE, "the source")),
    "exclusive": DATASET["exclusive"],
    "over": DATASET["over"],
    "merge": Key("text", "unified: one target for all sets; none: one for each set", "unified", choice(MERGES)),
    "modality": Key("list of modalities", "of all sources together", ["CT", "MR"], choices(MODALITIES)),
    "sampling": Key("text", "as in POOL.json", "sqrt", choice(SAMPLING)),
    "notes": DATASET["notes"],
}
