"""What a network costs: parameters, multiply-accumulates and activations, counted on fake tensors.

Nothing is allocated and nothing is computed, so a 1.6 B network at full patch size is counted on a laptop.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Cost:
    """Of one image of one patch.

    Attributes:
        params: number of parameters. macs: multiply-accumulates of the forward pass: convolutions and matrix
            products only (normalisation, exponentials and cumulative sums are not counted).
        activations: elements kept for the backward pass (saved tensors, each storage once, without parameters).
        activation_bytes: the same in bytes, as saved.
        outputs: elements that convolutions and linear layers write in the forward pass.
    """

    params: int
    macs: int
    activations: int
    activation_bytes: int
    outputs: int


def count_cost(build: Callable[[], nn.Module], input_shape: Sequence[int]) -> Cost:
    """Count `build()` on an input of `input_shape` (B, C, *size). See Cost."""
    with FakeTensorMode():
        network = build()
        x = torch.empty(tuple(input_shape))
        parameters = {id(p.untyped_storage()) for p in network.parameters()}
        saved: dict[int, tuple] = {}
        outputs = 0

        def add_output(module, inputs, output) -> None:
            nonlocal outputs
            outputs += output.numel()

        hooks = [m.register_forward_hook(add_output) for m in network.modules() if isinstance(m, LAYERS)]

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if id(storage) not in parameters:
                saved[id(storage)] = (storage, storage.nbytes() // tensor.element_size(), storage.nbytes())
            return tensor

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(x)
        for hook in hooks:
            hook.remove()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = network(x)
    del output
    return Cost(
        params=sum(math.prod(p.shape) for p in network.parameters()),
        macs=counter.get_total_flops() // 2,
        activations=sum(elements for _, elements, _ in saved.values()),
        activation_bytes=sum(nbytes for _, _, nbytes in saved.values()),
        outputs=outputs,
    )


def latency(build: Callable[[], nn.Module], input_shape: Sequence[int], repeats: int, device: str = "cpu") -> float:
    """Median seconds of a forward pass (fp32, no gradient) after two that are not counted.

    Raises:
        ValueError: device cuda without a GPU.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device}: torch finds no CUDA GPU here; use cpu")
    network = build().to(device).eval()
    x = torch.randn(tuple(input_shape), device=device)
    seconds = []
    with torch.no_grad():
        for _ in range(repeats + 2):
            start = time.perf_counter()
            network(x)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])
