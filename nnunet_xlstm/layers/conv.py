"""Convolution blocks over dynamic_network_architectures (DNA)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.residual import BasicBlockD
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

from nnunet_xlstm.layers.amp import in_range

CONV_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class AvgPool3d(nn.AvgPool3d):
    """Average pooling of torch, also for half-precision copies on a CPU, which torch does not pool in 3D."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to (B, C, D / stride, H / stride, W / stride)."""
        if x.device.type == "cpu" and x.dtype in (torch.float16, torch.bfloat16):
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


def _drop_aliases(block: nn.Module) -> None:
    """Keep one name of each layer: that in `all_modules`, which the forward pass uses.

    DNA registers each layer twice (`conv` and `all_modules.0`), so each weight has two keys in the state dict and a
    partial load can be undone by the second one.
    """
    for module in block.modules():
        if isinstance(module, ConvDropoutNormReLU):
            for alias in ("conv", "norm", "dropout", "nonlin"):
                module._modules.pop(alias, None)


def residual_block(
    conv_kwargs: dict,
    input_channels: int,
    output_channels: int,
    kernel_size: Sequence[int],
    stride: int | Sequence[int],
    project: bool = False,
) -> BasicBlockD:
    """Build conv-norm-nonlin-conv-norm, shortcut, add, nonlin.

    The shortcut averages where the block strides and has a 1x1 convolution where the channels change. `project` asks
    for that convolution in any case, as the first block of each xLSTM-UNet stage has it.
    """
    block = BasicBlockD(
        input_channels=input_channels,
        output_channels=output_channels,
        kernel_size=kernel_size,
        stride=stride,
        **conv_kwargs,
    )
    if isinstance(block.skip, nn.Sequential):
        for i, layer in enumerate(block.skip):
            if isinstance(layer, nn.AvgPool3d):
                block.skip[i] = AvgPool3d(layer.kernel_size, layer.stride)
    if project and input_channels == output_channels:
        norm = {name: conv_kwargs[name] for name in ("norm_op", "norm_op_kwargs")}
        projection = ConvDropoutNormReLU(conv_kwargs["conv_op"], input_channels, output_channels, 1, 1, False, **norm)
        pool = block.skip if isinstance(block.skip, nn.Sequential) else ()
        block.skip = nn.Sequential(*pool, projection)
    _drop_aliases(block)
    return block


class UpsampleConv(nn.Module):
    """Nearest-neighbour upsampling by `stride`, then a 1x1 convolution (Huang et al. 2023, STU-Net)."""

    def __init__(
        self, conv_op: type[nn.Module], input_channels: int, output_channels: int, stride: Sequence[int], bias: bool
    ):
        super().__init__()
        self.stride = tuple(stride)
        self.up = nn.Upsample(scale_factor=tuple(float(s) for s in stride), mode="nearest")
        self.conv = conv_op(input_channels, output_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, *size) to (B, C_out, *(size * stride))."""
        return in_range(lambda x: self.conv(self.up(x)), x)


def conv_output_elements(module: nn.Module, output_size: tuple[int, ...]) -> int:
    """Count the elements that all convolutions of `module` write at `output_size`, without running it."""
    channels = sum(m.out_channels for m in module.modules() if isinstance(m, CONV_LAYERS))
    return channels * math.prod(output_size)
