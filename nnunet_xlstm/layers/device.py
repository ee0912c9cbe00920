"""Memory and copies on the device that a network runs on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """Return a CPU tensor on `device`, without waiting for what the device still has to do.

    A copy from pageable memory waits until the device has reached it; one from pinned memory is put in line.
    """
    if torch.device(device).type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def use_channels_last_on_cpu(module: nn.Module, device: torch.device, n_axes: int) -> None:
    """Store the weights channels-last on a CPU: its convolutions are faster so; values change by rounding only.

    Args:
        module: is changed in place.
        device: of the module; on others than a CPU nothing changes.
        n_axes: of an image, 2 or 3.
    """
    if device.type == "cpu":
        module.to(memory_format=torch.channels_last_3d if n_axes == 3 else torch.channels_last)


def read_scalars(scalars: Iterable[Tensor | np.ndarray | float]) -> list[float]:
    """Return scalars (numbers, arrays, or tensors of one device) as numbers, waiting for the device once."""
    return torch.stack([torch.as_tensor(scalar) for scalar in scalars]).cpu().double().tolist()


def run(module: nn.Module, x: Tensor, recompute: bool) -> Tensor:
    """Run module(x); with `recompute`, in training, keep only x and let the backward pass compute the rest again."""
    if recompute and module.training and torch.is_grad_enabled():
        return checkpoint(module, x, use_reentrant=False)
    return module(x)
