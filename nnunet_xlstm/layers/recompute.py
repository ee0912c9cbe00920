"""Activation checkpointing (Chen et al. 2016): less memory in training for a second forward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run(module: nn.Module, x: Tensor, recompute: bool) -> Tensor:
    """module(x). With `recompute`, in training, only x is kept and the backward pass computes the rest again."""
    if recompute and module.training and torch.is_grad_enabled():
        return checkpoint(module, x, use_reentrant=False)
    return module(x)
