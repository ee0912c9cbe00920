"""Wilcoxon and Holm against hand calculation, full enumeration, scipy and statsmodels."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from nnunet_xlstm.statistics.wilcoxon import holm, pairwise_tests, smallest_p, units_needed, wilcoxon_greater


def enumerated(difference: np.ndarray) -> float:
    """P(W+ >= observed) by trying all signs."""
    difference = difference[difference != 0]
    ranks = stats.rankdata(abs(difference))
    observed = ranks[difference > 0].sum()
    sums = [np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return float(np.mean([s >= observed - 1e-9 for s in sums]))


def test_by_hand():
    """Differences 1, 2, -3: W+ = 3; of the 8 sums 0 1 2 3 3 4 5 6 five are at least 3."""
    result = wilcoxon_greater([1, 2, 0], [0, 0, 3])
    assert (result.p, result.statistic, result.n, result.n_differ, result.method) == (5 / 8, 3.0, 3, 3, "exact")


def test_four_cases_reach_no_less_than_a_sixteenth():
    assert wilcoxon_greater([4, 3, 2, 1], [0, 0, 0, 0]).p == 1 / 16 == smallest_p(4)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_equals_full_enumeration(n, ties):
    rng = np.random.default_rng(n)
    for _ in range(5):
        difference = rng.integers(-3, 4, n).astype(float) if ties else rng.normal(size=n)
        if (difference != 0).any():
            result = wilcoxon_greater(difference, np.zeros(n))
            assert result.p == pytest.approx(enumerated(difference), abs=1e-12) and result.method == "exact"


@pytest.mark.parametrize("n", [8, 25, 27, 80])
def test_equals_scipy(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(0.2, 1, n), rng.normal(size=n)
    y[0] = x[0] if n > 25 else y[0]  # a zero is dropped
    method = "exact" if n <= 25 else "approx"
    expected = stats.wilcoxon(x, y, alternative="greater", method=method)
    result = wilcoxon_greater(x, y)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-9)


def test_equals_scipy_with_ties_in_many_pairs():
    x = np.random.default_rng(0).integers(-4, 6, 60).astype(float)
    expected = stats.wilcoxon(x, alternative="greater", method="approx", correction=False)
    result = wilcoxon_greater(x, np.zeros(60))
    assert result.method == "normal" and result.p == pytest.approx(expected.pvalue, rel=1e-9)


def test_identical_and_missing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = wilcoxon_greater(np.full(30, 0.5), np.full(30, 0.5))
        none = wilcoxon_greater([np.nan, 1.0], [1.0, np.nan])
    assert (same.p, same.n, same.n_differ, same.method) == (1.0, 30, 0, "identical")
    assert (none.p, none.n) == (1.0, 0)


def test_rounding_makes_no_difference():
    """0.9 - 0.8 and 0.8 - 0.7 differ by 1e-16; they must tie, and 0.1 + 0.2 must equal 0.3."""
    result = wilcoxon_greater([0.9, 0.7, 0.1 + 0.2], [0.8, 0.8, 0.3])
    assert (result.n_differ, result.statistic, result.p) == (2, 1.5, 0.75)


def test_infinite_values():
    """Differences inf - inf = 0 (dropped), inf - 1 (largest rank), 1 - 2."""
    result = wilcoxon_greater([np.inf, np.inf, 1], [np.inf, 1, 2])
    assert (result.n_differ, result.statistic) == (2, 2.0)


def test_two_directions_share_the_probability():
    """p(x > y) + p(y > x) = 1 + P(W+ = observed) > 1 for the exact test."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 9))
    assert 1 < wilcoxon_greater(x, y).p + wilcoxon_greater(y, x).p < 1.1


def test_wrong_shapes():
    with pytest.raises(ValueError, match="two equal"):
        wilcoxon_greater([1, 2], [1])


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        holm([0.1, np.nan])


@pytest.mark.parametrize("n", [1, 2, 7, 90])
def test_holm_equals_statsmodels(n):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(n).random(n) ** 3
    p[: n // 3] = p[0]
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1], rtol=1e-12)


def test_pairwise():
    """Three models over 8 cases: 0 beats 1 everywhere, 2 equals 1."""
    base = np.linspace(0.5, 0.8, 8)
    values = np.stack([base + np.linspace(0.01, 0.08, 8), base, base])
    result = pairwise_tests(values, "high")
    assert result.comparisons == 6 and result.units == 8
    assert result.p[0, 1] == 0.5**8 and result.p[1, 0] == 1.0
    assert result.p[1, 2] == result.p[2, 1] == 1.0
    assert result.p_holm[0, 1] == 6 * 0.5**8
    assert (np.diag(result.p_holm) == 1).all() and not result.underpowered(0.05)
    np.testing.assert_array_equal(pairwise_tests(values, "low").p, result.p.T)


def test_permuting_models_permutes_p_values():
    values = np.random.default_rng(0).normal(size=(5, 12))
    order = [3, 0, 4, 1, 2]
    whole, permuted = pairwise_tests(values, "high"), pairwise_tests(values[order], "high")
    np.testing.assert_array_equal(permuted.p_holm, whole.p_holm[np.ix_(order, order)])


def test_underpowered():
    """MMWHS: four test cases; ten models make 90 comparisons, so 11 cases are needed (90 / 2^11 < 0.05)."""
    four = pairwise_tests(np.arange(8.0).reshape(2, 4), "high")
    assert four.underpowered(0.05) and four.smallest_p_holm() == 2 / 16
    assert [units_needed(0.05, m) for m in (1, 2, 90)] == [5, 6, 11]
    assert not pairwise_tests(np.arange(12.0).reshape(2, 6), "high").underpowered(0.05)
    alone = pairwise_tests(np.ones((1, 4)), "high")
    assert alone.comparisons == 0 and not alone.underpowered(0.05) and alone.p.tolist() == [[1.0]]


def test_each_pair_has_its_own_power():
    """Model 2 shares 3 cases with the others: 2^-3 cannot be significant; the first two share 8: 6 / 2^8 can."""
    values = np.stack([np.arange(8.0), np.arange(8.0) + 1, np.arange(8.0) + 2])
    values[2, 3:] = np.nan
    found = pairwise_tests(values, "high")
    assert found.underpowered_pairs(0.05).tolist() == [[False, False, True], [False, False, True], [True, True, False]]
    assert not found.underpowered(0.05) and found.underpowered(0.01)
    # Holm at best: 1/256 * 6, then 1/8 * 5 and 1/8 * 4, which may not be smaller.
    np.testing.assert_allclose(found.attainable()[0], [1, 6 / 256, 5 / 8])


def test_scipy_is_not_exact_with_ties():
    """Why the distribution is our own: of 1, 1, -1 half of the sign patterns have a sum of ranks of at least 4."""
    difference = np.array([1.0, 1.0, -1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = stats.wilcoxon(difference, alternative="greater", method="exact").pvalue
    assert wilcoxon_greater(difference, np.zeros(3)).p == 0.5 and theirs != pytest.approx(0.5, abs=0.05)
