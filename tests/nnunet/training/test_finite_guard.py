"""Steps that are not finite: they change nothing, and many in a row end the run."""

import math
import pickle

import pytest
import torch
from torch import nn

from nnunet_xlstm.config import OptimizerKeys
from nnunet_xlstm.nnunet.training.finite_guard import FiniteGuard
from nnunet_xlstm.nnunet.training.optim import make_optimizer


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_gradient_changes_nothing(name, bad):
    model = nn.Linear(3, 2)
    optimizer = make_optimizer(model, OptimizerKeys(optimizer=name, weight_decay=0.1))
    guard = FiniteGuard(optimizer, 3)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert guard.after_step(True)
    weights, moments = [p.clone() for p in model.parameters()], pickle.dumps(optimizer.state_dict())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    model.weight.grad[0, 0] = bad
    optimizer.step()
    assert not guard.after_step(True)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert pickle.dumps(optimizer.state_dict()) == moments


def test_guard_counts_and_stops_after_many_in_a_row():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)
    guard = FiniteGuard(optimizer, 3)
    for finite in (False, False, True, False, False):
        optimizer.step()
        guard.after_step(finite)
    assert (guard.total, guard.in_a_row) == (4, 2)
    with pytest.raises(RuntimeError, match="3 steps in a row; such gradients are not applied"):
        guard.after_step(True)  # fp16's loss scaling left the optimizer's step out
