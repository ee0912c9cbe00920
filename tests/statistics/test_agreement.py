"""Bland and Altman's limits of agreement, by hand and at the edges."""

import numpy as np
import pytest

from nnunet_xlstm.statistics.agreement import agreement

NAN = float("nan")


def test_by_hand():
    """Differences 1, -1, 3: bias 1, SD 2; R2 = 1 - (1 + 1 + 9) / 200."""
    found = agreement(np.array([11.0, 19, 33, 5]), np.array([10.0, 20, 30, np.nan]))
    assert (found.n, found.bias, found.sd) == (3, 1.0, 2.0)
    assert (found.low, found.high) == pytest.approx((1 - 3.92, 1 + 3.92))
    assert found.r2 == pytest.approx(1 - 11 / 200) and found.mean_absolute == pytest.approx(5 / 3)
    assert found.r == pytest.approx(np.corrcoef([10, 20, 30], [11, 19, 33])[0, 1])


def test_of_random_numbers():
    rng = np.random.default_rng(0)
    truth = rng.normal(150, 40, 30)
    ours = truth + rng.normal(2, 5, 30)
    found = agreement([*ours, NAN, 7.0], [*truth, 5.0, NAN])
    assert found.n == 30 and found.bias == pytest.approx((ours - truth).mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * (ours - truth).std(ddof=1))
    assert found.r == pytest.approx(np.corrcoef(ours, truth)[0, 1])
    assert found.mean_absolute == pytest.approx(np.abs(ours - truth).mean())
    same = agreement(truth, truth)
    assert same.bias == 0 and same.r == pytest.approx(1) and same.r2 == 1


def test_too_few_pairs_or_no_spread():
    one = agreement([2.0], [1.0])
    assert one.n == 1 and one.bias == 1 and np.isnan([one.sd, one.r2, one.r, one.low]).all()
    assert agreement([2.0, 3.0], [1.0, 1.0]).bias == 1.5 and np.isnan(agreement([1, 1, 1], [1, 2, 3]).r)
    none = agreement([], [])
    assert none.n == 0 and np.isnan([none.bias, none.sd, none.r, none.r2]).all()
