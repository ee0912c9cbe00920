"""Intervals against naive resampling; clusters stay together."""

import warnings

import numpy as np
import pytest
from scipy import stats

from nnunet_xlstm.statistics.bootstrap import draw_counts, mean_interval, resampled_means


def test_counts():
    counts = draw_counts(7, 50, seed=1)
    assert counts.shape == (50, 7) and (counts.sum(1) == 7).all()
    assert 0.9 < counts.mean() < 1.1
    np.testing.assert_array_equal(counts, draw_counts(7, 50, seed=1))


def test_clusters_are_drawn_together():
    counts = draw_counts(5, 40, seed=0, clusters=["a", "b", "a", "c", "b"])
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, 1], counts[:, 4])
    assert (counts[:, [0, 1, 3]].sum(1) == 3).all()


def test_clusters_of_one_are_no_clusters():
    np.testing.assert_array_equal(draw_counts(4, 9, 3), draw_counts(4, 9, 3, clusters=["d", "a", "c", "b"]))


@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 1, 2, 3]])
def test_means_equal_a_naive_loop(clusters):
    values = np.random.default_rng(0).normal(size=(3, 6))
    values[0, 1] = values[2, 5] = np.nan
    counts = draw_counts(6, 20, 5, clusters)
    for count, means in zip(counts.astype(int), resampled_means(values, counts), strict=True):
        for row, mean in zip(values, means, strict=True):
            drawn = np.repeat(row, count)
            drawn = drawn[~np.isnan(drawn)]
            assert (np.isnan(mean) and drawn.size == 0) or mean == pytest.approx(drawn.mean())


def test_infinite_values():
    means = resampled_means(np.array([[1.0, np.inf, 3.0]]), np.array([[1.0, 0, 1], [0, 1, 2]]))
    assert means.ravel().tolist() == [2.0, np.inf]


def test_interval_agrees_with_scipy():
    values = np.random.default_rng(1).normal(10, 2, size=40)
    ours = mean_interval(values[None], resamples=5000)[:, 0]
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=0).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.06)


def test_repeated_cases_of_a_subject_widen_the_interval():
    """Every subject twice: over cases the interval looks sqrt(2) narrower than over the subjects that it is."""
    subjects = np.random.default_rng(2).normal(size=30)
    doubled, clusters = np.repeat(subjects, 2)[None], np.repeat(np.arange(30), 2)
    width = [float(np.diff(mean_interval(v, c)[:, 0])[0]) for v, c in ((doubled, None), (doubled, clusters))]
    assert width[1] / width[0] == pytest.approx(2**0.5, rel=0.1)
    np.testing.assert_allclose(mean_interval(doubled, clusters), mean_interval(subjects[None]))


def test_intervals_of_few_units_are_too_narrow():
    """What the notes of a comparison say: about 0.79 instead of 0.95 with 4 units, 0.90 with 10 (normal values)."""
    for n, coverage in ((4, 0.79), (10, 0.90)):
        low, high = mean_interval(np.random.default_rng(0).normal(size=(3000, n)))
        assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(coverage, abs=0.03)


def test_little_is_known():
    """One known unit, or none: no interval, and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bounds = mean_interval(np.array([[1.0, np.nan], [np.nan, np.nan], [1.0, 2.0]]))
        assert np.isnan(bounds[:, :2]).all() and bounds[:, 2].tolist() == [1.0, 2.0]
        assert np.isnan(mean_interval(np.ones((1, 3)), clusters=["a"] * 3)).all()


def test_wrong_input():
    with pytest.raises(ValueError, match="cluster of every unit"):
        draw_counts(3, 5, clusters=[1, 2])
    with pytest.raises(ValueError, match="at least one"):
        draw_counts(0, 5)
