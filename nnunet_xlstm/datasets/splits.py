"""nnU-Net's splits_final.json: read, checked against the subjects, and made: folds, or one part held out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm.datasets.case_table import listed
from nnunet_xlstm.datasets.raw_dataset import SPLITS
from nnunet_xlstm.datasets.subjects import folds_by_subject
from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.io.read import read_json

Fold = dict[str, list[str]]


def check_folds(folds: Sequence[Mapping[str, Sequence[str]]], subjects: Mapping[str, str], where: str) -> None:
    """Raise DatasetError for an empty part, a case that is unknown, or a subject on both sides of a fold.

    Args:
        subjects: of every labelled case. where: what the folds come from, for the message.
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
    """Folds in which all cases of a subject are on one side; groups are spread evenly.

    Args:
        subjects, groups: of every case; a group is such as a source or a modality. n: folds. seed: of the order in
            which the subjects of a group are dealt out.

    Raises:
        ConfigError: fewer than two folds, or fewer subjects than folds.
    """
    there = len(set(subjects.values()))
    if n < 2 or there < n:
        raise ConfigError(f"--folds {n}: give 2 or more, and at most as many as there are subjects ({there})")
    return folds_by_subject(subjects, groups, n=n, seed=seed)


def held_out(subjects: Mapping[str, str], groups: Mapping[str, str], share: float, seed: int) -> list[str]:
    """Subjects drawn to be left out of training: this share of all, spread over the groups as evenly as it can be.

    Args:
        as `make_folds`. share: of the subjects; at least one is drawn and one stays.

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


def split_files(dataset: Path) -> list[Path]:
    """Where nnU-Net looks for the folds of a raw data set: in its folder, and among its preprocessed data.

    Planning copies the first to the second and refuses others beside it, so both are written; but a raw folder that may
    not be written and has no folds stays without.

    Raises:
        ConfigError: neither can be written.
    """
    root = os.environ.get("nnUNet_preprocessed")
    preprocessed = Path(root or "") / dataset.name
    in_raw = (dataset / SPLITS).is_file() or os.access(dataset, os.W_OK)
    files = [dataset / SPLITS] if in_raw else []
    files += [preprocessed / SPLITS] if root and preprocessed.is_dir() else []
    if not files:
        raise ConfigError(f"{dataset} may not be written, and {preprocessed} is not there; plan the data set first")
    return files


def check_replaced(contents: Mapping[Path, Any]) -> None:
    """Raise ConfigError where a JSON file holds something else than what would be written."""
    for path, content in contents.items():
        if path.is_file() and read_json(path) != content:
            raise ConfigError(
                f"{path}: holds other folds or subjects, which trainings may rest on; --overwrite replaces them"
            )
