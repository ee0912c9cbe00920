"""Weights and momenta over a run."""

import math

import pytest

from nnunet_xlstm.config.semi import COPY_PASTE_CONTROL, SemiConfig
from nnunet_xlstm.semi.schedules import SemiSchedule


def schedule(total=100, **keys):
    return SemiSchedule(SemiConfig(**keys), total)


def test_the_weight_rises_after_the_start():
    s = schedule(pretrain_fraction=0.2, ramp_fraction=0.4, unlabelled_weight=2.0)
    assert [s.weight(k) for k in (0, 19)] == [0, 0]
    assert s.weight(20) == pytest.approx(2 * math.exp(-5))
    assert s.weight(40) == pytest.approx(2 * math.exp(-5 / 4))
    assert s.weight(60) == s.weight(99) == 2


def test_without_a_ramp_the_weight_is_whole_at_once():
    assert schedule(pretrain_fraction=0.0, ramp_fraction=0.0).weight(0) == 1


def test_the_control_never_takes_unlabelled_images():
    s = SemiSchedule(COPY_PASTE_CONTROL, 100)
    assert not any(s.uses_unlabelled(k) or s.weight(k) for k in range(100))


def test_the_teacher_is_the_student_until_unlabelled_images_come_then_lags_more_and_more():
    s = schedule(pretrain_fraction=0.1, teacher_momentum=0.9, teacher_momentum_end=1.0, total=1000)
    assert [s.momentum(k) for k in (0, 99, 100)] == [0, 0, 0]
    assert s.momentum(101) == 1 / 2 and s.momentum(103) == 3 / 4
    assert s.momentum(550) == pytest.approx(0.95)
    assert s.momentum(1000) == pytest.approx(1 - 1 / 901)
