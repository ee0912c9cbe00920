"""The data set of a study: its folders, whose its cases are, and the cases that runs are scored on."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from nnunet_xlstm.datasets.case_table import TEST_SUBJECTS, case_subjects, listed, read_test_subjects
from nnunet_xlstm.datasets.raw_dataset import SPLITS, read_folds
from nnunet_xlstm.datasets.splits import Fold, check_folds
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.loading.raw_images import RawImages
from nnunet_xlstm.studies.kind import Kind
from nnunet_xlstm.studies.request import Request
from nnunet_xlstm.studies.study import LabelledSet, Study

logger = logging.getLogger(__name__)


def asked_set(kind: Kind, request: Request, stored: Study | None) -> list[LabelledSet]:
    """Return the data set of -d, or that of the study in the folder.

    Raises:
        ConfigError: it is not preprocessed, or its test subjects or folds do not fit.
    """
    before = stored.sets[0] if stored else None
    dataset = find_raw(request, stored)
    found = LabelledSet(
        name=dataset.folder.name,
        raw=dataset.folder.resolve(),
        preprocessed=find_preprocessed(dataset.folder.name, before),
        subjects=_subjects(request, before, dataset),
    )
    if is_scored_on_folds(kind, request, stored):
        return [replace(found, folds=_folds(found.preprocessed, found.subjects))]
    if before is not None and request.test_subjects is None:
        return [replace(found, test_cases=before.test_cases)]
    path = request.test_subjects or dataset.folder / f"{TEST_SUBJECTS}.json"
    if kind.scored_on == "either" and request.test_subjects is None and not path.is_file():
        raise ConfigError(
            f"{dataset.folder} has no {path.name}; say what the runs are scored on: --folds 0 1 2 3 4, or "
            "--test-subjects FILE (`nnunet_xlstm split --test 0.2` draws some)"
        )
    return [replace(found, test_cases=_test_cases(path, found.subjects))]


def find_raw(request: Request, stored: Study | None) -> RawImages:
    """Find the raw data set of -d, or that of the study in the folder.

    Raises:
        ConfigError: neither is there.
        DatasetError: there is no such data set, or it cannot be used.
    """
    name = request.dataset if request.dataset is not None or stored is None else str(stored.sets[0].raw)
    if name is None:
        raise ConfigError("no data set was given; name one with -d")
    return RawImages.find(name)


def is_scored_on_folds(kind: Kind, request: Request, stored: Study | None) -> bool:
    """Return whether runs are scored on the validation cases of nnU-Net's folds."""
    if kind.scored_on != "either":
        return kind.scored_on == "folds"
    return bool(stored.folds) if stored else request.folds is not None


def find_preprocessed(dataset: str, before: LabelledSet | None = None) -> Path:
    """Return the preprocessed folder of a data set.

    Args:
        dataset: its name, such as Dataset004_Hippocampus.
        before: what the study knew of it; serves where nnUNet_preprocessed is not set.

    Raises:
        ConfigError: there is none.
    """
    root = os.environ.get("nnUNet_preprocessed")
    folder = before.preprocessed if before and root is None else Path(root or "") / dataset
    if not (root or before) or not (folder / "dataset.json").is_file():
        raise ConfigError(
            f"{dataset} is not preprocessed: no {folder}/dataset.json (nnUNet_preprocessed={root!r}); run "
            "nnUNetv2_plan_and_preprocess first"
        )
    return folder.resolve()


def labelled_cases(dataset: RawImages) -> list[str]:
    """Return the cases that have a label map."""
    return [case for case in dataset.images if dataset.labels[case].is_file()]


def _subjects(request: Request, before: LabelledSet | None, dataset: RawImages) -> dict[str, str]:
    """Return case -> subject of all labelled cases."""
    cases = labelled_cases(dataset)
    if before is None or request.subjects is not None or request.subject is not None:
        return case_subjects(cases, dataset.folder, request.subjects, request.subject)
    return {case: before.subjects.get(case, case) for case in cases}


def _test_cases(path: Path, subjects: dict[str, str]) -> list[str]:
    """Return the labelled cases of the test subjects that a file names.

    Raises:
        ConfigError: none of them has a labelled case.
    """
    named = read_test_subjects(path)
    absent = sorted(named - set(subjects.values()))
    if not named or len(absent) == len(named):
        raise ConfigError(
            f"{path}: none of its test subjects ({listed(absent)}) has a labelled case; those of the data set are such "
            f"as {listed(list(subjects.values())[:2])}. Say what a case's subject is with --subjects or --subject"
        )
    if absent:
        logger.warning("%s: %s have no labelled case and are left out", path, listed(absent))
    return sorted(case for case, subject in subjects.items() if subject in named)


def _folds(preprocessed: Path, subjects: dict[str, str]) -> list[Fold]:
    path = preprocessed / SPLITS
    if not path.is_file():
        raise ConfigError(
            f"there is no {path}; make folds that keep subjects together: nnunet_xlstm split -d "
            f"{preprocessed.name} --folds 5"
        )
    folds = read_folds(path)
    check_folds(folds, subjects, str(path))
    return folds


def chosen_folds(request: Request, stored: Study | None, data: LabelledSet) -> list[int]:
    """Return the numbers of the folds to train, those of the study in the folder among them.

    Raises:
        ConfigError: a number that splits_final.json does not have, or a case that two folds would score.
    """
    asked = request.folds if request.folds is not None else [] if stored else range(len(data.folds))
    numbers = sorted({*asked, *(stored.folds if stored else ())})
    if wrong := [number for number in numbers if number >= len(data.folds)]:
        raise ConfigError(
            f"--folds {wrong[0]}: {data.preprocessed / SPLITS} has {len(data.folds)} folds, the first is 0"
        )
    seen: dict[str, int] = {}
    for number in numbers:
        for case in data.folds[number]["val"]:
            if seen.setdefault(case, number) != number:
                raise ConfigError(
                    f"'{case}' is a validation case of the folds {seen[case]} and {number}, and would count twice; "
                    "choose --folds of which each case is scored once"
                )
    return numbers
