"""From the summaries of runs to means, intervals and differences of arms.

The metrics of a test case are averaged over the seeds of an arm first. The unit is then the test subject, as in
`nnunet_xlstm compare`: intervals and differences come from resampling test subjects, so they say how far the result
holds for other subjects. How far it holds for other drawn labels is what the SD over seeds shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm.comparison.analysis import MetricResult, Settings, analyse, means_of_groups
from nnunet_xlstm.comparison.inputs import read_models
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.evaluation.summary import EXTRAS, case_name, finite, mean_of_known, read_scores
from nnunet_xlstm.io.files import read_json, write_json
from nnunet_xlstm.statistics.wilcoxon import holm
from nnunet_xlstm.studies.study import Run, Study

METRICS = ("Dice", "HD95", "NSD")
RESAMPLES = 10_000


@dataclass(frozen=True)
class RunScore:
    """Of one run: class name (or "mean") -> metric -> mean over test subjects."""

    run: Run
    scores: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Point:
    """An arm with so many labels, by one metric.

    Attributes:
        seeds: mean over test subjects of each finished seed. interval: bootstrap over test subjects.
        difference, difference_interval: to the first arm, paired by test subject; None for the first arm itself, and
            where the two have not finished the same seeds, since these drew other labels.
        p: two-sided Wilcoxon signed-rank, Holm-corrected over the other arms of these labels.
    """

    arm: str
    labels: int
    metric: str
    seeds: dict[int, float]
    mean: float
    interval: tuple[float, float]
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    p: float | None = None

    @property
    def seed_sd(self) -> float | None:
        """SD over seeds, ddof 1."""
        return float(np.std(list(self.seeds.values()), ddof=1)) if len(self.seeds) > 1 else None


@dataclass(frozen=True)
class Findings:
    """All that is known so far; `missing` are the ids of runs that are not done."""

    study: Study
    runs: list[RunScore]
    points: list[Point]
    missing: list[str]

    def of(self, metric: str) -> list[Point]:
        return [point for point in self.points if point.metric == metric]


def find(study: Study) -> Findings:
    """Read the finished runs, write the means over seeds (averages/), and compare the arms.

    Raises:
        ValueError: no run is finished, or a summary does not fit.
    """
    done = [run for run in study.runs() if run.is_done]
    missing = [run.id for run in study.runs() if not run.is_done]
    if not done:
        raise ConfigError(f"{study.folder}: none of the {len(missing)} runs is finished, so there is nothing to report")
    scored = [_score(study, run) for run in done]
    points = []
    for labels in study.labels:
        here = [row for row in scored if row.run.labels == labels]
        points += _compare(study, labels, here) if here else []
    return Findings(study, scored, points, missing)


def _score(study: Study, run: Run) -> RunScore:
    scores = read_scores(run.summary)
    if scores.cases != study.test_cases:
        raise ConfigError(
            f"{run.summary}: its cases are not the test cases of the study; remove it and run {run.id} anew"
        )
    subjects = [study.subjects[case] for case in scores.cases]
    found: dict[str, dict[str, float]] = {name: {} for name in (*scores.classes.values(), "mean")}
    for metric in METRICS:
        values = scores.values[metric]
        columns = np.concatenate([values, mean_of_known(values, axis=1)[:, None]], axis=1)  # (cases, classes + 1)
        means = mean_of_known(means_of_groups(columns.T, subjects), axis=1)
        for name, mean in zip(found, means, strict=True):
            found[name][metric] = float(mean)
    return RunScore(run, found)


def _compare(study: Study, labels: int, rows: Sequence[RunScore]) -> list[Point]:
    """The arms at one number of labels."""
    arms = [arm.name for arm in study.arms if any(row.run.arm == arm.name for row in rows)]
    files = []
    for arm in arms:
        files.append((arm, study.folder / "averages" / f"{arm}_n{labels}.json"))
        write_json(files[-1][1], mean_over_seeds([row.run.summary for row in rows if row.run.arm == arm]))
    material = read_models(files)
    subjects = [study.subjects[case] for case in material.cases]
    finished = {arm: {row.run.seed for row in rows if row.run.arm == arm} for arm in arms}
    first = arms.index(study.arms[0].name) if study.arms[0].name in arms else None
    others = []
    if first is not None:
        others = [m for m, arm in enumerate(arms) if m != first and finished[arm] == finished[arms[first]]]
    points = []
    for metric in METRICS:
        if np.isnan(material.values[metric]).all():
            continue
        result = analyse(material, metric, Settings((metric,), resamples=RESAMPLES), subjects)
        p = _p_values(result, first, others)
        for m, arm in enumerate(arms):
            seeds = {row.run.seed: row.scores["mean"][metric] for row in rows if row.run.arm == arm}
            mean, interval = float(result.mean[m, -1]), _pair(result.interval[:, m, -1])
            point = Point(arm, labels, metric, seeds, mean, interval)
            if m in others:
                bounds = _pair(result.difference_interval[:, m, first])
                difference = float(result.difference[m, first])
                point = Point(arm, labels, metric, seeds, mean, interval, difference, bounds, p[m])
            points.append(point)
    return points


def _pair(bounds: np.ndarray) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])


def _p_values(result: MetricResult, first: int | None, others: Sequence[int]) -> dict[int, float]:
    """Corrected p value of each of the others against the first."""
    if not others:
        return {}
    tests = result.tests.p
    p = np.array([min(1.0, 2 * min(tests[m, first], tests[first, m])) for m in others])
    return dict(zip(others, holm(p).tolist(), strict=True))


def mean_over_seeds(summaries: Sequence[Path]) -> dict[str, Any]:
    """Summaries of the same cases as one, in the layout of `nnunet_xlstm evaluate`: each number is the mean over those
    seeds in which it has a value."""
    read = [read_scores(path) for path in summaries]
    first, stored = read[0], read_json(summaries[0])
    values = {m: mean_of_known(np.stack([scores.values[m] for scores in read]), axis=0) for m in first.values}
    keys = list(first.classes)

    def row(number: int | None) -> dict[str, dict[str, float | None]]:
        means = {m: mean_of_known(v, axis=0) if number is None else v[number] for m, v in values.items()}
        return {key: {m: finite(float(v[c])) for m, v in means.items()} for c, key in enumerate(keys)}

    return {
        "foreground_mean": {
            m: finite(float(mean_of_known(mean_of_known(v, axis=0), axis=0))) for m, v in values.items()
        },
        "mean": row(None),
        "metric_per_case": [
            {name: case[name] for name in ("reference_file", "prediction_file")}
            | {"metrics": row(first.cases.index(case_name(case["prediction_file"]))), "flags": {}}
            for case in stored["metric_per_case"]
        ],
        EXTRAS: {name: stored[EXTRAS][name] for name in ("version", "classes", "definition")}
        | {"mean_over": [str(path) for path in summaries]},
    }
