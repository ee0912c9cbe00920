"""Folds by subject, or one part held out, and what folds must fulfil."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_xlstm.datasets.case_table import listed
from nnunet_xlstm.datasets.subjects import folds_by_subject
from nnunet_xlstm.errors import ConfigError, DatasetError

Fold = dict[str, list[str]]


def check_folds(folds: Sequence[Mapping[str, Sequence[str]]], subjects: Mapping[str, str], where: str) -> None:
    """Raise DatasetError for an empty part, a case that is unknown, or a subject on both sides of a fold.

    Args:
        folds: each with the cases of `train` and `val`.
        subjects: of every labelled case.
        where: what the folds come from, for the message.
    """
    for number, fold in enumerate(folds):
        if not (fold["train"] and fold["val"]):
            raise DatasetError(f"{where}, fold {number}: has no training or no validation case; make the folds anew")
        if unknown := sorted({*fold["train"], *fold["val"]} - set(subjects)):
            raise DatasetError(f"{where}, fold {number}: {listed(unknown)} has no label map here; make the folds anew")
        both = {subjects[case] for case in fold["train"]} & {subjects[case] for case in fold["val"]}
        if both:
            raise DatasetError(
                f"{where}, fold {number}: subject {listed(sorted(both))} is in the training and the validation part, "
                "and scores too well; make folds by subject with `nnunet_xlstm split`"
            )


def make_folds(subjects: Mapping[str, str], groups: Mapping[str, str], n: int, seed: int) -> list[Fold]:
    """Make folds in which all cases of a subject are on one side; groups are spread evenly.

    Args:
        subjects: case -> subject.
        groups: case -> group, such as a source or a modality.
        n: folds.
        seed: of the order in which the subjects of a group are dealt out.

    Raises:
        ConfigError: fewer than two folds, or fewer subjects than folds.
    """
    there = len(set(subjects.values()))
    if n < 2 or there < n:
        raise ConfigError(f"--folds {n}: give 2 or more, and at most as many as there are subjects ({there})")
    return folds_by_subject(subjects, groups, n=n, seed=seed)


def held_out(subjects: Mapping[str, str], groups: Mapping[str, str], share: float, seed: int) -> list[str]:
    """Draw subjects to be left out of training: this share of all, spread over the groups as evenly as it can be.

    Args:
        subjects: case -> subject.
        groups: case -> group.
        share: of the subjects; at least one is drawn and one stays.
        seed: of the draw.

    Raises:
        ConfigError: a share outside (0, 1), or a single subject.
    """
    group_of = {subjects[case]: groups[case] for case in sorted(subjects, reverse=True)}
    total = len(group_of)
    if not 0 < share < 1 or total < 2:
        raise ConfigError(f"share {share:g} of {total} subjects: give a share between 0 and 1, and 2 subjects or more")
    wanted = min(max(round(share * total), 1), total - 1)
    sizes = Counter(group_of.values())
    count = {group: int(share * size) for group, size in sizes.items()}
    rest = sorted(sizes, key=lambda group: (-(share * sizes[group] - count[group]), group))  # largest remainders
    for group in rest[: max(wanted - sum(count.values()), 0)]:
        count[group] += 1
    rng = np.random.default_rng(seed)
    drawn: list[str] = []
    for group in sorted(sizes):
        members = sorted(subject for subject, own in group_of.items() if own == group)
        drawn += rng.permutation(members)[: count[group]].tolist()
    return sorted(drawn)


def fold_without(subjects: Mapping[str, str], out: Sequence[str]) -> Fold:
    """One fold: the cases of these subjects are its validation part."""
    chosen = set(out)
    return {
        "train": [case for case in sorted(subjects) if subjects[case] not in chosen],
        "val": [case for case in sorted(subjects) if subjects[case] in chosen],
    }
