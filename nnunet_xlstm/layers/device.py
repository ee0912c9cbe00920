"""Tensors that are made on the CPU on their way to a GPU."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """Return a CPU tensor on `device`, without waiting for what the device still has to do.

    A copy from pageable memory waits until the device has reached it; one from pinned memory is put in line.
    """
    if torch.device(device).type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)
