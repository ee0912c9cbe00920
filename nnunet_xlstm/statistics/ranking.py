"""Rankings of models over cases and their stability; after challengeR (Wiesenfarth et al., Sci Rep 11, 2021).

Rank 1 is the best; models that tie share the smaller rank ("min"). Rows of an array are models, columns are units
(cases, or cases x classes).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnunet_xlstm.statistics.bootstrap import draw_counts, resampled_means

Statistic = Literal["mean", "median", "mean rank"]
TIE = 1e-12  # relative; sums in another order differ by less


def ranks(scores: np.ndarray, better: str) -> np.ndarray:
    """Rank along the last axis; ties take the smaller rank.

    Args:
        scores: (..., models). A NaN has no rank: NaN, and does not count.
        better: "high" or "low".

    Raises:
        ValueError: unknown `better`.
    """
    if better not in ("high", "low"):
        raise ValueError(f"better='{better}': use 'high' or 'low'.")
    scores = np.asarray(scores, float) * (1 if better == "high" else -1)
    own, other = scores[..., :, None], scores[..., None, :]
    finite = np.abs(scores[np.isfinite(scores)])
    margin = TIE * float(finite.max()) if finite.size else 0.0
    result = 1.0 + (other > own + margin).sum(-1)
    return np.where(np.isnan(scores), np.nan, result)


def replace_missing(values: np.ndarray, better: str, worst: float | None = None) -> np.ndarray:
    """Replace NaN by `worst`; without one, by minus or plus infinity."""
    if worst is None:
        worst = -np.inf if better == "high" else np.inf
    return np.where(np.isnan(values), worst, values)


def aggregate_then_rank(values: np.ndarray, better: str, statistic: Literal["mean", "median"] = "mean") -> np.ndarray:
    """Return mean (or median) over the units, then rank, (models,). NaN entries are left out."""
    return ranks(_aggregate(np.asarray(values, float), better, statistic), better)


def rank_then_aggregate(values: np.ndarray, better: str) -> np.ndarray:
    """Rank within every unit, then rank the mean ranks, (models,). NaN entries are left out."""
    return ranks(_aggregate(np.asarray(values, float), better, "mean rank"), "low")


def _aggregate(values: np.ndarray, better: str, statistic: Statistic) -> np.ndarray:
    if statistic == "median":
        return np.array([np.median(row[~np.isnan(row)]) if not np.isnan(row).all() else np.nan for row in values])
    if statistic == "mean rank":
        values = ranks(values.T, better).T
    return resampled_means(values, np.ones((1, values.shape[1])))[0]


def test_then_rank(p: np.ndarray, alpha: float) -> np.ndarray:
    """Rank by the number of models that a model is significantly better than, (models,).

    Args:
        p: (models, models), corrected; entry (i, j) for "i better than j".
        alpha: level of significance.
    """
    wins = (np.asarray(p) < alpha) & ~np.eye(len(p), dtype=bool)
    return ranks(wins.sum(1), "high")


@dataclass(frozen=True)
class RankStability:
    """Ranks over bootstrap resamples.

    Attributes:
        frequency: (models, ranks), the share of resamples in which model m had rank r + 1; rows sum to 1.
        median: (models,).
        low: (models,), the 2.5 percentile (a rank that occurred).
        high: (models,), the 97.5 percentile (likewise).
    """

    frequency: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_ranks(
    values: np.ndarray,
    better: str,
    statistic: Statistic = "mean",
    clusters: Sequence[Hashable] | np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> RankStability:
    """Draw units (or whole clusters) with replacement and rank the models anew.

    Args:
        values: (models, units). A NaN is left out; a model without a value in a resample is last there.
        better: "high" or "low".
        statistic: "mean" or "median" for aggregate-then-rank, "mean rank" for rank-then-aggregate.
        clusters: (units,) the subject of each unit; default: each unit is its own.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: unknown statistic, or clusters that do not fit.
    """
    values = np.asarray(values, float)
    counts = draw_counts(values.shape[1], resamples, seed, clusters)
    if statistic == "mean":
        scores = resampled_means(values, counts)
    elif statistic == "median":
        scores = _resampled_medians(values, counts)
    elif statistic == "mean rank":
        scores, better = resampled_means(ranks(values.T, better).T, counts), "low"
    else:
        raise ValueError(f"statistic='{statistic}': use 'mean', 'median' or 'mean rank'.")
    drawn = ranks(replace_missing(scores, better), better).astype(int)
    models = len(values)
    frequency = np.stack([(drawn == rank).mean(0) for rank in range(1, models + 1)], 1)
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0, method="inverted_cdf")
    return RankStability(frequency, np.median(drawn, axis=0), low, high)


def _resampled_medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the median of every resample, (resamples, models).

    Each model is sorted once; the median is where half of the weight lies.
    """
    medians = np.full((len(counts), len(values)), np.nan)
    for model, row in enumerate(values):
        order = np.argsort(row, kind="stable")[: int((~np.isnan(row)).sum())]  # NaN sorts last
        if order.size == 0:
            continue
        weight = counts[:, order].cumsum(1)
        total = weight[:, -1]
        lower = (weight < np.ceil(total / 2)[:, None]).sum(1).clip(max=order.size - 1)
        upper = (weight < (np.floor(total / 2) + 1)[:, None]).sum(1).clip(max=order.size - 1)
        middle = row[order[lower]], row[order[upper]]
        medians[:, model] = np.where(middle[0] == middle[1], middle[0], (middle[0] + middle[1]) / 2)
        medians[total == 0, model] = np.nan
    return medians
