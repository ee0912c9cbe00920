"""Rankings of models over cases and their stability; after challengeR (Wiesenfarth et al., Sci Rep 11, 2021).

Rank 1 is the best; models that tie share the smaller rank ("min"). Rows of an array are models, columns are units
(cases, or cases x classes).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnunet_xlstm.statistics.bootstrap import draw_counts, means, resampled_means

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


def replace_missing(values: np.ndarray, better: str) -> np.ndarray:
    """Replace NaN by the worst that there is, minus or plus infinity."""
    return np.where(np.isnan(values), -np.inf if better == "high" else np.inf, values)


def aggregate_then_rank(values: np.ndarray, better: str, statistic: Literal["mean", "median"] = "mean") -> np.ndarray:
    """Return mean (or median) over the units, then rank, (models,). NaN entries are left out."""
    if statistic == "mean":
        return ranks(means(values), better)
    known = [row[~np.isnan(row)] for row in values]
    return ranks(np.array([np.median(row) if row.size else np.nan for row in known]), better)


def rank_then_aggregate(values: np.ndarray, better: str) -> np.ndarray:
    """Rank within every unit, then rank the mean ranks, (models,). NaN entries are left out."""
    return ranks(means(ranks(values.T, better).T), "low")


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
    clusters: Sequence[Hashable] | np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> RankStability:
    """Draw units (or whole clusters) with replacement and rank the models by the mean anew.

    Args:
        values: (models, units). A NaN is left out; a model without a value in a resample is last there.
        better: "high" or "low".
        clusters: (units,) the subject of each unit; default: each unit is its own.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: unknown `better`, or clusters that do not fit.
    """
    scores = resampled_means(values, draw_counts(values.shape[1], resamples, seed, clusters))
    drawn = ranks(replace_missing(scores, better), better).astype(int)
    models = len(values)
    frequency = np.stack([(drawn == rank).mean(0) for rank in range(1, models + 1)], 1)
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0, method="inverted_cdf")
    return RankStability(frequency, np.median(drawn, axis=0), low, high)
