"""How much memory of the device training takes, by arithmetic: before the first step, and when planning.

The bytes per element were counted on fake CUDA tensors for all presets (tests/networks/test_memory.py). Kernels' work
space, CUDA's own context (0.5 GB and more) and gaps between tensors are not in it, so what fits narrowly may not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from torch import nn

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.networks.cost import count_parameters

# Bytes kept for the backward pass, per element that convolutions and token layers write: (all, with recomputation).
KEPT_BYTES = {"bf16": (4.0, 1.13), "fp16": (5.4, 2.2), "fp32": (7.4, 2.25)}
LOSS_BYTES = 16  # per logit: the fp32 copies of cross-entropy and Dice
DEEP_SUPERVISION = 8 / 7  # logits of all scales, by those of full resolution
SELF_SUPERVISED = 1.35  # activations kept by pre-training, by those of supervised training with the same plans, at most
WEIGHT_BYTES = 4  # weights, gradients and the optimizer's moments are fp32


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on the device in training.

    Attributes:
        weights: The network's, and a teacher's.
        gradients: of the same size each, or a multiple.
        optimizer: of the same size each, or a multiple.
        casts: What autocast keeps of the weights in its own type.
        activations: Maps kept for the backward pass, and the block that is computed again.
        loss: Logits and what the loss makes of them.
    """

    weights: int
    gradients: int
    optimizer: int
    casts: int
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """Sum of all."""
        return sum(asdict(self).values())

    @property
    def parameters(self) -> int:
        """Weights, gradients and optimizer: the share that no smaller patch or batch takes away."""
        return self.weights + self.gradients + self.optimizer

    def __str__(self) -> str:
        return (
            f"training needs about {self.total / 1e9:.1f} GB (weights, gradients and optimizer "
            f"{self.parameters / 1e9:.1f}, activations {(self.activations + self.casts) / 1e9:.1f}, "
            f"loss {self.loss / 1e9:.1f})"
        )


def recomputes(network: nn.Module) -> bool:
    """Return whether the network uses activation checkpointing."""
    return any(getattr(module, "recompute", False) for module in network.modules())


def estimate_memory(
    network: nn.Module,
    patch_size: Sequence[int],
    batch_size: int,
    num_classes: int,
    *,
    precision: str = "bf16",
    optimizer_states: int = 1,
    self_supervised: bool = False,
) -> MemoryEstimate:
    """Estimate what a training step holds on the device at its peak; allocates nothing.

    Args:
        network: Ours or nnU-Net's, on any device, meta too: it tells `compute_conv_feature_map_size`.
        patch_size: Voxels per axis.
        batch_size: Images on this device.
        num_classes: Output channels.
        precision: bf16, fp16 or fp32.
        optimizer_states: Moments per parameter: 1 for SGD with momentum, 2 for Adam.
        self_supervised: A student and a teacher and no decoder's loss: an upper bound.

    Raises:
        ConfigError: Unknown precision, or a network that does not tell its feature maps.
    """
    if precision not in KEPT_BYTES:
        raise ConfigError(f"precision '{precision}' is unknown; use {', '.join(KEPT_BYTES)}")
    try:
        count = cast(Callable[[list[int]], int], network.compute_conv_feature_map_size)  # to torch it is no method
        elements = int(count([int(n) for n in patch_size]))
    except (AttributeError, NotImplementedError) as error:
        raise ConfigError(f"{type(network).__name__} does not tell the size of its feature maps") from error
    all_bytes, recomputed_bytes = KEPT_BYTES[precision]
    again = recomputes(network)
    activations = batch_size * elements * (recomputed_bytes if again else all_bytes)
    if again:
        largest = cast(Callable[[Sequence[int]], int], network.largest_block_elements)
        activations += batch_size * largest(patch_size) * all_bytes
    voxels = math.prod(int(size) for size in patch_size)
    parameters = count_parameters(network) * WEIGHT_BYTES
    return MemoryEstimate(
        weights=parameters * (2 if self_supervised else 1),
        gradients=parameters,
        optimizer=parameters * optimizer_states,
        casts=0 if precision == "fp32" else parameters // 2,
        activations=int(activations * (SELF_SUPERVISED if self_supervised else 1)),
        loss=0 if self_supervised else int(batch_size * voxels * num_classes * LOSS_BYTES * DEEP_SUPERVISION),
    )
