import math

import pytest
import torch
from support.ssl_toys import small_config
from torch import nn

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.pretraining import schedules
from nnunet_xlstm.pretraining.student_teacher import ema_distance, update_teacher


def test_ema_after_n_steps_is_the_weighted_sum():
    student = nn.ModuleDict({"a": nn.Linear(3, 2), "only": nn.Linear(1, 1)}).double()
    teacher = nn.ModuleDict({"a": nn.Linear(3, 2)}).double().requires_grad_(False)
    m, n = 0.9, 7
    expected = m**n * teacher["a"].weight.clone()
    for k in range(n):
        nn.init.normal_(student["a"].weight)
        expected += (1 - m) * m ** (n - 1 - k) * student["a"].weight.detach()
        update_teacher(teacher, student, m)
    assert torch.allclose(teacher["a"].weight, expected, atol=1e-14)


def test_ema_in_float32_keeps_small_steps_and_copies_buffers():
    student, teacher = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(student.weight, 2.0)
    student.running_mean.fill_(5.0)
    student.num_batches_tracked.fill_(3)
    for _ in range(1000):
        update_teacher(teacher, student, 0.9999)
    assert teacher.weight[0].item() == pytest.approx(2 - 0.9999**1000, rel=1e-4)
    assert teacher.running_mean.tolist() == [5, 5] and teacher.num_batches_tracked == 3
    update_teacher(teacher, student, 1.0)
    assert teacher.weight[0].item() == pytest.approx(2 - 0.9999**1000, rel=1e-4)


def test_ema_distance():
    student, teacher = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    student.weight.data = torch.tensor([[3.0, 4.0]])
    teacher.weight.data = torch.tensor([[3.0, 3.0]])
    assert ema_distance(teacher, student) == pytest.approx(1 / 5)


def test_momentum_follows_the_formula():
    """m_k = 1 - (1 - m0) (cos(pi k / K) + 1) / 2."""
    config = small_config(teacher_momentum=0.996)
    for k in (0, 13, 50, 100):
        expected = 1 - (1 - 0.996) * (math.cos(math.pi * k / 100) + 1) / 2
        assert schedules.teacher_momentum(k, 100, config) == pytest.approx(expected)
    assert schedules.teacher_momentum(50, 100, small_config(teacher_momentum=0.9, teacher_momentum_end=0.9)) == 0.9


def test_teacher_temperature_warms_up_by_epochs():
    config = small_config(teacher_temperature=0.04, teacher_temperature_end=0.07, teacher_temperature_epochs=3)
    values = [schedules.teacher_temperature(step, 10, config) for step in (0, 15, 30, 99)]
    assert values == pytest.approx([0.04, 0.055, 0.07, 0.07])
    at_once = small_config(teacher_temperature_end=0.07, teacher_temperature_epochs=0)
    assert schedules.teacher_temperature(0, 10, at_once) == pytest.approx(0.07)


def test_learning_rate_warms_up_and_falls_to_the_floor():
    rates = [schedules.learning_rate(step, 110, 1.0, 0.1, 10) for step in range(111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert schedules.learning_rate(0, 10, 1.0) == 1.0
    assert schedules.learning_rate(500, 10, 1.0, 0.1) == pytest.approx(0.1)


def test_scaled_rate_and_weight_decay():
    assert schedules.scaled_rate(5e-4, 32, 256, 5e-5) == pytest.approx(6.25e-5)
    assert schedules.scaled_rate(5e-4, 2, 256, 5e-5) == 5e-5
    assert schedules.scaled_rate(1e-4, 2, None, 5e-3) == 1e-4
    assert schedules.weight_decay(0, 10, 0.04, 0.4) == pytest.approx(0.04)
    assert schedules.weight_decay(10, 10, 0.04, 0.4) == pytest.approx(0.4)
    assert schedules.weight_decay(5, 10, 0.04, None) == 0.04


def test_share_of_start_is_what_is_left_of_the_first_teacher():
    config = PretrainingConfig(teacher_momentum=0.9, teacher_momentum_end=0.9)
    assert schedules.share_of_start(3, config) == pytest.approx(0.9**3)
    # the cosine from 0.999 to 1 over 1000 steps: about exp(-0.001 * 1000 / 2)
    slow = PretrainingConfig(teacher_momentum=0.999)
    assert schedules.share_of_start(1000, slow) == pytest.approx(0.607, abs=0.003)
