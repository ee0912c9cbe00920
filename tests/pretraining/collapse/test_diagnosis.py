"""A small encoder on stripes: the papers' wording collapses and is noticed, the robust setting does not."""

import pytest
import torch
from support.ssl_toys import ToyEncoder, small_config, trainable
from torch import nn

from nnunet_xlstm.pretraining.collapse.diagnosis import diagnose
from nnunet_xlstm.pretraining.collapse.metrics import CollapseMetrics
from nnunet_xlstm.pretraining.student_teacher import StudentTeacher
from nnunet_xlstm.pretraining.views import ViewBatch

EPOCHS, STEPS = 5, 10


def stripes(n: int) -> torch.Tensor:
    """(n, 24, 24): of random direction, width and contrast."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    angle, width, phase, contrast = torch.rand(4, n, 1, 1)
    along = x * torch.cos(3.14 * angle) + y * torch.sin(3.14 * angle)
    return torch.sin((0.3 + 1.2 * width) * along + 6.28 * phase) * (0.5 + contrast)


def views(images: torch.Tensor) -> ViewBatch:
    start = torch.randint(0, 9, (len(images), 2, 2))
    cut = [
        torch.stack([image[y : y + 16, x : x + 16] for y, x in pair])
        for image, pair in zip(images, start.tolist(), strict=True)
    ]
    noisy = torch.stack(cut) + 0.1 * torch.randn(len(images), 2, 16, 16)
    boxes = torch.stack((start / 24, torch.full_like(start, 16) / 24), -1)
    return ViewBatch(noisy[:, :, None], boxes, torch.zeros(len(images), 2, 2, dtype=torch.bool))


def warnings(**keys) -> tuple[list[str], list[dict]]:
    config = small_config(head_hidden=32, queue_size=64, n_prototypes=32, n_prototypes_inner=16, **keys)
    method = StudentTeacher(ToyEncoder(width=8), 1, (16, 16), config)
    optimizer = torch.optim.AdamW(trainable(method).values(), 1e-3)
    monitor, history, images = CollapseMetrics(config), [], stripes(64)
    for step in range(EPOCHS * STEPS):
        method.set_step(step, EPOCHS * STEPS, STEPS)
        which = torch.randint(0, 64, (8,))
        method(views(images[which]))["loss"].backward()
        monitor.add(method.step_statistics(), [str(i) for i in which.tolist()])
        method.freeze_prototypes()
        nn.utils.clip_grad_norm_(method.parameters(), 3.0)
        optimizer.step()
        optimizer.zero_grad()
        method.end_step(step, EPOCHS * STEPS)
        if (step + 1) % STEPS == 0:
            history.append(monitor.epoch())
    return [warning.code for warning in diagnose(history, config)], history


@pytest.mark.parametrize("keys", [{"mse_on": "embedding"}, {"dino_weight": 1.0}])
def test_the_papers_center_collapses_and_is_noticed(keys):
    wording = {"dino_weight": 0.0, "mse_weight": 1.0, "centering": "per_vector", "feature_norm": False}
    codes, history = warnings(**(wording | keys), teacher_momentum=0.9)
    assert "constant_embedding" in codes or "single_prototype" in codes, history[-1]


def test_the_robust_setting_does_not_collapse():
    codes, history = warnings(koleo_weight=0.1, dense_weight=1.0, teacher_momentum=0.99, center_momentum=0.9)
    assert codes == []
    assert history[-1]["embedding_sd"] > 0.1, history[-1]
    assert history[-1]["entropy_mean_target"] > history[-1]["mean_entropy_target"] + 0.02  # targets differ by image
