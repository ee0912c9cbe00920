"""Precision under autocast: where it must not reach, and where fp16 is too small."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor


def no_autocast(x: Tensor):
    """Autocast off for the device of x, where that device has it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
