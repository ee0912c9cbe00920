"""Score a folder of predictions and write summary.json, a CSV and a page."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from nnunet_xlstm import __version__
from nnunet_xlstm.errors import DatasetError, UserError
from nnunet_xlstm.evaluation.labels import Classes
from nnunet_xlstm.evaluation.score import CaseScores, Settings, score_case
from nnunet_xlstm.evaluation.summary import EXTRAS, METRICS, finite, mean_of_known
from nnunet_xlstm.imaging.grid import check_same_grid
from nnunet_xlstm.imaging.images import read_label_map

MAX_LISTED = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """One case: its name and its two files."""

    case: str
    reference: Path
    prediction: Path


def find_pairs(references: Path, predictions: Path, ending: str, chill: bool = False) -> list[Pair]:
    """Every reference with its prediction, by file name.

    Args:
        ending: of both, such as ".nii.gz". chill: score the cases that have a prediction and leave out the others, as
            nnUNetv2_evaluate_folder does with --chill.

    Raises:
        ValueError: a folder is missing or empty, a reference has no prediction, or the other way round.
    """
    names = {}
    for what, folder in (("reference", references), ("prediction", predictions)):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: the {what} folder does not exist; give a folder of *{ending} files")
        names[what] = {p.name for p in folder.iterdir() if p.name.endswith(ending) and not p.name.startswith(".")}
        if not names[what]:
            raise DatasetError(f"{folder}: holds no *{ending} file; give the {what} folder, or check 'file_ending'")
    missing, extra = names["reference"] - names["prediction"], names["prediction"] - names["reference"]
    if extra:
        raise DatasetError(
            f"{_listed(extra)} in {predictions}: no reference of that name in {references}; remove or add"
        )
    if missing and not chill:
        raise DatasetError(
            f"{_listed(missing)} in {references}: no prediction in {predictions}; predict them, or score the others "
            "alone with --chill"
        )
    if missing:
        logger.warning("%d of %d references have no prediction and are left out", len(missing), len(names["reference"]))
    return [
        Pair(name.removesuffix(ending), references / name, predictions / name) for name in sorted(names["prediction"])
    ]


def score_pair(pair: Pair, classes: Classes, settings: Settings) -> CaseScores:
    """Read and score one case.

    Raises:
        ValueError: unreadable, on different grids, or with unknown labels.
    """
    images = [read_label_map(path) for path in (pair.reference, pair.prediction)]
    check_same_grid(*images)
    arrays = [sitk.GetArrayViewFromImage(image) for image in images]
    return score_case(*arrays, classes, images[0].GetSpacing()[::-1], settings)


def score_pairs(
    pairs: Sequence[Pair], classes: Classes, settings: Settings, processes: int = 1, progress: bool = False
) -> list[CaseScores]:
    """Score all cases, in order. All are tried before anything is refused.

    Raises:
        ValueError: lists the cases that could not be scored, and why.
    """
    jobs = [(pair, classes, settings) for pair in pairs]
    bar = {"total": len(jobs), "unit": "case", "desc": "evaluate", "disable": None if progress else True}
    if processes > 1 and len(jobs) > 1:
        # spawned: nothing heavy is imported here, and a fork of a threaded parent may hang
        try:
            with ProcessPoolExecutor(min(processes, len(jobs)), get_context("spawn")) as pool:
                results = list(tqdm(pool.map(_try, jobs), **bar))
        except BrokenProcessPool as error:
            raise UserError(
                f"one of {processes} processes was ended, perhaps for its memory; use a lower -np"
            ) from error
    else:
        results = list(tqdm(map(_try, jobs), **bar))
    failed = [f"{pair.case}: {result}" for pair, result in zip(pairs, results, strict=True) if isinstance(result, str)]
    if failed:
        more = f"\n... and {len(failed) - MAX_LISTED} more" if len(failed) > MAX_LISTED else ""
        raise DatasetError(f"{len(failed)} of {len(pairs)} cases:\n" + "\n".join(failed[:MAX_LISTED]) + more)
    return results


def _try(job: tuple[Pair, Classes, Settings]) -> CaseScores | str:
    try:
        return score_pair(*job)
    except (UserError, MemoryError) as error:
        return str(error) or type(error).__name__


def summarise(
    pairs: Sequence[Pair], results: Sequence[CaseScores], classes: Classes, settings: Settings
) -> dict[str, Any]:
    """The content of summary.json: see `nnunet_xlstm.evaluation.summary`."""
    keys, names = list(classes.labels), list(METRICS)
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
            "definition": settings.definition() | classes.definition(),
        },
    }


def _std(values: np.ndarray) -> np.ndarray:
    """SD over cases (ddof 1) of the values that exist, (cases, metrics) -> (metrics,); NaN where one is infinite."""
    known = [column[~np.isnan(column)] for column in values.T]
    defined = [len(column) > 1 and np.isfinite(column).all() for column in known]
    return np.array([c.std(ddof=1) if ok else math.nan for c, ok in zip(known, defined, strict=True)])


def _mean_flags(names: Sequence[str], keys: Sequence[str], mean: np.ndarray, case_mean: np.ndarray) -> dict:
    """Why a mean is null: class (or "case_mean") -> metric -> reason."""
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
    """Header and rows of the CSV: one row per case and class, with its flags."""
    names = summary[EXTRAS]["classes"]
    header = ["case", "class", "name", *METRICS, "flags"]
    rows = []
    for pair, row in zip(pairs, summary["metric_per_case"], strict=True):
        for key, metrics in row["metrics"].items():
            flags = "; ".join(f"{name} {why}" for name, why in row["flags"].get(key, {}).items())
            rows.append([pair.case, key, names[key], *(metrics[name] for name in METRICS), flags])
    return header, rows


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:MAX_LISTED]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
