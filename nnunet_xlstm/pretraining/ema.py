"""The teacher as an exponential moving average of the student."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def _pairs(
    teacher: nn.Module, student: nn.Module, named: Callable[[nn.Module], Iterable[tuple[str, Tensor]]]
) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors of the teacher and those of the same name of the student (which may hold more)."""
    of_student = dict(named(student))
    pairs = [(t, of_student[name]) for name, t in named(teacher)]
    return [t for t, _ in pairs], [s for _, s in pairs]


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """theta_t <- m theta_t + (1 - m) theta_s for all parameters; buffers (running statistics) are copied.

    One fused call in the type of the weights, which must be float32 or wider: at m = 0.999 a step is lost in bfloat16.
    """
    old, new = _pairs(teacher, student, nn.Module.named_parameters)
    if old:
        torch._foreach_lerp_(old, new, 1 - momentum)
    old, new = _pairs(teacher, student, nn.Module.named_buffers)
    for t, s in zip(old, new, strict=True):
        t.copy_(s)


@torch.no_grad()
def ema_distance(teacher: nn.Module, student: nn.Module) -> float:
    """|theta_t - theta_s| / |theta_s| over the parameters that the teacher has."""
    old, new = _pairs(teacher, student, nn.Module.named_parameters)
    distance = torch.stack(torch._foreach_norm(torch._foreach_sub(old, new))).norm()
    return float(distance / torch.stack(torch._foreach_norm(new)).norm().clamp_min(1e-12))
