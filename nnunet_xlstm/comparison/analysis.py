"""From scores to means, intervals, tests and rankings, one metric at a time.

What a missing value means: where neither reference nor prediction has a class, the model is right. Its value stays out
of the case average, and counts as the best one where a whole case is of that kind and another model has a value.
Every other missing value is a failure. With `na` "worst" it is the metric's worst value in tests and rankings; the case
has no average, and differences leave that class of it out. With "drop", a class of a case that not all models have is
left out for all of them, everywhere. Where no model has a value, there is nothing to compare.

The unit is the case or, where subjects are given, the subject: the mean over its cases. Means, SD, intervals, ranks and
tests are of units.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_xlstm.choices import ALPHA, MISSING_VALUES, RESAMPLES, UNITS
from nnunet_xlstm.comparison.inputs import ModelScores
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.evaluation.summary import METRICS, mean_of_known, means_of_groups
from nnunet_xlstm.statistics import ranking
from nnunet_xlstm.statistics.bootstrap import mean_interval, means
from nnunet_xlstm.statistics.wilcoxon import PairwiseTests, pairwise_tests

DEFAULT_METRICS = ("Dice", "HD95", "ASSD", "NSD", "RVE")


@dataclass(frozen=True)
class Settings:
    """Choices of a comparison.

    Attributes:
        metrics: to compare; empty: those of DEFAULT_METRICS that the summaries have.
        alpha: level of significance after Holm's correction.
        na: "worst" or "drop", see the module.
        unit: of tests and rankings, "case" (its average over the classes) or "case_class" (every class of a case, as if
            they were independent).
        resamples, seed: of the bootstrap.
        common: compare on the cases that all models have.
    """

    metrics: tuple[str, ...] = ()
    alpha: float = ALPHA
    na: str = MISSING_VALUES[0]
    unit: str = UNITS[0]
    resamples: int = RESAMPLES
    seed: int = 0
    common: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise DatasetError(f"alpha {self.alpha}: give a probability between 0 and 1, such as 0.05.")
        if self.na not in MISSING_VALUES or self.unit not in UNITS:
            valid = f"{', '.join(MISSING_VALUES)} and {', '.join(UNITS)}"
            raise DatasetError(f"na '{self.na}', unit '{self.unit}': valid are {valid}.")
        if self.resamples < 1 or self.seed < 0:
            raise DatasetError(f"resamples {self.resamples}, seed {self.seed}: give 1 or more, and 0 or more.")


@dataclass(frozen=True)
class MetricResult:
    """Everything about one metric; arrays have one entry per model, in the order given.

    Attributes:
        over: the units, "cases" or "subjects".
        tested: what tests and rankings compare, these or "classes of" these.
        values: (models, cases, classes), with "drop" only those that all models have.
        dropped: how many that removed.
        averages: (models, cases), mean over the classes; NaN where one of them failed.
        units: (models, units, classes + 1), `values` and `averages` of the units.
        mean, sd, n: (models, classes + 1), over the units with a value; SD with ddof 1; the last column is that of
            `points`.
        interval: (2, models, classes + 1), bootstrap over units.
        comparable: (classes + 1,), all models have a value for the same cases, and for the last none failed.
        class_mean: (models,), mean over the classes of their means; of cases: nnU-Net's foreground_mean.
        failed: (models,), values that are missing though they should not be.
        difference, difference_interval, difference_n: (models, models), (2, models, models) and (models, models), row
            minus column of what tests compare, over the classes where neither failed; n units.
        compared, compared_of: (models, units) and (units,), what tests and rankings compare, missing values dealt with,
            and the case or subject of each.
        paired, paired_of: (pairs, units) and (units,), likewise the differences of the pairs of models, in the order of
            numpy.triu_indices.
        tests: on units.
        rankings: how -> (models,).
        stability: of "mean, then rank".
    """

    metric: str
    over: str
    tested: str
    values: np.ndarray
    dropped: int
    averages: np.ndarray
    units: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    n: np.ndarray
    interval: np.ndarray
    comparable: np.ndarray
    class_mean: np.ndarray
    failed: np.ndarray
    difference: np.ndarray
    difference_interval: np.ndarray
    difference_n: np.ndarray
    compared: np.ndarray
    compared_of: list[Hashable]
    paired: np.ndarray
    paired_of: list[Hashable]
    tests: PairwiseTests
    rankings: dict[str, np.ndarray]
    stability: ranking.RankStability

    @property
    def points(self) -> np.ndarray:
        """Return `averages` of the units, (models, units)."""
        return self.units[:, :, -1]


def choose_metrics(models: ModelScores, asked: Sequence[str]) -> list[str]:
    """Return the metrics to compare.

    Raises:
        DatasetError: one of those asked for is unknown, has no better and worse, or has no values.
    """
    known = {m: v for m, v in models.values.items() if METRICS[m].better and not np.isnan(v).all()}
    if not asked:
        found = [metric for metric in DEFAULT_METRICS if metric in known]
        if not found:
            raise DatasetError(f"The summaries share none of {', '.join(DEFAULT_METRICS)} with a value; use --metrics.")
        return found
    for metric in asked:
        if metric in METRICS and not METRICS[metric].better:
            raise DatasetError(f"Metric '{metric}': neither high nor low is better. Valid here: {', '.join(known)}.")
        if metric not in known:
            raise DatasetError(
                f"Metric '{metric}': not in all summaries, or without values. Valid: {', '.join(known)}."
            )
    return list(dict.fromkeys(asked))


def analyze(
    models: ModelScores, metric: str, settings: Settings, subjects: Sequence[str] | None = None
) -> MetricResult:
    """Compare the models by one metric.

    Args:
        models: scores of all models on the same cases.
        metric: name of a metric with a better direction.
        settings: of the comparison.
        subjects: the subject of each case; see the module.

    Raises:
        DatasetError: with "drop", nothing is left.
    """
    values, kind = models.values[metric], METRICS[metric]
    known = ~np.isnan(values)
    failed = missing = ~known & known.any(0) & ~models.both_empty()
    dropped = 0
    if settings.na == "drop":
        dropped = int((known.any(0) & ~known.all(0)).sum())
        values, missing = np.where(known.all(0), values, np.nan), np.zeros_like(failed)
        if not known.all(0).any():
            raise DatasetError(f"Metric '{metric}': no value that all models have; use --na worst, or leave it out.")
    over = "cases" if subjects is None else "subjects"
    clusters = np.arange(len(models.cases)) if subjects is None else np.asarray(subjects)
    averages = mean_of_known(np.where(missing, np.inf, values), axis=2)  # infinite: one of its classes failed
    columns = np.concatenate([values, averages[:, :, None]], axis=2)
    shape = (len(models.names), columns.shape[2])
    rows = means_of_groups(columns.transpose(0, 2, 1).reshape(-1, len(models.cases)), clusters.tolist())
    for found in (rows, averages):
        found[np.isinf(found)] = np.nan
    known = ~np.isnan(np.concatenate([values, averages[:, :, None]], axis=2))
    comparable = (known == known[0]).all((0, 1))
    comparable[-1] &= not missing.any()
    mean = mean_of_known(rows, axis=1).reshape(shape)

    units, case_of, class_of = comparable_units(values, missing, metric, settings)
    groups = list(zip(clusters[case_of].tolist(), class_of.tolist(), strict=True))
    tested, drawn = means_of_groups(units, groups), [cluster for cluster, _ in dict.fromkeys(groups)]
    tests = pairwise_tests(tested, kind.better)
    paired, paired_of = _paired(values, missing, clusters, settings)
    return MetricResult(
        metric,
        over,
        over if settings.unit == "case" else f"classes of {over}",
        values,
        dropped,
        averages,
        rows.reshape(*shape, -1).transpose(0, 2, 1),
        mean,
        np.array([_sd(row) for row in rows]).reshape(shape),
        (~np.isnan(rows)).sum(1).reshape(shape),
        mean_interval(rows, None, settings.resamples, settings.seed).reshape(2, *shape),
        comparable,
        mean_of_known(mean[:, :-1], axis=1),
        failed.sum((1, 2)),
        *_differences(len(values), paired, paired_of, settings),
        tested,
        drawn,
        paired,
        paired_of,
        tests,
        {
            "mean, then rank": ranking.aggregate_then_rank(tested, kind.better),
            "median, then rank": ranking.aggregate_then_rank(tested, kind.better, "median"),
            "rank, then mean": ranking.rank_then_aggregate(tested, kind.better),
            "test, then rank": ranking.test_then_rank(tests.p_holm, settings.alpha),
        },
        ranking.bootstrap_ranks(tested, kind.better, drawn, settings.resamples, settings.seed),
    )


def _sd(row: np.ndarray) -> float:
    row = row[~np.isnan(row)]
    return float(row.std(ddof=1)) if row.size > 1 else np.nan


def comparable_units(
    values: np.ndarray, failed: np.ndarray, metric: str, settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values as (models, units), missing ones dealt with, and the case and the class (indices) of each unit.

    Args:
        values: (models, cases, classes), NaN where unknown.
        failed: (models, cases, classes), where a missing value is a failure.
        metric: their name.
        settings: of the comparison.
    """
    kind = METRICS[metric]
    if settings.na == "worst":
        values = np.where(failed, np.inf if kind.worst is None else kind.worst, values)
    units, case_of, class_of = _as_units(values, settings)
    known = ~np.isnan(units)
    if settings.na == "worst":
        units = np.where(known, units, 0.0 if kind.better == "low" else 1.0)
    useful = known.any(0)
    return units[:, useful], case_of[useful], class_of[useful]


def _as_units(values: np.ndarray, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (models, cases, classes) as (models, units), and the case and the class (indices) of each unit."""
    models, cases, classes = values.shape
    if settings.unit == "case":
        return mean_of_known(values, axis=2), np.arange(cases), np.zeros(cases, int)
    return values.reshape(models, -1), np.repeat(np.arange(cases), classes), np.tile(np.arange(classes), cases)


def _paired(
    values: np.ndarray, failed: np.ndarray, clusters: np.ndarray, settings: Settings
) -> tuple[np.ndarray, list[Hashable]]:
    """Return first minus second of every pair of models, (pairs, units), and the case or subject of each unit."""
    rows, groups = [], [(cluster, 0) for cluster in clusters.tolist()]
    for i, j in zip(*np.triu_indices(len(values), 1), strict=True):
        units, case_of, class_of = _as_units(np.where(failed[i] | failed[j], np.nan, values[[i, j]]), settings)
        rows.append(units[0] - units[1])
        groups = list(zip(clusters[case_of].tolist(), class_of.tolist(), strict=True))
    stacked = np.stack(rows) if rows else np.empty((0, len(groups)))
    return means_of_groups(stacked, groups), [cluster for cluster, _ in dict.fromkeys(groups)]


def _differences(
    models: int, paired: np.ndarray, paired_of: Sequence[Hashable], settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean paired difference, its interval and the number of units; see MetricResult. The diagonal is 0."""
    mean, bounds, n = np.zeros((models, models)), np.zeros((2, models, models)), np.zeros((models, models), int)
    first, second = np.triu_indices(models, 1)
    if not first.size:
        return mean, bounds, n
    average = means(paired)
    pair = mean_interval(paired, paired_of, settings.resamples, settings.seed)
    mean[first, second], mean[second, first] = average, -average
    bounds[:, first, second], bounds[:, second, first] = pair, -pair[::-1]
    n[first, second] = n[second, first] = (~np.isnan(paired)).sum(1)
    return mean, bounds, n
