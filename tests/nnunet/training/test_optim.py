"""Optimizers and schedules from a config, by hand."""

import pytest
import torch
from torch import nn

from nnunet_xlstm.config import OptimizerKeys
from nnunet_xlstm.nnunet.training.optim import IterationSchedule, make_optimizer, warmup_poly


def test_warmup_poly_by_hand():
    assert [warmup_poly(p, 0.1) for p in (0, 0.05, 0.1, 1)] == [0, 0.5, 1, 0]
    assert warmup_poly(0.55, 0.1) == pytest.approx(0.5**0.9)
    assert warmup_poly(0.5, 0) == pytest.approx(0.5**0.9)


def test_schedule_is_a_function_of_the_iteration():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.0)
    schedule = IterationSchedule(optimizer, OptimizerKeys(initial_lr=0.1, lr_schedule="warmup_poly"), 100)
    rates = [(schedule.set(i), optimizer.param_groups[0]["lr"])[1] for i in range(100)]
    assert 0 < rates[0] < rates[4] and max(rates) <= 0.1 and 0 < rates[-1] < 0.01
    schedule.set(50)
    assert optimizer.param_groups[0]["lr"] == rates[50]
    constant = IterationSchedule(optimizer, OptimizerKeys(initial_lr=0.1, lr_schedule="constant"), 100)
    constant.set(99)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_adam_decays_matrices_only():
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True))
    groups = make_optimizer(model, OptimizerKeys(optimizer="adamw", weight_decay=0.3)).param_groups
    assert [p.shape for p in groups[0]["params"]] == [model[0].weight.shape] and groups[0]["weight_decay"] == 0.3
    assert len(groups[1]["params"]) == 3 and groups[1]["weight_decay"] == 0
