"""Keys of the catalogue's files as data: type, meaning, example and check."""

from __future__ import annotations

from typing import Any

from nnunet_xlstm.catalogue.checks import (
    Faults,
    Key,
    choice,
    choices,
    count,
    expression,
    flag,
    groups,
    is_text,
    labels,
    modality,
    name,
    nested,
    number,
    or_empty,
    or_null,
    pattern,
    patterns,
    rows,
    shown,
    stray,
    table_faults,
    targets,
    text,
    text_or_null,
    texts,
)
from nnunet_xlstm.choices import REGIONS
from nnunet_xlstm.datasets.case_index import MODALITIES, SAMPLING

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


def channels(value: Any) -> Faults:
    if not isinstance(value, list) or not value:
        yield f'{shown(value)} holds no channels; write [{{"name": "CT", "modality": "CT"}}]'
        return
    for row in value:
        yield from table_faults(row, CHANNEL, "a channel")
    names = [row["name"] for row in value if isinstance(row, dict) and is_text(row.get("name"))]
    if len(set(names)) < len(names):
        yield f"two channels have one name in {shown(names)}; name each differently"


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
