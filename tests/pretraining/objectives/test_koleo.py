import math

import pytest
import torch
from torch.nn.functional import normalize

from nnunet_xlstm.pretraining.objectives.koleo import koleo


def test_by_hand():
    x = torch.tensor([[1.0, 0], [0, 1], [-1, 0]]).double()
    # distances to the nearest: sqrt 2 each
    assert koleo(x).item() == pytest.approx(-math.log(math.sqrt(2)), rel=1e-6)
    closer = normalize(torch.tensor([[1.0, 0.1]]).double(), dim=1)
    near = (x[0] - closer[0]).norm().item()
    far = (x[1] - closer[0]).norm().item()
    expected = -(math.log(near) + math.log(far) + math.log(math.sqrt(2))) / 3
    assert koleo(x, closer).item() == pytest.approx(expected, rel=1e-6)


def test_equals_the_naive_loop_with_a_queue():
    x, others = (normalize(torch.randn(n, 6).double(), dim=1) for n in (5, 7))
    total = 0.0
    for i in range(5):
        distances = [(x[i] - y).norm() for j, y in enumerate(torch.cat((x, others))) if j != i]
        total -= math.log(min(distances)) / 5
    assert koleo(x, others).item() == pytest.approx(total, rel=1e-6)


def test_vectors_of_one_owner_are_no_neighbours():
    x = normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]).double(), dim=1)
    others = normalize(torch.tensor([[1.0, 0.01], [0.5, 0.5]]).double(), dim=1)
    subject_ids, other_ids = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, float("nan")])

    def distance(a, b):
        return math.log((a - b).norm().item())

    # the third row and the second of the queue are all that the first two may be pushed from
    expected = -(distance(x[0], others[1]) + distance(x[1], others[1]) + distance(x[2], others[1])) / 3
    assert koleo(x, others, subject_ids, other_ids).item() == pytest.approx(expected, rel=1e-6)
    alone = x[:2].clone().requires_grad_()
    loss = koleo(alone, others[:1], subject_ids[:2], other_ids[:1])
    loss.backward()
    assert loss == 0 and not alone.grad.any()


def test_one_vector_without_queue_is_no_term_but_keeps_the_graph():
    x = torch.ones(1, 3, requires_grad=True)
    loss = koleo(x)
    loss.backward()
    assert loss == 0 and not x.grad.any()


def test_equal_vectors_give_finite_gradients():
    x = torch.ones(2, 3).requires_grad_()
    koleo(x / 3**0.5).backward()
    assert torch.isfinite(x.grad).all()


def test_it_spreads_vectors():
    x = (torch.ones(8, 3) + 0.05 * torch.randn(8, 3)).requires_grad_()
    optimizer = torch.optim.SGD([x], lr=0.02)
    start = koleo(normalize(x, dim=1)).item()
    for _ in range(50):
        optimizer.zero_grad()
        loss = koleo(normalize(x, dim=1))
        loss.backward()
        optimizer.step()
    assert loss.item() < start - 1


def test_agrees_with_lightly():
    loss_module = pytest.importorskip("lightly.loss")
    x = torch.randn(9, 5)
    assert koleo(normalize(x, dim=1)).item() == pytest.approx(loss_module.KoLeoLoss()(x).item(), rel=1e-6)
