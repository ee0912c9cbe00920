"""The cross-view loss: by hand, by the naive loop, by its gradients, and beside lightly."""

import math

import pytest
import torch
from torch import log_softmax

from nnunet_xlstm.pretraining.objectives.dino import mean_over_pairs, pairwise_divergences

DIVERGENCES = ("ce", "kl", "reverse_kl", "js")


def logs(*shape):
    return log_softmax(2 * torch.randn(*shape, dtype=torch.double), -1)


def test_two_prototypes_by_hand():
    """L = (l(z_1, q'_2) + l(z_2, q'_1)) / 2 with l = -sum q' log p."""
    q = torch.tensor([[[0.75, 0.25]], [[0.5, 0.5]]])  # views 1 and 2 of the teacher
    p = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]])
    first = -(0.5 * math.log(0.9) + 0.5 * math.log(0.1))  # the student's view 1 against the teacher's view 2
    second = -(0.75 * math.log(0.2) + 0.25 * math.log(0.8))
    loss = mean_over_pairs(pairwise_divergences(q.log(), p.log(), "ce"))
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)


def naive(q, p, divergence):
    total, pairs = 0.0, 0
    for t in range(len(q)):
        for s in range(len(p)):
            if s == t:
                continue
            for b in range(q.shape[1]):
                for x, y in zip(q[t, b].tolist(), p[s, b].tolist(), strict=True):
                    m = (x + y) / 2
                    total += {
                        "ce": -x * math.log(y),
                        "kl": x * math.log(x / y),
                        "reverse_kl": y * math.log(y / x),
                        "js": (x * math.log(x / m) + y * math.log(y / m)) / 2,
                    }[divergence] / q.shape[1]
            pairs += 1
    return total / pairs


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("n_student", [2, 5])
def test_equals_the_naive_loop(divergence, n_student):
    log_q, log_p = logs(2, 3, 4), logs(n_student, 3, 4)
    loss = mean_over_pairs(pairwise_divergences(log_q, log_p, divergence))
    assert loss.item() == pytest.approx(naive(log_q.exp(), log_p.exp(), divergence), rel=1e-10)


def test_only_pairs_of_different_views_count():
    log_q, log_p = logs(2, 1, 4), logs(3, 1, 4)
    changed = torch.tensor([[5.0, 0, 0], [0, 7.0, 0]])
    distances = pairwise_divergences(log_q, log_p, "ce")
    assert mean_over_pairs(distances) == pytest.approx(mean_over_pairs(distances + changed).item())
    assert mean_over_pairs(distances + changed.flip(0)) != pytest.approx(mean_over_pairs(distances).item())
    with pytest.raises(ValueError, match="give two global views"):
        mean_over_pairs(torch.zeros(1, 1))


def test_ce_and_kl_have_equal_gradients():
    log_q, z = logs(2, 3, 5), torch.randn(2, 3, 5, dtype=torch.double, requires_grad=True)
    losses = {d: mean_over_pairs(pairwise_divergences(log_q, log_softmax(z, -1), d)) for d in ("ce", "kl")}
    gradients = {d: torch.autograd.grad(loss, z)[0] for d, loss in losses.items()}
    assert torch.allclose(gradients["ce"], gradients["kl"], atol=1e-14)
    entropy = -(log_q.exp() * log_q).sum(-1).mean()
    assert losses["ce"].item() == pytest.approx((losses["kl"] + entropy).item(), rel=1e-12)


@pytest.mark.parametrize("divergence", ("kl", "reverse_kl", "js"))
def test_zero_for_equal_distributions_and_finite_at_the_ends(divergence):
    log_p = logs(1, 3, 4).expand(2, 3, 4)
    assert mean_over_pairs(pairwise_divergences(log_p, log_p, divergence)).item() == pytest.approx(0, abs=1e-12)
    sharp = log_softmax(torch.tensor([[[500.0, 0]], [[0, 500.0]]]), -1)  # exp underflows to 0
    assert torch.isfinite(mean_over_pairs(pairwise_divergences(sharp, sharp, divergence)))


@pytest.mark.parametrize("n_local_crops", [0, 3])
def test_agrees_with_lightly(n_local_crops):
    """Lightly 1.6: teacher views centered by its own buffer, which starts at 0, and a temperature of 0.04."""
    loss_module = pytest.importorskip("lightly.loss")
    teacher, student = torch.randn(2, 4, 7), torch.randn(2 + n_local_crops, 4, 7)
    theirs = loss_module.DINOLoss(output_dim=7, teacher_temp=0.04, warmup_teacher_temp=0.04, student_temp=0.1)
    expected = theirs(list(teacher), list(student))
    ours = mean_over_pairs(pairwise_divergences(log_softmax(teacher / 0.04, -1), log_softmax(student / 0.1, -1), "ce"))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
