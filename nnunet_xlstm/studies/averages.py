"""Summaries of runs put together: the mean over seeds, and the cases of several folds as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.evaluation.summary import EXTRAS, case_name, finite, mean_of_known, read_scores
from nnunet_xlstm.io.read import read_json


def mean_over_seeds(summaries: Sequence[Path], unscored: Sequence[str] = ()) -> dict[str, Any]:
    """Average summaries of the same cases, in the layout of `nnunet_xlstm evaluate`.

    Each number is the mean over those seeds in which it has a value.

    Args:
        summaries: files, one per seed.
        unscored: keys of classes that are left out.
    """
    read = [read_scores(path) for path in summaries]
    first, stored = read[0], read_json(summaries[0])
    values = {m: mean_of_known(np.stack([scores.values[m] for scores in read]), axis=0) for m in first.values}
    row_of = {case: i for i, case in enumerate(first.cases)}
    kept = {key: c for c, key in enumerate(first.classes) if key not in unscored}

    def metrics(row: int) -> dict[str, dict[str, float | None]]:
        return {key: {m: finite(float(v[row, c])) for m, v in values.items()} for key, c in kept.items()}

    known = {name: stored[EXTRAS][name] for name in ("version", "classes", "definition")}
    known["classes"] = {key: name for key, name in known["classes"].items() if key in kept}
    return {
        "metric_per_case": [
            {name: case[name] for name in ("reference_file", "prediction_file")}
            | {"metrics": metrics(row_of[case_name(case["prediction_file"])]), "flags": {}}
            for case in stored["metric_per_case"]
        ],
        EXTRAS: known | {"mean_over": [str(path) for path in summaries]},
    }


def join(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join summaries of different cases, with nnU-Net's means over all of them.

    Raises:
        ConfigError: they were not evaluated alike.
    """
    rows = [row for summary in summaries for row in summary["metric_per_case"]]
    extras = [summary[EXTRAS] for summary in summaries]
    if any(extra[name] != extras[0][name] for extra in extras for name in ("classes", "definition")):
        raise ConfigError("the parts were evaluated in different ways; remove their summary.json and run them anew")
    table: dict[str, dict[str, float | None]] = {}
    for key, metrics in rows[0]["metrics"].items():
        columns = {m: np.array([row["metrics"][key][m] for row in rows], float) for m in metrics}
        table[key] = {m: finite(float(mean_of_known(column, axis=0))) for m, column in columns.items()}
    overall = {}
    for metric in next(iter(table.values())):
        values = np.array([row[metric] for row in table.values()], float)
        overall[metric] = finite(float(mean_of_known(values, axis=0)))
    sources = [path for extra in extras for path in extra["mean_over"]]
    return {
        "foreground_mean": overall,
        "mean": table,
        "metric_per_case": rows,
        EXTRAS: extras[0] | {"mean_over": sources},
    }
