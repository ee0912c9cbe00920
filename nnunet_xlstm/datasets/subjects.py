"""Who a case belongs to, what it is called, and folds that keep a subject on one side."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from nnunet_xlstm.errors import DatasetError

N_FOLDS = 5
MAX_NAME = 120  # file names may have 255 characters, and nnU-Net adds to ours
FRAME = re.compile(r"(?:_s\d+)?_t\d+$|_s\d+$")  # what the case name of a frame, or of a DICOM stack, ends with


def subject_pattern(text: str) -> re.Pattern:
    """Return a regular expression; its first group, or all that it matches, is the subject.

    Raises:
        DatasetError: it is none.
    """
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:  # a{10000000000}; ten thousand brackets
        raise DatasetError(
            rf"'{text[:80]}' is not a regular expression ({error}); an example: '(patient\d+)'"
        ) from error


def subject_of(pattern: re.Pattern, text: str) -> str:
    """Find the subject in a path or a case's name.

    Raises:
        ValueError: the pattern finds none.
    """
    found = pattern.search(text)
    subject = (found.group(1) if pattern.groups else found.group()) if found else ""
    if not subject:
        raise DatasetError(f"the pattern '{pattern.pattern}' finds no subject in '{text}'; widen it")
    return subject


def safe_name(text: str) -> str:
    """Letters, digits, - and _ alone: safe as a file's name everywhere."""
    name = re.sub(r"[^A-Za-z0-9-]+", "_", text).strip("_-") or "case"
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}_{short_hash(name)}"


def short_hash(text: str) -> str:
    """Six characters that two texts hardly share."""
    return hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


class CaseNames:
    """Gives out case names that differ, also on file systems that ignore case, and from the frames of 4D images."""

    def __init__(self):
        self._taken: set[str] = set()
        self._with_frames: set[str] = set()  # "a" for a taken "a_t03"

    def take(self, name: str) -> None:
        """Note that this name is in use."""
        self._taken.add(name.casefold())
        if FRAME.search(name):
            self._with_frames.add(FRAME.sub("", name).casefold())

    def give(self, wanted: str, key: str) -> str:
        """Return the name wanted, with a hash of `key` where it is in use already."""
        name = safe_name(wanted)
        low = name.casefold()
        if low in self._taken or low in self._with_frames or FRAME.sub("", low) in self._taken - {low}:
            name = f"{name}_{short_hash(key)}"
        self.take(name)
        return name


def folds_by_subject(
    subjects: Mapping[str, str],
    sources: Mapping[str, str],
    previous: Sequence[Mapping[str, Sequence[str]]] = (),
    n: int = N_FOLDS,
    seed: int | None = None,
) -> list[dict[str, list[str]]]:
    """Make folds; all cases of a subject are in the validation part of one of them.

    A subject stays in the fold it is in already. New ones go where their source has fewest subjects, then where there
    are fewest at all: sources are spread evenly.

    Args:
        subjects: case -> subject.
        sources: case -> source.
        previous: folds of an earlier run.
        n: how many folds.
        seed: of the order in which the subjects of a source are dealt out; None takes that of their names.

    Returns:
        nnU-Net's splits_final.json; empty for fewer subjects than folds.
    """
    if len(set(subjects.values())) < n:
        return []
    votes: dict[str, Counter] = {}
    for fold, row in enumerate(previous[:n]):
        for case in row["val"]:
            if case in subjects:
                votes.setdefault(subjects[case], Counter())[fold] += 1
    home = {subject: min(count, key=lambda f: (-count[f], f)) for subject, count in votes.items()}
    source_of = {subjects[case]: sources[case] for case in sorted(subjects, reverse=True)}
    per_source = Counter((source_of[subject], fold) for subject, fold in home.items())
    total = Counter(home.values())
    new = sorted(set(subjects.values()) - set(home))
    if seed is not None:
        random.Random(seed).shuffle(new)
    for subject in sorted(new, key=source_of.__getitem__):  # stable: within a source the order stays
        source = source_of[subject]
        home[subject] = min(range(n), key=lambda f: (per_source[source, f], total[f], f))
        per_source[source, home[subject]] += 1
        total[home[subject]] += 1
    cases = sorted(subjects)
    return [
        {
            "train": [case for case in cases if home[subjects[case]] != fold],
            "val": [case for case in cases if home[subjects[case]] == fold],
        }
        for fold in range(n)
    ]
