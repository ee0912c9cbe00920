"""Centres, Sinkhorn-Knopp and the queue: what the teacher's logits become."""

import pytest
import torch
from support.ssl_toys import small_config

from nnunet_xlstm.pretraining.centering import TARGETS, sinkhorn
from nnunet_xlstm.pretraining.step_state import VectorQueue


def make(name, k=5, **keys):
    return TARGETS[name](k, small_config(centering=name, **keys)).double()


def test_running_center_uses_the_value_before_the_step():
    target = make("running", center_momentum=0.9)
    z = torch.randn(2, 3, 5).double() + 4
    before = target(z, 0.5)
    assert torch.allclose(before, torch.log_softmax(z / 0.5, -1))  # the center is still 0
    assert torch.equal(target(z, 0.5), before)  # and so for all micro-batches of the step
    assert not target.center.any()
    target.end_step()
    center = 0.1 * z.mean((0, 1))
    assert torch.allclose(target.center, center, atol=1e-7)
    assert torch.allclose(target(z, 0.5), torch.log_softmax((z - target.center) / 0.5, -1))


def test_running_center_is_the_mean_over_micro_batches():
    whole, parts = make("running"), make("running")
    z = torch.randn(2, 8, 5).double()
    whole(z, 1)
    for micro in z.split((1, 3, 4), 1):
        parts(micro, 1)
    for target in (whole, parts):
        target.end_step()
    assert torch.allclose(whole.center, parts.center, atol=1e-14)


def test_discarded_and_evaluation_calls_leave_no_trace():
    for name in TARGETS:
        target = make(name)
        target(torch.randn(2, 3, 5).double(), 1)
        target.discard_step()
        target.eval()
        target(torch.randn(2, 3, 5).double(), 1)
        target.end_step()
        assert all(not value.any() for value in target.state_dict().values()), name


def test_centring_a_vector_by_its_own_mean_changes_nothing():
    """The papers' wording: softmax does not see it, so it prevents no collapse."""
    z = 3 * torch.randn(2, 4, 5).double()
    own, none = make("per_vector"), make("none")
    for _ in range(3):
        assert torch.allclose(own(z, 0.04).exp(), none(z, 0.04).exp(), atol=1e-13)
        own.end_step()


def test_sinkhorn_rows_and_columns():
    q = sinkhorn(torch.randn(12, 4).double() / 0.5, iterations=50).exp()
    assert torch.allclose(q.sum(1), torch.ones(12).double())
    assert torch.allclose(q.sum(0), torch.full((4,), 3.0).double(), atol=1e-6)


def test_sinkhorn_equals_the_form_without_logarithms():
    z = torch.randn(6, 4).double()
    q = z.exp().T
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(1, keepdim=True) / 4
        q = q / q.sum(0, keepdim=True) / 6
    assert torch.allclose(sinkhorn(z, 3).exp(), (q * 6).T, atol=1e-12)


def test_sinkhorn_is_finite_at_low_temperatures():
    q = sinkhorn(torch.tensor([[1.0, -1, 0], [1, -1, 0]]) / 0.001).exp()
    assert torch.isfinite(q).all() and torch.allclose(q.sum(1), torch.ones(2))


def test_sinkhorn_balances_over_the_queue():
    """Two vectors of one kind alone are split over the prototypes; beside a queue of the other kind they are not."""
    ones, twos = (torch.tensor(v).double().expand(2, 1, 2) for v in ([1.0, 0], [0, 1.0]))
    target = make("sinkhorn", k=2, queue_size=2)
    assert torch.allclose(target(ones, 0.1).exp(), torch.full((2, 1, 2), 0.5).double(), atol=1e-6)
    target.discard_step()
    target(twos, 0.1)
    target.end_step()
    assert (target(ones, 0.1).exp()[..., 0] > 0.99).all()


def test_queue_wraps_around():
    queue = VectorQueue(5, 1)
    for numbers in ([0, 1], [2, 3], [4, 5, 6]):
        queue.push(torch.tensor(numbers).float()[:, None])
    assert queue.vectors[:, 0].tolist() == [5, 6, 2, 3, 4]  # 5 and 6 over the oldest, 0 and 1
    queue.push(torch.arange(10, 23).float()[:, None])
    assert sorted(queue.kept()[:, 0].tolist()) == [18, 19, 20, 21, 22]
    queue.push(torch.tensor([[30.0]]))
    assert sorted(queue.kept()[:, 0].tolist()) == [19, 20, 21, 22, 30]


def test_queue_fills_survives_a_reload_and_may_be_empty():
    queue = VectorQueue(4, 2)
    assert queue.kept().shape == (0, 2)
    queue.accumulate(torch.ones(3, 2))
    assert not len(queue.kept())  # only at the end of the step
    queue.end_step()
    other = VectorQueue(4, 2)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.kept(), torch.ones(3, 2))
    for q in (queue, other):
        q.push(torch.tensor([[2.0, 2], [3, 3]]))
    assert torch.equal(queue.vectors, other.vectors)
    none = VectorQueue(0, 2)
    none.accumulate(torch.ones(3, 2))
    none.end_step()
    assert not len(none.kept())


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_distributions_without_gradient(name):
    log_q = make(name)(torch.randn(2, 3, 5).double().requires_grad_(), 0.04)
    assert not log_q.requires_grad
    assert torch.allclose(log_q.exp().sum(-1), torch.ones(2, 3).double())
