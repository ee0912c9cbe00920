"""Score a folder of predictions and write summary.json, a CSV and a page."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm import __version__
from nnunet_xlstm.datasets.case_table import listed
from nnunet_xlstm.datasets.dataset_json import Labels
from nnunet_xlstm.errors import DatasetError, UserError
from nnunet_xlstm.evaluation.cases import Pair
from nnunet_xlstm.evaluation.journal import Journal
from nnunet_xlstm.evaluation.score import CaseScores, Settings, score_case
from nnunet_xlstm.evaluation.summary import EXTRAS, FAILED, METRICS, finite, mean_of_known
from nnunet_xlstm.imaging.grid import check_same_grid
from nnunet_xlstm.imaging.images import read_label_array
from nnunet_xlstm.io.read import visible_files
from nnunet_xlstm.parallel import for_each

logger = logging.getLogger(__name__)


def find_pairs(references: Path, predictions: Path, ending: str, chill: bool = False) -> list[Pair]:
    """Find every reference with its prediction, by file name.

    Args:
        references: folder of the reference label maps.
        predictions: folder of the predicted label maps.
        ending: of both, such as ".nii.gz".
        chill: score the cases that have a prediction and leave out the others, as nnUNetv2_evaluate_folder does with
            --chill.

    Raises:
        DatasetError: a folder is missing or empty, a reference has no prediction, or the other way round.
    """
    names = {}
    for what, folder in (("reference", references), ("prediction", predictions)):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: the {what} folder does not exist; give a folder of *{ending} files")
        names[what] = {path.name for path in visible_files(folder) if path.name.endswith(ending)}
        if not names[what]:
            raise DatasetError(f"{folder}: holds no *{ending} file; give the {what} folder, or check 'file_ending'")
    missing, extra = names["reference"] - names["prediction"], names["prediction"] - names["reference"]
    if extra:
        raise DatasetError(
            f"{listed(sorted(extra))} in {predictions}: no reference of that name in {references}; remove or add"
        )
    if missing and not chill:
        raise DatasetError(
            f"{listed(sorted(missing))} in {references}: no prediction in {predictions}; predict them, or score the "
            "others alone with --chill"
        )
    if missing:
        logger.warning("%d of %d references have no prediction and are left out", len(missing), len(names["reference"]))
    return [
        Pair(name.removesuffix(ending), references / name, predictions / name) for name in sorted(names["prediction"])
    ]


def score_pair(pair: Pair, classes: Labels, settings: Settings) -> CaseScores:
    """Read and score one case.

    Raises:
        DatasetError: unreadable, on different grids, or with unknown labels.
    """
    reference, grid = read_label_array(pair.reference)
    prediction, other = read_label_array(pair.prediction)
    check_same_grid(grid, other)
    return score_case(reference, prediction, classes, grid.spacing[::-1], settings)


def score_pairs(
    pairs: Sequence[Pair],
    classes: Labels,
    settings: Settings,
    processes: int = 1,
    journal: Journal | None = None,
) -> tuple[dict[str, CaseScores], dict[str, str]]:
    """Score all cases but those that a journal knows, which is told of each one that is done.

    Returns:
        Case -> scores, and case -> why it could not be scored; both in the order of the pairs.

    Raises:
        UserError: a process was ended from outside.
        WriteError: the journal cannot be written.
    """
    scores = {} if journal is None else {p.case: s for p in pairs if (s := journal.scores(p)) is not None}
    failed: dict[str, str] = {}
    results = for_each(
        partial(score_pair, classes=classes, settings=settings),
        [pair for pair in pairs if pair.case not in scores],
        processes,
        desc="evaluate",
        done=len(scores),
        in_order=False,
        caught=(UserError, MemoryError),
        hint=" (what is scored is kept)",
    )
    for pair, result in results:
        if isinstance(result, str):
            failed[pair.case] = result
        else:
            scores[pair.case] = result
            if journal is not None:
                journal.add(pair, result)
    cases = [pair.case for pair in pairs]
    return {case: scores[case] for case in cases if case in scores}, {
        case: failed[case] for case in cases if case in failed
    }


def summarize(
    pairs: Sequence[Pair],
    results: Sequence[CaseScores],
    classes: Labels,
    settings: Settings,
    failed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the content of summary.json: see `nnunet_xlstm.evaluation.summary`.

    Args:
        pairs: the cases that are scored.
        results: their scores, in the same order.
        classes: of the data set.
        settings: of the metrics.
        failed: case that could not be scored, and is not among the pairs -> why.
    """
    keys, names = list(classes.scored), list(METRICS)
    values = np.array([[[metrics[key][name] for name in names] for key in keys] for metrics, _ in results], dtype=float)
    mean = mean_of_known(values, axis=0)
    case_mean = mean_of_known(mean_of_known(values, axis=1), axis=0)
    n_ref, n_pred = (values[:, :, names.index(name)] for name in ("n_ref", "n_pred"))
    counts = {
        "n_valid": ~np.isnan(values[:, :, names.index("Dice")]),
        "n_empty_ref": n_ref == 0,
        "n_missed": (n_ref > 0) & (n_pred == 0),
        "n_false": (n_ref == 0) & (n_pred > 0),
    }
    return {
        "foreground_mean": _row(names, mean_of_known(mean, axis=0)),
        "mean": {key: _row(names, mean[i]) for i, key in enumerate(keys)},
        "metric_per_case": [
            {
                "reference_file": str(pair.reference),
                "prediction_file": str(pair.prediction),
                "metrics": {key: {name: finite(metrics[key][name]) for name in names} for key in keys},
                "flags": {key: why for key, why in flags.items() if why},
            }
            for pair, (metrics, flags) in zip(pairs, results, strict=True)
        ],
        EXTRAS: {
            "version": __version__,
            "classes": dict(classes.names),
            "std": {key: _row(names, _std(values[:, i])) for i, key in enumerate(keys)},
            "flags": _mean_flags(names, keys, mean, case_mean),
            "counts": {key: {name: int(hit[:, i].sum()) for name, hit in counts.items()} for i, key in enumerate(keys)},
            "case_mean": _row(names, case_mean),
            "definition": settings.definition() | _definition(classes),
            FAILED: dict(failed or {}),
        },
    }


def _definition(classes: Labels) -> dict[str, Any]:
    """Say what each class is made of and what is ignored."""
    return {
        "labels": {classes.names[key]: list(ids) for key, ids in classes.scored.items()},
        "regions": "a class of several label ids is their union",
        "ignore_label": classes.ignore,
        "ignored voxels": "those where the reference is the ignore label; taken out of both masks first",
    }


def _std(values: np.ndarray) -> np.ndarray:
    """Return the SD over cases (ddof 1) of the values that exist, (cases, metrics) -> (metrics,).

    NaN where one is infinite.
    """
    known = [column[~np.isnan(column)] for column in values.T]
    defined = [len(column) > 1 and np.isfinite(column).all() for column in known]
    return np.array([c.std(ddof=1) if ok else math.nan for c, ok in zip(known, defined, strict=True)])


def _mean_flags(
    names: Sequence[str], keys: Sequence[str], mean: np.ndarray, case_mean: np.ndarray
) -> dict[str, dict[str, str]]:
    """Say why a mean is null: class (or "case_mean") -> metric -> reason."""
    rows = {key: mean[i] for i, key in enumerate(keys)} | {"case_mean": case_mean}
    flags = {
        key: {
            name: "infinite: a structure is missing in some case" if np.isinf(v) else "undefined: no case has a value"
            for name, v in zip(names, row, strict=True)
            if not np.isfinite(v)
        }
        for key, row in rows.items()
    }
    return {key: why for key, why in flags.items() if why}


def _row(names: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    return {name: finite(value) for name, value in zip(names, values, strict=True)}


def csv_rows(pairs: Sequence[Pair], summary: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of the CSV: one row per case and class, with its flags."""
    names = summary[EXTRAS]["classes"]
    header = ["case", "class", "name", *METRICS, "flags"]
    rows: list[list[Any]] = []
    for pair, row in zip(pairs, summary["metric_per_case"], strict=True):
        for key, metrics in row["metrics"].items():
            flags = "; ".join(f"{name} {why}" for name, why in row["flags"].get(key, {}).items())
            rows.append([pair.case, key, names[key], *(metrics[name] for name in METRICS), flags])
    return header, rows
