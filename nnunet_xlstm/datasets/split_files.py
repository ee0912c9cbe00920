"""Make and write splits_final.json or test_subjects.json of a raw data set."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.case_index import NAME, read_pool_cases
from nnunet_xlstm.datasets.case_table import TEST_SUBJECTS, case_subjects, read_test_subjects
from nnunet_xlstm.datasets.raw_dataset import SPLITS, read_folds
from nnunet_xlstm.datasets.splits import Fold, fold_without, held_out, make_folds
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.tables import text_table
from nnunet_xlstm.io.write import json_text, write_together


def split_dataset(
    folder: Path,
    cases: Sequence[str],
    table: Path | None = None,
    pattern: str | None = None,
    *,
    folds: int | None = None,
    holdout: float | None = None,
    test: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> list[str]:
    """Draw folds or test subjects and write them; return lines of text that say what was drawn and written.

    Args:
        folder: of the raw data set.
        cases: with a label map.
        table: file with the subject of every case (see `case_subjects`).
        pattern: regular expression that finds the subject in a case's name.
        folds: how many folds to make; one of `folds`, `holdout` and `test` is needed.
        holdout: share of the subjects that one fold validates with.
        test: share of the subjects that no fold may have.
        seed: of what is drawn.
        overwrite: whether other folds or test subjects may be replaced.

    Raises:
        ConfigError: a number or share that does not fit, or files that hold something else and may not be replaced.
    """
    subjects = case_subjects(cases, folder, table, pattern)
    known = read_pool_cases(folder / NAME).column("source") if (folder / NAME).is_file() else {}
    sources = {case: known.get(case, "") for case in cases}
    test_file, files = folder / f"{TEST_SUBJECTS}.json", split_files(folder)
    lines = []
    if test is not None:
        drawn = held_out(subjects, sources, test, seed)
        contents: dict[Path, Any] = {test_file: {TEST_SUBJECTS: drawn}}
        rows = _test_rows(drawn, subjects, sources)
    else:
        tested = read_test_subjects(test_file) & set(subjects.values()) if test_file.is_file() else set()
        subjects = {case: subject for case, subject in subjects.items() if subject not in tested}
        lines += [f"{len(tested)} test subjects of {test_file} are in no fold"] if tested else []
        if folds is not None:
            made = make_folds(subjects, sources, folds, seed)
        elif holdout is not None:
            made = [fold_without(subjects, held_out(subjects, sources, holdout, seed))]
        else:
            raise ConfigError("nothing to make: give a number of folds, or a share to hold out or to test")
        contents = dict.fromkeys(files, made)
        rows = _fold_rows(made, subjects, sources)
    if not overwrite and (other := [path for path in contents if path.is_file() and read_json(path) != contents[path]]):
        raise ConfigError(
            f"{other[0]}: holds other folds or subjects, which trainings may rest on; --overwrite replaces them"
        )
    write_together({path: json_text(content) for path, content in contents.items()})
    lines += [*text_table(rows), "", *(f"written: {path}" for path in contents)]
    if test is not None:
        tested_cases = {case for case in cases if subjects[case] in set(drawn)}
        lines += [
            f"{path} still has test subjects in its folds: make them anew, with --overwrite"
            for path in files
            if path.is_file() and any(tested_cases & {*fold["train"], *fold["val"]} for fold in read_folds(path))
        ]
    return lines


def _fold_rows(folds: Sequence[Fold], subjects: Mapping[str, str], sources: Mapping[str, str]) -> list[list[str]]:
    names = sorted(set(sources.values()) - {""})
    rows = [["fold", "train: subjects", "cases", "validate: subjects", "cases", *(f"of {name}" for name in names)]]
    for number, fold in enumerate(folds):
        counts = [n for part in ("train", "val") for n in (len({subjects[c] for c in fold[part]}), len(fold[part]))]
        counts += [len({subjects[case] for case in fold["val"] if sources[case] == name}) for name in names]
        rows.append([str(n) for n in (number, *counts)])
    return rows


def _test_rows(drawn: Sequence[str], subjects: Mapping[str, str], sources: Mapping[str, str]) -> list[list[str]]:
    rows = [["source", "subjects", "for testing"]]
    for name in sorted(set(sources.values())):
        own = {subjects[case] for case in subjects if sources[case] == name}
        rows.append([name or "all", str(len(own)), str(len(own & set(drawn)))])
    return rows


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
