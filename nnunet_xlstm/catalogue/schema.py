"""Keys of the catalogue's files as data: constraint, meaning and example of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nnunet_xlstm.choices import REGIONS
from nnunet_xlstm.datasets.case_index import MODALITIES, SAMPLING
from nnunet_xlstm.datasets.dataset_json import ID
from nnunet_xlstm.datasets.subjects import subject_pattern
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.validate import (
    FLAG,
    PLAIN_NAME,
    TEXT,
    Either,
    Key,
    ListOf,
    Record,
    TableOf,
    Value,
    is_text,
    matching,
    null_or,
    number,
    one_of,
)

GROUPS = ("organ", "vessel", "lesion")  # painted in this order
MERGES = ("unified", "none")
FACTS = ("labels", "channels", "cases", "licence", "layout", "targets", "access")
MARKS = ("file", "paper", "no")
ACCESS = {
    "public": "anyone can download it, without an account",
    "registration": "after an account, a form or a click, and nobody decides",
    "application": "after somebody has decided on a request or an agreement",
    "private": "only its authors have it",
    "local": "made on the user's own machine: an excerpt of published data that this project measures on, or phantoms",
}
ANNOTATIONS = ("masks", "contours", "values", "none")
PLACEHOLDERS = ("case", "label", "phase")

# Constraints of this catalogue ----------------------------------------------------------------------------------------


def _is_pattern(value: Any) -> bool:
    if not is_text(value) or value.startswith(("/", "~")) or "\\" in value or ".." in value.split("/"):
        return False
    return "{case}" in value and all(name in PLACEHOLDERS for name in re.findall(r"\{(.*?)\}", value))


class _Expression(Value):
    """A regular expression; the fault is the compiler's own."""

    def faults(self, value: Any, path: str = "") -> Iterator[str]:
        yield from TEXT.faults(value, path)
        if is_text(value):
            try:
                subject_pattern(value)
            except DatasetError as error:
                yield f"{path}: {error}"


PATTERN = Value(
    "a path below the root, with / and {case} where the name of the case stands, perhaps {label} and {phase}",
    _is_pattern,
)
PATTERNS = TableOf(PATTERN, "an object channel -> pattern, a row for every channel", least=1)
EXPRESSION = _Expression("a regular expression", is_text)
COUNT = null_or(number(0, whole=True))
MODALITY = one_of(MODALITIES)
MODALITY_LIST = ListOf(MODALITY, least=1, distinct=True)
REGION_LIST = ListOf(one_of(REGIONS), least=1, distinct=True)
TEXTS = ListOf(TEXT, distinct=True)
TARGETS_OF = ListOf(TEXT, least=2, distinct=True)
TARGET_GROUPS = ListOf(TARGETS_OF)
IDS = ListOf(ID, least=1, distinct=True)
LABELS = TableOf(ID, "an object label -> id, without the background, 0", key=TEXT, distinct=True)
TARGET_IDS = TableOf(IDS, "an object target -> ids, several for their union", key=PLAIN_NAME)
ALIASES = TableOf(
    TEXT, "an object id -> label, ids in quotation marks", key=matching("[1-9][0-9]{0,8}", "an id in quotation marks")
)

# Tables -------------------------------------------------------------------------------------------------------------

CHANNEL = {
    "name": Key(TEXT, "as the authors call it", "CT"),
    "modality": Key(Either(MODALITY, MODALITY_LIST), "CT, MR or PET; a list where the cases differ", "CT"),
}
CASES = {
    "train": Key(COUNT, "cases with labels to be had, as the authors count them; all cases if none has", 131),
    "test": Key(COUNT, "cases of the test set", 70),
    "test_labels": Key(null_or(FLAG), "whether the labels of the test set are public", False),
}
LAYOUT = {
    "image": Key(PATTERNS, "images with labels", {"CT": "ct_train/{case}_image.nii.gz"}),
    "label": Key(PATTERN, "their labels; with {label} one mask per label", "ct_train/{case}_label.nii.gz"),
    "test_image": Key(PATTERNS, "test set", {"CT": "ct_test/{case}_image.nii.gz"}, required=False),
    "test_label": Key(PATTERN, "where they are public", "ct_test/{case}_label.nii.gz", required=False),
    "subject": Key(
        EXPRESSION, "finds the subject in the name of a case; else it is the case", r"^patient\d+", required=False
    ),
}
VERIFIED = {fact: Key(one_of(MARKS), example="file") for fact in FACTS}
DATASET = {
    "name": Key(PLAIN_NAME, "of the entry and its file", "MSD03_Liver"),
    "title": Key(TEXT, "what it is", "Medical Segmentation Decathlon, task 3: liver"),
    "url": Key(null_or(TEXT), "official page or publication", "http://medicaldecathlon.com"),
    "licence": Key(null_or(TEXT), "of the data; null: not known", "CC BY-SA 4.0"),
    "citation": Key(null_or(TEXT), "what its authors ask to cite", "arXiv:1902.09063"),
    "version": Key(null_or(TEXT), "where versions differ in ids", "1", required=False),
    "channels": Key(ListOf(Record(CHANNEL), least=1), "in nnU-Net's order", [{"name": "CT", "modality": "CT"}]),
    "access": Key(null_or(one_of(tuple(ACCESS))), "who can have it, see below; null: not known", "public"),
    "annotation": Key(
        one_of(ANNOTATIONS),
        "what the authors give beside the images: masks (the default), contours (points or lines), values (numbers or "
        "classes of a case), none; all but masks leave labels and targets empty",
        "masks",
        required=False,
    ),
    "labels": Key(LABELS, "native ids, without 0", {"liver": 1, "cancer": 2}),
    "optional_labels": Key(TEXTS, "not annotated in every case", ["larynx"], required=False),
    "label_aliases": Key(ALIASES, "values that no label has, and what to read them as", {"421": "LA"}, required=False),
    "cases": Key(Record(CASES), "see below", {"train": 131, "test": 70, "test_labels": False}),
    "layout": Key(null_or(Record(LAYOUT)), "see below", {"label": "{case}_label.nii.gz"}),
    "nnunet_converter": Key(null_or(TEXT), "nnU-Net's own converter, a module or a command", "Dataset027_ACDC"),
    "targets": Key(TARGET_IDS, "unified targets; several ids are a union", {"liver": [1, 2]}),
    "mutually_exclusive": Key(TARGET_GROUPS, "targets that cannot overlap", [["kidney_left", "kidney_right"]]),
    "hierarchy": Key(TARGET_GROUPS, "painted in this order, lesions over organs", [["liver", "liver_tumor"]]),
    "field_of_view": Key(REGION_LIST, "all that some scan may show", ["thorax", "abdomen"]),
    "verified": Key(Record(VERIFIED), "how each fact was verified", {"labels": "file"}),
    "sources": Key(TEXTS, "where the facts were seen", ["dataset.json of the archive"]),
    "notes": Key(TEXTS, "traps", ["read the labels as 16 bit"], required=False),
}
TARGET = {
    "id": Key(ID, "1, 2, 3 ... in the order of the list", 1),
    "name": Key(PLAIN_NAME, "of the unified target", "liver"),
    "group": Key(one_of(GROUPS), "organ, vessel or lesion", "organ"),
    "modality": Key(MODALITY_LIST, "that can show it", ["CT", "MR"]),
    "region": Key(REGION_LIST, "where it can lie", ["abdomen"]),
}
SOURCE = {
    "catalogue": Key(PLAIN_NAME, "an entry of the catalogue", "MSD03_Liver"),
    "cases": Key(COUNT, "cases that the pool's authors count", 131, required=False),
    "targets": Key(TARGET_IDS, "replaces the entry's targets", {"liver": [1, 2]}, required=False),
}
POOL = {
    "name": Key(PLAIN_NAME, "of the pool and its file", "pool_tumor"),
    "title": Key(TEXT, "what it is", "Tumours and organs of ten data sets"),
    "targets": Key(ListOf(Record(TARGET), least=1), "see below", [{"id": 1, "name": "liver"}]),
    "sources": Key(ListOf(Record(SOURCE), least=1), "see below", [{"catalogue": "MSD03_Liver"}]),
    "mutually_exclusive": DATASET["mutually_exclusive"],
    "hierarchy": DATASET["hierarchy"],
    "merge": Key(one_of(MERGES), "unified: one target for all sets; none: one for each set", "unified"),
    "modality": Key(MODALITY_LIST, "of all sources together", ["CT", "MR"]),
    "sampling": Key(one_of(SAMPLING), "as in POOL.json", "sqrt"),
    "notes": DATASET["notes"],
}
