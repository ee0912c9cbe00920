"""Precision under autocast: where it must not reach, and where fp16 is too small.

fp16 ends at 65504. Sums that no norm bounds, such as those of pre-activation blocks, may pass it, in prediction too,
which nnU-Net runs in fp16 whatever the training ran in. bf16 has the range of fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Turn autocast off for the device of x, where that device has it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _autocast_to_fp16(x: Tensor) -> bool:
    kind = x.device.type
    enabled = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return enabled and torch.get_autocast_dtype(kind) == torch.float16


def wide(x: Tensor) -> Tensor:
    """Return x in fp32 where autocast computes in fp16, so that a sum with it stays in range; else x."""
    return x.float() if x.dtype == torch.float16 and _autocast_to_fp16(x) else x


def narrow(x: Tensor) -> Tensor:
    """Return x in fp16 where autocast computes in it: half the memory, behind a norm of what `wide` made; else x."""
    return x.half() if x.dtype == torch.float32 and _autocast_to_fp16(x) else x


def in_range(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run a layer on an x that `wide` may have made: in fp32 where autocast would cut it to fp16."""
    with no_autocast(x) if x.dtype == torch.float32 and _autocast_to_fp16(x) else nullcontext():
        return layer(x)
