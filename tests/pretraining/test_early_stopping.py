import math
import random

import pytest

from nnunet_xlstm.pretraining.early_stopping import has_stopped_falling

# Validation loss of nnUNetTrainerDINO_SegSync, epochs 0 to 20 of a run that its first early stop ended
SEGSYNC = [0.1516, 0.2066, 0.2037, 0.2059, 0.1951, 0.1952, 0.1859, 0.1899, 0.1812, 0.179, 0.1799]
SEGSYNC += [0.1729, 0.1723, 0.1688, 0.1707, 0.1674, 0.166, 0.1649, 0.1621, 0.1634, 0.1628]


def stops_at(losses, patience):
    """The number of epochs after which a run ends; None if it runs through."""
    return next((n for n in range(len(losses) + 1) if has_stopped_falling(losses[:n], patience)), None)


def test_the_measured_curve_that_was_stopped_while_it_fell_goes_on():
    assert min(SEGSYNC[1:]) > SEGSYNC[0]  # the old rule: epoch 0 is the best one, for ever
    assert stops_at(SEGSYNC, 20) is None
    falling = SEGSYNC + [0.1628 * 0.99**i for i in range(1, 100)]
    assert stops_at(falling, 20) is None
    level = SEGSYNC + [0.162] * 100  # and then rests: the lowest is of epoch 21
    assert stops_at(level, 20) == 42


def test_a_flat_curve_ends_after_the_patience():
    assert stops_at([0.5] * 100, 20) == 21
    noise = random.Random(0)
    flat = [0.5 + noise.gauss(0, 0.01) for _ in range(300)]
    assert 21 <= stops_at(flat, 20) <= 120


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_fall_goes_on_and_ends_where_it_rests(seed):
    noise = random.Random(seed)
    curve = [max(1 - 0.004 * i, 0.4) + noise.gauss(0, 0.01) for i in range(400)]  # falls until epoch 150
    assert 150 < stops_at(curve, 20) <= 300


def test_a_rise_alone_never_ends_a_run():
    assert stops_at([0.1 + 0.01 * i for i in range(100)], 5) is None


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_by_hand(patience):
    """Highest at epoch 1, lowest at epoch 3."""
    losses = [1.0, 5.0, 4.0, 2.0, 3.0, 3.0, 3.0, 3.0]
    assert stops_at(losses, patience) == 4 + patience


def test_not_a_number_is_no_gain():
    nan = math.nan
    assert stops_at([3, 2, nan, 1, 0.9, 0.8], 3) is None
    assert has_stopped_falling([3, 2, nan, 1, 0.9, 0.8, nan, nan, nan], 3)
    assert stops_at([nan] * 10, 3) == 4
