"""What a network costs: parameters, multiply-accumulates and activations, counted on fake tensors.

Nothing is allocated and nothing is computed, so a 1.6 B network at full patch size is counted on a laptop. Only
`measure` runs a network.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nnunet_xlstm.errors import ConfigError

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WARM_UP = 2


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *args, **kwargs) -> int:
    """Count Q K^T and the product with V; the arguments are shapes (B, heads, S, d)."""
    return 2 * math.prod(query[:3]) * key[2] * (query[3] + value[3])


# torch counts attention on a GPU only
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


@dataclass(frozen=True)
class Cost:
    """Of one image of one patch.

    Attributes:
        params: number of parameters.
        macs: multiply-accumulates of the forward pass: convolutions and matrix products only (normalisation,
            exponentials and cumulative sums are not counted).
        activations: elements kept for the backward pass (saved tensors, each storage once, without parameters), as if
            nothing were computed again (no activation checkpointing).
        activation_bytes: the same in bytes, as saved.
        outputs: elements that convolutions and linear layers write in the forward pass.
    """

    params: int
    macs: int
    activations: int
    activation_bytes: int
    outputs: int


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters; also works on meta tensors."""
    return sum(math.prod(p.shape) for p in network.parameters())


def count_cost(build: Callable[[], nn.Module], input_shape: Sequence[int]) -> Cost:
    """Count `build()` on an input of `input_shape` (B, C, *size). See Cost."""
    with FakeTensorMode():
        network = build()
        for module in network.modules():
            if hasattr(module, "recompute"):
                module.recompute = False  # type: ignore[assignment]  # to torch it is a tensor or a module
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

        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter, torch.no_grad():
            network(x)
        for hook in hooks:
            hook.remove()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = network(x)
    del output
    return Cost(
        params=count_parameters(network),
        macs=counter.get_total_flops() // 2,
        activations=sum(elements for _, elements, _ in saved.values()),
        activation_bytes=sum(nbytes for _, _, nbytes in saved.values()),
        outputs=outputs,
    )


@dataclass(frozen=True)
class Measured:
    """Of a forward pass (fp32, no gradient).

    Attributes:
        seconds: median.
        peak_bytes: the most that tensors held at once, weights included; None on a CPU.
    """

    seconds: float
    peak_bytes: int | None


def measure(build: Callable[[], nn.Module], input_shape: Sequence[int], repeats: int, device: str = "cpu") -> Measured:
    """Run `build()` on an input of `input_shape` (B, C, *size): two times that do not count, then `repeats` times.

    Raises:
        ConfigError: device cuda without a GPU.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        raise ConfigError(f"device {device}: torch finds no CUDA GPU here; use cpu")
    gc.collect()  # an earlier network that is part of a reference cycle would count as memory of this one
    network = build().to(device).eval()
    x = torch.randn(tuple(input_shape), device=device)
    seconds = []
    with torch.no_grad():
        for i in range(repeats + WARM_UP):
            if on_gpu and i == WARM_UP:
                torch.cuda.reset_peak_memory_stats(device)  # what the first passes need once is not counted
            start = time.perf_counter()
            network(x)
            if on_gpu:
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return Measured(statistics.median(seconds[WARM_UP:]), torch.cuda.max_memory_allocated(device) if on_gpu else None)
