"""From the summaries of runs to means, intervals and differences of variants.

The metrics of a case are averaged over the seeds of a variant first, and the parts of a data set (folds) are joined.
The unit is then the subject, as in `nnunet_xlstm compare`: intervals and differences come from resampling subjects, so
they say how far the result holds for other subjects. How much drawn labels, weights or folds matter is what the SD over
repeats shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_xlstm.comparison.analysis import MetricResult, Settings, analyze
from nnunet_xlstm.comparison.inputs import read_models
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.evaluation.summary import mean_of_known, means_of_groups, read_scores
from nnunet_xlstm.io.write import write_json
from nnunet_xlstm.statistics.wilcoxon import holm
from nnunet_xlstm.studies.averages import join, mean_over_seeds
from nnunet_xlstm.studies.study import LabelledSet, Part, Run, Study

METRICS = ("Dice", "HD95", "NSD")
RESAMPLES = 10_000
Scores = dict[str, dict[str, float]]  # class name (or "mean") -> metric -> mean over subjects


@dataclass(frozen=True)
class Scored:
    """One run on one part."""

    run: Run
    part: Part
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Where variants are compared: a data set, and a value of the axis; `key` is in the names of files."""

    data: LabelledSet
    value: int | None
    key: str


@dataclass(frozen=True)
class Difference:
    """A variant minus the first one, paired by subject.

    Attributes:
        mean: over subjects.
        interval: bootstrap over subjects.
        p: two-sided Wilcoxon signed-rank, Holm-corrected over the other variants under this condition.
    """

    mean: float
    interval: tuple[float, float]
    p: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """A variant under a condition, by one metric.

    Attributes:
        runs: how many are finished.
        subjects: that they are scored on.
        repeats: seed or fold -> mean over its subjects.
        interval: bootstrap over subjects.
        difference: to the first variant; None for the first variant itself, and where the two have not finished the
            same seeds and folds, since these saw other subjects.
    """

    variant: str
    condition: Condition
    metric: str
    runs: int
    subjects: int
    repeats: dict[int, float]
    mean: float
    interval: tuple[float, float]
    difference: Difference | None = None

    @property
    def repeat_sd(self) -> float | None:
        """SD over repeats, ddof 1."""
        return float(np.std(list(self.repeats.values()), ddof=1)) if len(self.repeats) > 1 else None


@dataclass(frozen=True)
class Findings:
    """All that is known so far.

    Attributes:
        averages: (condition, variant) -> its file.
        missing: ids of runs that are not done.
    """

    study: Study
    scored: list[Scored]
    points: list[Point]
    averages: dict[tuple[str, str], Path]
    missing: list[str]

    def of(self, metric: str) -> list[Point]:
        """Return the points of one metric."""
        return [point for point in self.points if point.metric == metric]


def conditions(study: Study) -> list[Condition]:
    """Return every data set that is scored, at every value."""
    several = len(study.scored_sets) > 1
    values: Sequence[int | None] = study.values or [None]
    return [
        Condition(data=data, value=value, key="_".join([*[data.name] * several, *study.kind.id_words(value)]))
        for data in study.scored_sets
        for value in values
    ]


def find(study: Study) -> Findings:
    """Read the finished runs, write the means over seeds (averages/), and compare the variants.

    Raises:
        ConfigError: no run is finished, or a summary does not fit.
    """
    runs = study.runs()
    done = [run for run in runs if run.is_done]
    missing = [run.id for run in runs if not run.is_done]
    if not done:
        raise ConfigError(f"{study.folder}: none of the {len(missing)} runs is finished, so there is nothing to report")
    parts = {part.name: part for part in study.parts()}
    scored = [_score(run, parts[name]) for run in done for name in run.parts]
    points: list[Point] = []
    averages: dict[tuple[str, str], Path] = {}
    for condition in conditions(study):
        here = [s for s in scored if s.part.data.name == condition.data.name and s.run.value == condition.value]
        for rows in _same_work(study, here):
            files = _write_averages(study, condition, rows)
            averages |= {(condition.key, variant): path for variant, path in files.items()}
            points += _compare(study, condition, rows, files)
    order = {variant.name: i for i, variant in enumerate(study.variants)}
    keys = [condition.key for condition in conditions(study)]
    points.sort(key=lambda p: (METRICS.index(p.metric), keys.index(p.condition.key), order[p.variant]))
    return Findings(study, scored, points, averages, missing)


def _score(run: Run, part: Part) -> Scored:
    path = run.summary(part.name)
    scores = read_scores(path)
    if scores.cases != part.cases:
        raise ConfigError(f"{path}: its cases are not those of the study; remove it and run {run.id} anew")
    keys = [key for key in scores.classes if key not in part.data.unscored]
    subjects = [part.data.subjects[case] for case in scores.cases]
    found: Scores = {name: {} for name in (*(scores.classes[key] for key in keys), "mean")}
    columns = [list(scores.classes).index(key) for key in keys]
    for metric in METRICS:
        values = scores.values[metric][:, columns]
        values = np.concatenate([values, mean_of_known(values, axis=1)[:, None]], axis=1)  # (cases, classes + 1)
        means = mean_of_known(means_of_groups(values.T, subjects), axis=1)
        for name, mean in zip(found, means, strict=True):
            found[name][metric] = float(mean)
    return Scored(run, part, found)


def _same_work(study: Study, rows: Sequence[Scored]) -> list[list[Scored]]:
    """Return the rows of variants that have finished the same seeds and parts, together."""
    groups: dict[frozenset[tuple[int, str]], list[Scored]] = {}
    for variant in study.variants:
        own = [row for row in rows if row.run.variant == variant.name]
        if own:
            groups.setdefault(frozenset((row.run.seed, row.part.name) for row in own), []).extend(own)
    return list(groups.values())


def _write_averages(study: Study, condition: Condition, rows: Sequence[Scored]) -> dict[str, Path]:
    """Variant -> its scores of each case, mean over seeds."""
    files = {}
    for variant in dict.fromkeys(row.run.variant for row in rows):
        parts: dict[str, list[Path]] = {}
        for row in rows:
            if row.run.variant == variant:
                parts.setdefault(row.part.name, []).append(row.run.summary(row.part.name))
        name = "_".join([variant, *([condition.key] if condition.key else [])])
        files[variant] = study.folder / "averages" / f"{name}.json"
        write_json(files[variant], join([mean_over_seeds(paths, condition.data.unscored) for paths in parts.values()]))
    return files


def _compare(study: Study, condition: Condition, rows: Sequence[Scored], files: Mapping[str, Path]) -> list[Point]:
    """Compare the variants that have finished the same."""
    models = read_models(list(files.items()))
    subjects = [condition.data.subjects[case] for case in models.cases]
    first = models.names.index(study.variants[0].name) if study.variants[0].name in files else None
    others = [m for m in range(len(models.names)) if m != first] if first is not None else []
    points = []
    for metric in METRICS:
        if np.isnan(models.values[metric]).all():
            continue
        result = analyze(models, metric, Settings((metric,), resamples=RESAMPLES), subjects)
        p = _p_values(result, first, others)
        for m, variant in enumerate(models.names):
            own = [row for row in rows if row.run.variant == variant]
            difference = None
            if m in others:
                bounds = _pair(result.difference_interval[:, m, first])
                difference = Difference(float(result.difference[m, first]), bounds, p[m])
            points.append(
                Point(
                    variant=variant,
                    condition=condition,
                    metric=metric,
                    runs=len(own),
                    subjects=len(set(subjects)),
                    repeats=_repeats(study, own, metric),
                    mean=float(result.mean[m, -1]),
                    interval=_pair(result.interval[:, m, -1]),
                    difference=difference,
                )
            )
    return points


def repeated(study: Study) -> str:
    """Say what the SD is over: "seeds", or "folds" where there is one seed."""
    return "folds" if study.folds and study.seeds == 1 else "seeds"


def _repeats(study: Study, rows: Sequence[Scored], metric: str) -> dict[int, float]:
    groups: dict[int, list[float]] = {}
    for row in rows:
        key = row.run.seed if row.run.fold is None or repeated(study) == "seeds" else row.run.fold
        groups.setdefault(key, []).append(row.scores["mean"][metric])
    return {key: float(mean_of_known(np.array(values), axis=0)) for key, values in sorted(groups.items())}


def _pair(bounds: np.ndarray) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])


def _p_values(result: MetricResult, first: int | None, others: Sequence[int]) -> dict[int, float]:
    """Corrected p value of each of the others against the first."""
    if not others:
        return {}
    tests = result.tests.p
    p = np.array([min(1.0, 2 * min(tests[m, first], tests[first, m])) for m in others])
    return dict(zip(others, holm(p).tolist(), strict=True))
