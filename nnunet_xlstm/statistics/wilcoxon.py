"""One-sided paired Wilcoxon signed-rank test and Holm's correction.

Zeros are dropped (Wilcoxon 1945). Up to 25 pairs that differ the p value is exact, also with ties: the distribution of
the rank sum over all 2^n signs, given the midranks that occurred. Beyond that: the normal approximation with the
variance corrected for ties and no continuity correction. An infinite value is worse or better than every number;
two infinite values are equal.

Why not scipy.stats.wilcoxon: it has no exact distribution where differences tie, which Dice of a few voxels do; it then
samples permutations or falls back on the normal approximation (`tests/statistics/test_wilcoxon.py` compares both).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

EXACT_UP_TO = 25
DECIMALS = 12  # differences are rounded to this, or 0.9 - 0.8 and 0.8 - 0.7 would be no tie


@dataclass(frozen=True)
class PairedTest:
    """Result of one test.

    Attributes:
        p: probability of a rank sum at least this large if neither is better. statistic: that sum, W+.
        n: pairs without a missing value. n_differ: those whose values differ.
        method: "exact", "normal", or "identical" where nothing differs (p = 1).
    """

    p: float
    statistic: float
    n: int
    n_differ: int
    method: str


def wilcoxon_greater(x: np.ndarray, y: np.ndarray) -> PairedTest:
    """Test whether x is greater than y.

    Args:
        x: (n,).
        y: (n,), paired with x; a pair with a NaN is left out.

    Raises:
        ValueError: other shapes.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"Samples of shapes {x.shape} and {y.shape} were given; a paired test needs two equal (n,).")
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    same = x == y  # also two infinities, whose difference is no number
    difference = np.round(np.subtract(x, y, out=np.zeros_like(x), where=~same), DECIMALS)
    difference = difference[difference != 0]
    if difference.size == 0:
        return PairedTest(1.0, 0.0, int(known.sum()), 0, "identical")
    ranks = rankdata(np.abs(difference))
    statistic = float(ranks[difference > 0].sum())
    exact = difference.size <= EXACT_UP_TO
    p = _exact_tail(ranks, statistic) if exact else _normal_tail(ranks, statistic)
    return PairedTest(p, statistic, int(known.sum()), int(difference.size), "exact" if exact else "normal")


def _exact_tail(ranks: np.ndarray, statistic: float) -> float:
    """P(W+ >= statistic) over all signs. Midranks are multiples of 1/2, so doubled ranks are whole numbers."""
    doubled = np.rint(2 * ranks).astype(int)
    ways = np.zeros(doubled.sum() + 1)  # ways[s]: sign patterns with doubled sum s; at most 2^25, exact in float64
    ways[0] = 1
    for rank in doubled:
        ways[rank:] = ways[rank:] + ways[:-rank]
    return float(ways[round(2 * statistic) :].sum() / ways.sum())


def _normal_tail(ranks: np.ndarray, statistic: float) -> float:
    n = ranks.size
    _, tied = np.unique(ranks, return_counts=True)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((tied**3 - tied).sum()) / 48
    return float(norm.sf((statistic - n * (n + 1) / 4) / math.sqrt(variance)))


def smallest_p(n: int) -> float:
    """Return the smallest p value that `wilcoxon_greater` can give for n pairs: all of them differ in one direction."""
    if n <= EXACT_UP_TO:
        return 0.5**n
    return _normal_tail(np.arange(1, n + 1), n * (n + 1) / 2)


def units_needed(alpha: float, comparisons: int) -> int:
    """Return the fewest pairs with which one of so many Holm-corrected comparisons can come out below alpha."""
    n = 1
    while smallest_p(n) * max(comparisons, 1) >= alpha:
        n += 1
    return n


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust p values after Holm (1979), any shape; the family is the whole array.

    Raises:
        ValueError: a p value is NaN or outside [0, 1].
    """
    p = np.asarray(p, float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values {p.ravel().tolist()} were given; each must lie in [0, 1].")
    order = np.argsort(p, axis=None, kind="stable")
    stepped = np.maximum.accumulate(p.ravel()[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty(p.size)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.reshape(p.shape)


@dataclass(frozen=True)
class PairwiseTests:
    """All ordered pairs of models; entry (i, j) asks whether model i is better than model j.

    Attributes:
        tests: (i, j) -> result, i != j.
        p, p_holm: (models, models), 1 on the diagonal; the Holm family is all i != j.
        units: the most pairs that one of the tests had.
    """

    tests: dict[tuple[int, int], PairedTest]
    p: np.ndarray
    p_holm: np.ndarray
    units: int

    @property
    def comparisons(self) -> int:
        """Number of tests."""
        return len(self.tests)

    def smallest_p(self) -> float:
        """Return the smallest uncorrected p value that is attainable."""
        return smallest_p(self.units)

    def smallest_p_holm(self) -> float:
        """Return the smallest corrected p value that is attainable."""
        return min(1.0, self.smallest_p() * max(self.comparisons, 1))

    def attainable(self) -> np.ndarray:
        """Return the smallest corrected p value that each pair can have, (models, models); 1 on the diagonal.

        Each test is taken at its smallest p value (one model is better in all n units); Holm's correction of these is
        a bound, since a smaller p value of one pair never makes the corrected one of another larger.
        """
        p = np.ones_like(self.p)
        pairs = list(self.tests)
        best = holm(np.array([smallest_p(self.tests[i, j].n) if i < j else 1.0 for i, j in pairs]))
        for (i, j), value in zip(pairs, best, strict=True):
            if i < j:
                p[i, j] = p[j, i] = value
        return p

    def underpowered_pairs(self, alpha: float) -> np.ndarray:
        """Return whether a pair has too few units to come out below alpha, however it differs, (models, models)."""
        return (self.attainable() >= alpha) & ~np.eye(len(self.p), dtype=bool)

    def underpowered(self, alpha: float) -> bool:
        """Return whether that is so for all pairs."""
        return self.comparisons > 0 and self.smallest_p_holm() >= alpha


def pairwise_tests(values: np.ndarray, better: str) -> PairwiseTests:
    """Test all ordered pairs of models.

    Args:
        values: (models, units); NaN is missing.
        better: "high" or "low".
    """
    oriented = np.asarray(values, float) * (-1 if better == "low" else 1)
    models = len(oriented)
    pairs = [(i, j) for i in range(models) for j in range(models) if i != j]
    tests = {(i, j): wilcoxon_greater(oriented[i], oriented[j]) for i, j in pairs}
    p, p_holm = np.ones((models, models)), np.ones((models, models))
    if pairs:
        index = tuple(np.array(pairs).T)
        p[index] = [tests[pair].p for pair in pairs]
        p_holm[index] = holm(p[index])
    return PairwiseTests(tests, p, p_holm, max((test.n for test in tests.values()), default=0))
