"""Consistency by hand, and the strong view."""

import math

import pytest
import torch

from nnunet_xlstm.semi.consistency import consistency_loss, strong_view


def test_by_hand():
    student = torch.tensor([0.2, 0.8]).log().view(1, 2, 1, 1)
    teacher = torch.tensor([0.5, 0.5]).log().view(1, 2, 1, 1)
    assert consistency_loss(student, teacher, False, "mse").item() == pytest.approx(0.09)
    wanted = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    assert consistency_loss(student, teacher, False, "kl").item() == pytest.approx(wanted)
    student, teacher = torch.tensor([0.2]).logit().view(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    assert consistency_loss(student, teacher, True, "mse").item() == pytest.approx(0.09)
    assert consistency_loss(student, teacher, True, "kl").item() == pytest.approx(wanted)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_equal_outputs_cost_nothing_and_the_teacher_gets_no_gradient(kind, regions):
    student = torch.randn(2, 3, 4, 5, requires_grad=True)
    teacher = student.detach().clone().requires_grad_()
    assert consistency_loss(student, teacher, regions, kind).item() == pytest.approx(0, abs=1e-6)
    consistency_loss(student, teacher + 1.5 * torch.randn(2, 3, 4, 5), regions, kind).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_the_strong_view_changes_intensities_by_its_strength():
    images = torch.randn(4, 2, 32, 32)
    assert strong_view(images, 0) is images
    weak, strong = ((strong_view(images, s) - images).abs().mean() for s in (0.1, 0.5))
    assert 0 < weak < strong
