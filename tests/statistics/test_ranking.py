"""Rankings by hand, against scipy and a naive bootstrap, and their properties."""

import time

import numpy as np
import pytest
from scipy.stats import rankdata

from nnunet_xlstm.statistics import ranking
from nnunet_xlstm.statistics.bootstrap import draw_counts


def test_by_hand():
    """Model 0 is best on average, model 1 in most cases; by the median too."""
    values = np.array([[0.99, 0.5, 0.5], [0.6, 0.6, 0.6], [0.1, 0.1, 0.7]])
    assert ranking.aggregate_then_rank(values, "high").tolist() == [1, 2, 3]
    assert ranking.aggregate_then_rank(values, "high", "median").tolist() == [2, 1, 3]
    # Ranks per case: (1,2,3), (2,1,3), (3,2,1): means 2, 5/3, 7/3.
    assert ranking.rank_then_aggregate(values, "high").tolist() == [2, 1, 3]
    assert ranking.aggregate_then_rank(values, "low").tolist() == [3, 2, 1]


def test_test_then_rank():
    """Model 0 beats both others, 1 and 2 beat none: ranks 1, 2, 2."""
    p = np.array([[1, 0.01, 0.04], [0.9, 1, 0.3], [0.9, 0.4, 1]])
    assert ranking.test_then_rank(p, 0.05).tolist() == [1, 2, 2]
    assert ranking.test_then_rank(p, 0.001).tolist() == [1, 1, 1]
    assert ranking.test_then_rank(np.ones((1, 1)), 0.05).tolist() == [1]


@pytest.mark.parametrize("better", ["high", "low"])
def test_ranks_equal_scipy(better):
    scores = np.random.default_rng(0).integers(0, 4, size=(30, 6)).astype(float)
    sign = -1 if better == "high" else 1
    np.testing.assert_array_equal(ranking.ranks(scores, better), rankdata(sign * scores, method="min", axis=1))


def test_missing_and_infinite():
    scores = np.array([0.5, np.nan, 0.9, np.inf])
    np.testing.assert_array_equal(ranking.ranks(scores, "high"), [3, np.nan, 2, 1])
    np.testing.assert_array_equal(ranking.replace_missing(scores, "high"), [0.5, -np.inf, 0.9, np.inf])
    assert ranking.replace_missing(scores, "low")[1] == np.inf
    values = np.array([[1.0, 1.0], [2.0, np.nan]])
    assert ranking.aggregate_then_rank(values, "high").tolist() == [2, 1]
    assert ranking.aggregate_then_rank(ranking.replace_missing(values, "high"), "high").tolist() == [1, 2]
    assert ranking.aggregate_then_rank(np.array([[1.0, np.inf], [2.0, 3.0]]), "low").tolist() == [2, 1]


def test_ties_survive_rounding():
    """The same numbers in another order sum to something else in the last bit; the models tie all the same."""
    row = np.random.default_rng(0).random(100)
    values = np.stack([row, np.random.default_rng(1).permutation(row)])
    assert ranking.aggregate_then_rank(values, "high").tolist() == [1, 1]


def test_rank_sums():
    """Without ties the ranks of m models sum to m (m + 1) / 2, in every resample too."""
    values = np.random.default_rng(0).random((6, 15))
    for found in (ranking.aggregate_then_rank(values, "high"), ranking.aggregate_then_rank(values, "low", "median")):
        assert found.sum() == 21
    stability = ranking.bootstrap_ranks(values, "high")
    np.testing.assert_allclose(stability.frequency.sum(1), 1)
    assert (stability.frequency @ np.arange(1, 7)).sum() == pytest.approx(21)
    assert (stability.low <= stability.median).all() and (stability.median <= stability.high).all()


def test_permuting_models_permutes_everything():
    values = np.random.default_rng(0).random((5, 14))
    order = [2, 4, 0, 3, 1]
    whole = ranking.bootstrap_ranks(values, "low", seed=3)
    permuted = ranking.bootstrap_ranks(values[order], "low", seed=3)
    np.testing.assert_array_equal(permuted.frequency, whole.frequency[order])
    np.testing.assert_array_equal(permuted.high, whole.high[order])


def test_identical_models_share_rank_one():
    values = np.tile(np.random.default_rng(0).random(30), (7, 1))
    stability = ranking.bootstrap_ranks(values, "high")
    assert (stability.frequency[:, 0] == 1).all() and (stability.high == 1).all()


@pytest.mark.parametrize("clusters", [None, list("aabbccddeeff")])
@pytest.mark.parametrize("better", ["high", "low"])
def test_bootstrap_equals_a_naive_loop(better, clusters):
    rng = np.random.default_rng(4)
    values = rng.integers(0, 6, size=(4, 12)) / 4  # with ties
    sign = -1 if better == "high" else 1
    frequency = np.zeros((4, 4))
    for count in draw_counts(12, 60, 9, clusters).astype(int):
        drawn = np.repeat(values, count, axis=1)
        found = rankdata((sign * drawn.mean(1)).round(9), method="min").astype(int)
        frequency[np.arange(4), found - 1] += 1 / 60
    stability = ranking.bootstrap_ranks(values, better, clusters, 60, 9)
    np.testing.assert_allclose(stability.frequency, frequency, atol=1e-12)


def test_missing_values_in_the_bootstrap():
    values = np.array([[0.9, np.nan, 0.8], [0.1, 0.2, np.nan], [np.nan, np.nan, np.nan]])
    stability = ranking.bootstrap_ranks(values, "high")
    np.testing.assert_allclose(stability.frequency.sum(1), 1)
    assert stability.median[2] == 3


def test_certain_winner():
    values = np.stack([np.linspace(0.8, 0.9, 9), np.linspace(0.1, 0.2, 9)])
    assert ranking.bootstrap_ranks(values, "high").frequency.tolist() == [[1, 0], [0, 1]]


def test_fast():
    values = np.random.default_rng(0).random((10, 100))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        ranking.bootstrap_ranks(values, "high", resamples=1000)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.2


def test_wrong_input():
    with pytest.raises(ValueError, match="'high' or 'low'"):
        ranking.ranks(np.ones(2), "higher")
