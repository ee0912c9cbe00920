"""The metrics by name, and summary.json: nnU-Net's layout with ours added; written as strict JSON, read from both.

    {"foreground_mean": {metric: number}, "mean": {class: {metric: number}},
     "metric_per_case": [{"reference_file", "prediction_file", "metrics": {class: {metric: number}},
                          "flags": {class: {metric: why it is null}}}],
     "nnunet_xlstm": {"version", "classes": {class: name}, "std", "flags", "counts", "case_mean", "definition",
                      "failed_cases": {case that could not be scored: why}}}

A class is named as nnU-Net names it: "1", or "(1, 2)" for a region. NaN and infinity become null.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.read import read_json


@dataclass(frozen=True)
class Metric:
    """The meaning of a number.

    Attributes:
        what: in words.
        unit: "" where it has none.
        better: "high", "low", or "" where neither is.
        worst: the value that stands for a missing one in a ranking; None where there is no worst value.
    """

    what: str
    unit: str = ""
    better: str = ""
    worst: float | None = None


METRICS = {
    "Dice": Metric("2 TP / (2 TP + FP + FN)", better="high", worst=0.0),
    "IoU": Metric("TP / (TP + FP + FN)", better="high", worst=0.0),
    "FP": Metric("false positive voxels", "voxels", "low"),
    "TP": Metric("true positive voxels", "voxels"),
    "FN": Metric("false negative voxels", "voxels", "low"),
    "TN": Metric("true negative voxels", "voxels"),
    "n_pred": Metric("voxels of the prediction", "voxels"),
    "n_ref": Metric("voxels of the reference", "voxels"),
    "HD": Metric("largest distance between the surfaces", "mm", "low", math.inf),
    "HD95": Metric("95th percentile of the distances between the surfaces", "mm", "low", math.inf),
    "ASSD": Metric("average symmetric surface distance", "mm", "low", math.inf),
    "NSD": Metric("share of the surfaces within the tolerance", better="high", worst=0.0),
    "VolumeRef": Metric("volume of the reference", "mL"),
    "VolumePred": Metric("volume of the prediction", "mL"),
    "SVD": Metric("volume of the prediction minus that of the reference", "mL"),
    "AVD": Metric("absolute volume difference", "mL", "low", math.inf),
    "RVE": Metric("absolute volume difference / volume of the reference", better="low", worst=math.inf),
}
EXTRAS = "nnunet_xlstm"
FAILED = "failed_cases"  # key of EXTRAS
JOURNAL = ".unfinished"  # ends the name of the file in which an evaluation goes on that did not score all cases
GIVE = "give a summary.json that `nnunet_xlstm evaluate` or nnUNetv2_evaluate_folder wrote"


@dataclass(frozen=True)
class Scores:
    """One summary.json as arrays.

    Attributes:
        cases: sorted names, the prediction's file name without its ending.
        classes: class key -> name (the key itself in nnU-Net's own files).
        values: metric -> (cases, classes), NaN where there is no finite number.
        definition: how the metrics were computed; empty for nnU-Net's own files.
        failed: case that could not be scored, and is not among `cases` -> why.
    """

    cases: list[str]
    classes: dict[str, str]
    values: dict[str, np.ndarray]
    definition: Mapping[str, Any]
    failed: dict[str, str] = field(default_factory=dict)

    def case_average(self, metric: str) -> np.ndarray:
        """Return the mean over the classes that have a value, (cases,); NaN where none has."""
        return mean_of_known(self.values[metric], axis=1)


def mean_of_known(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean of the entries that are not NaN along an axis; NaN where all are (numpy warns there)."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def means_of_groups(values: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    """Return the mean of the known values of each group, (rows, groups), in the order in which the groups occur.

    Args:
        values: (rows, entries), NaN where unknown.
        groups: the group of each entry.
    """
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[group] for group in groups], int)
    known = ~np.isnan(values)
    total, count = np.zeros((2, len(numbers), len(values)))
    np.add.at(total, index, np.where(known, values, 0.0).T)
    np.add.at(count, index, known.T)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).T


def case_name(path: str | Path) -> str:
    """Return a file's name without folder and ending (".nii.gz" counts as one ending)."""
    name = Path(path).name
    for ending in (".nii.gz", ".ome.tif", ".ome.tiff"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name.rsplit(".", 1)[0]


def summary_file(path: Path) -> Path:
    """Return the summary.json of a folder, or the file itself."""
    return path / "summary.json" if path.is_dir() else path


def read_scores(path: Path) -> Scores:
    """Read a summary.json of ours or of nnU-Net.

    Raises:
        DatasetError: not such a file, or its cases have different classes.
    """
    path = summary_file(path)
    try:
        content = read_json(path, dict)
    except DatasetError as error:
        raise DatasetError(f"{error}; {GIVE}") from error
    try:
        listed = [(case_name(row["prediction_file"]), row["metrics"]) for row in content["metric_per_case"]]
        rows = {
            case: {key: {metric: _number(v) for metric, v in row.items()} for key, row in found.items()}
            for case, found in listed
        }
        extras = content.get(EXTRAS, {})
        names, definition = (_table(extras, key) for key in ("classes", "definition"))
        failed = _table(extras, FAILED)
        if not all(isinstance(text, str) for text in (*names.values(), *failed.values())):
            raise TypeError(f"the names of its classes are {list(names.values())}, its failed cases {dict(failed)}")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DatasetError(f"{path}: not a summary.json ({type(error).__name__}: {error}); {GIVE}") from error
    if not rows or not all(rows.values()):
        raise DatasetError(f"{path}: it holds no case, or a case without classes; evaluate a folder with predictions")
    if len(rows) != len(listed):
        raise DatasetError(f"{path}: two of its cases have the same name; evaluate each folder into a file of its own")
    cases = sorted(rows)
    keys = list(rows[cases[0]])
    for case in cases:
        if list(rows[case]) != keys:
            raise DatasetError(
                f"{path}: case '{case}' has the classes {list(rows[case])}, '{cases[0]}' has {keys}; "
                "evaluate all cases with one dataset.json"
            )
    metrics = [m for m in METRICS if any(m in row for found in rows.values() for row in found.values())]
    for m, case, key in ((m, case, key) for m in metrics for case in cases for key in keys):
        if m not in rows[case][key]:
            raise DatasetError(
                f"{path}: case '{case}' has no {m} of class {key}, others have; evaluate the folder anew"
            )
    values = {m: np.array([[rows[case][key][m] for key in keys] for case in cases]) for m in metrics}
    return Scores(cases, {key: names.get(key, key) for key in keys}, values, definition, dict(failed))


def _table(extras: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = extras.get(key, {})
    if not isinstance(table, Mapping):
        raise TypeError(f"its {key} are {table!r}")
    return table


def _number(value: float | None) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.nan


def finite(value: float | int | None) -> float | int | None:
    """Return the number, or None (null) for NaN and infinity."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, (int, np.integer)) else float(value)
