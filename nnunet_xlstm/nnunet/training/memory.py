"""Memory of a training step: its format on a CPU, and the line of the log that says how much a GPU will need."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.networks.memory import estimate_memory


def use_channels_last_on_cpu(module: nn.Module, device: torch.device, n_axes: int) -> None:
    """Store the weights channels-last on a CPU: its convolutions are faster so; values change by rounding only.

    Args:
        module: is changed in place.
        device: of the module; on others than a CPU nothing changes.
        n_axes: of an image, 2 or 3.
    """
    if device.type == "cpu":
        module.to(memory_format=torch.channels_last_3d if n_axes == 3 else torch.channels_last)


def memory_line(
    network: nn.Module,
    patch_size: Sequence[int],
    batch_size: int,
    n_classes: int,
    precision: str,
    optimizer: torch.optim.Optimizer,
    self_supervised: bool,
) -> str:
    """Say what a training step will hold on the device, by arithmetic; networks of others get no estimate.

    Args:
        network: that learns, without wrappers.
        patch_size: voxels per axis.
        batch_size: images on this device.
        n_classes: outputs of the network.
        precision: bf16, fp16 or fp32.
        optimizer: SGD keeps one moment per parameter, others two.
        self_supervised: a student and a teacher, and no decoder's loss.
    """
    moments = 1 if isinstance(optimizer, torch.optim.SGD) else 2
    try:
        memory = estimate_memory(
            network,
            patch_size,
            batch_size,
            n_classes,
            precision=precision,
            optimizer_states=moments,
            self_supervised=self_supervised,
        )
    except ConfigError as error:  # such as a network of another package
        return f"memory: no estimate, {error}"
    return f"memory, by arithmetic: {memory}"
