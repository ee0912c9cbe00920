"""From scores to means, intervals, tests and rankings, one metric at a time.

What a missing value means: where neither reference nor prediction has a class, the model is right. Its value stays out
of the case average, and counts as the best one where a whole case is of that kind and another model has a value.
Every other missing value is a failure: the metric's worst value (`na` "worst") or left out ("drop"). Where no model
has a value, there is nothing to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_xlstm.comparison.inputs import Material
from nnunet_xlstm.evaluation.summary import METRICS, mean_of_known
from nnunet_xlstm.statistics import ranking
from nnunet_xlstm.statistics.bootstrap import difference_interval, mean_interval
from nnunet_xlstm.statistics.tests import PairwiseTests, pairwise_tests

DEFAULT_METRICS = ("Dice", "HD95", "ASSD", "NSD", "RVE")
LEVEL = 0.95
NA, UNITS = ("worst", "drop"), ("case", "case_class")


@dataclass(frozen=True)
class Settings:
    """What a comparison leaves open.

    Attributes:
        metrics: to compare; empty: those of DEFAULT_METRICS that the summaries have.
        alpha: level of significance after Holm's correction.
        na: "worst" or "drop", see the module. unit: of tests and rankings, "case" (its average over the classes) or
            "case_class" (every class of a case, as if they were independent).
        resamples, seed: of the bootstrap. common: compare on the cases that all models have.
    """

    metrics: tuple[str, ...] = ()
    alpha: float = 0.05
    na: str = "worst"
    unit: str = "case"
    resamples: int = 1000
    seed: int = 0
    common: bool = False

    def __post_init__(self):
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha {self.alpha}: give a probability between 0 and 1, such as 0.05.")
        if self.na not in NA or self.unit not in UNITS:
            raise ValueError(f"na '{self.na}', unit '{self.unit}': valid are {', '.join(NA)} and {', '.join(UNITS)}.")
        if self.resamples < 1 or self.seed < 0:
            raise ValueError(f"resamples {self.resamples}, seed {self.seed}: give 1 or more, and 0 or more.")


@dataclass(frozen=True)
class MetricResult:
    """Everything about one metric; arrays have one entry per model, in the order given.

    Attributes:
        averages: (models, cases), mean over the classes that have a value.
        mean, sd, n: (models, classes + 1), over the cases with a value; SD with ddof 1; the last column is `averages`.
        interval: (2, models, classes + 1), bootstrap over cases or subjects.
        class_mean: (models,), mean over the classes of their means: nnU-Net's foreground_mean.
        failed: (models,), values that are missing though they should not be.
        difference, difference_interval: (models, models) and (2, models, models), row minus column of `averages`.
        tests: on cases or subjects. rankings: how -> (models,). stability: of "mean, then rank".
    """

    metric: str
    averages: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    n: np.ndarray
    interval: np.ndarray
    class_mean: np.ndarray
    failed: np.ndarray
    difference: np.ndarray
    difference_interval: np.ndarray
    tests: PairwiseTests
    rankings: dict[str, np.ndarray]
    stability: ranking.RankStability


def choose_metrics(material: Material, asked: Sequence[str]) -> list[str]:
    """The metrics to compare.

    Raises:
        ValueError: one of those asked for is unknown, has no better and worse, or has no values.
    """
    known = {m: v for m, v in material.values.items() if METRICS[m].better and not np.isnan(v).all()}
    if not asked:
        found = [metric for metric in DEFAULT_METRICS if metric in known]
        if not found:
            raise ValueError(f"The summaries share none of {', '.join(DEFAULT_METRICS)} with a value; use --metrics.")
        return found
    for metric in asked:
        if metric in METRICS and METRICS[metric].better is None:
            raise ValueError(f"Metric '{metric}': neither high nor low is better. Valid here: {', '.join(known)}.")
        if metric not in known:
            raise ValueError(f"Metric '{metric}': not in all summaries, or without values. Valid: {', '.join(known)}.")
    return list(dict.fromkeys(asked))


def analyse(material: Material, metric: str, settings: Settings, subjects: Sequence[str] | None = None) -> MetricResult:
    """Compare the models by one metric.

    Args:
        subjects: the subject of each case. Intervals and ranks then draw subjects, and tests compare their means.
    """
    values, kind = material.values[metric], METRICS[metric]
    known = ~np.isnan(values)
    failed = ~known & known.any(0) & ~material.both_empty()
    averages = mean_of_known(values, axis=2)
    columns = np.concatenate([values, averages[:, :, None]], axis=2)
    shape = (len(material.names), columns.shape[2])
    rows = columns.transpose(0, 2, 1).reshape(-1, len(material.cases))
    bootstrap = {"resamples": settings.resamples, "seed": settings.seed}
    bounds = mean_interval(rows, subjects, level=LEVEL, **bootstrap)
    mean = mean_of_known(columns, axis=1)
    difference, difference_bounds = difference_interval(averages, subjects, level=LEVEL, **bootstrap)

    units, case_of, class_of = comparable_units(values, failed, metric, settings)
    clusters = case_of if subjects is None else np.asarray(subjects)[case_of]
    tests = pairwise_tests(_independent(units, clusters, class_of), kind.better)
    return MetricResult(
        metric,
        averages,
        mean,
        np.array([_sd(row) for row in rows]).reshape(shape),
        (~np.isnan(columns)).sum(1),
        bounds.reshape(2, *shape),
        mean_of_known(mean[:, :-1], axis=1),
        failed.sum((1, 2)),
        difference,
        difference_bounds,
        tests,
        {
            "mean, then rank": ranking.aggregate_then_rank(units, kind.better),
            "median, then rank": ranking.aggregate_then_rank(units, kind.better, "median"),
            "rank, then mean": ranking.rank_then_aggregate(units, kind.better),
            "test, then rank": ranking.test_then_rank(tests.p_holm, settings.alpha),
        },
        ranking.bootstrap_ranks(units, kind.better, "mean", clusters, **bootstrap),
    )


def _sd(row: np.ndarray) -> float:
    row = row[~np.isnan(row)]
    return float(row.std(ddof=1)) if row.size > 1 else np.nan


def comparable_units(
    values: np.ndarray, failed: np.ndarray, metric: str, settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values as (models, units), missing ones dealt with; the case and the class (indices) of each unit.

    Args:
        values, failed: (models, cases, classes).
    """
    kind = METRICS[metric]
    if settings.na == "worst":
        values = np.where(failed, np.inf if kind.worst is None else kind.worst, values)
    models, cases, classes = values.shape
    if settings.unit == "case":
        units, case_of, class_of = mean_of_known(values, axis=2), np.arange(cases), np.zeros(cases, int)
    else:
        units = values.reshape(models, -1)
        case_of, class_of = np.repeat(np.arange(cases), classes), np.tile(np.arange(classes), cases)
    known = ~np.isnan(units)
    if settings.na == "worst":
        units = np.where(known, units, 0.0 if kind.better == "low" else 1.0)
    useful = known.any(0)
    return units[:, useful], case_of[useful], class_of[useful]


def _independent(units: np.ndarray, clusters: np.ndarray, class_of: np.ndarray) -> np.ndarray:
    """What the tests compare, (models, clusters): the mean over the cases of a subject, for each class there is."""
    numbers: dict[tuple, int] = {}
    groups = zip(clusters.tolist(), class_of.tolist(), strict=True)
    index = np.array([numbers.setdefault(group, len(numbers)) for group in groups], int)
    known = ~np.isnan(units)
    total, count = np.zeros((2, len(numbers), len(units)))
    np.add.at(total, index, np.where(known, units, 0.0).T)
    np.add.at(count, index, known.T)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).T
