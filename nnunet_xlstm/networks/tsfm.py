"""TSFM, the tumour segmentation foundation model: a residual U-Net with a vision transformer at its bottleneck.

Written from the description in the paper (blocks A to F; A and F are inferred). Without the transformer, with `post`
blocks and without the stem it is the layout of STU-Net (Huang et al. 2023), which checks the counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from torch import Tensor, nn

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.conv import conv_output_elements
from nnunet_xlstm.layers.device import run
from nnunet_xlstm.layers.residual import ResidualBlock
from nnunet_xlstm.layers.transformer import ViT
from nnunet_xlstm.networks.geometry import blocks_per_stage, per_stage, per_stage_and_axis
from nnunet_xlstm.networks.unet import Stage, UNet, UNetEncoder, build_decoder

VIT_KEYS = ("dim", "layers", "heads")


class TSFMStage(Stage):
    """Residual blocks, the first one strided, then the transformer (or none)."""

    def __init__(self, convs: Sequence[nn.Module], vit: ViT | None, recompute: bool):
        super().__init__()
        self.convs = nn.Sequential(*convs)
        self.vit = vit
        self.recompute = recompute

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, *size) to (B, C_out, *(size / stride))."""
        for block in self.convs:
            x = run(block, x, self.recompute)
        return x if self.vit is None else self.vit(x)

    def output_elements(self, size: tuple[int, ...]) -> int:
        """Count the elements per image that the stage writes at its output size."""
        tokens = 0 if self.vit is None else self.vit.activation_elements(math.prod(size))
        return conv_output_elements(self.convs, size) + tokens


class TSFM(UNet):
    """Residual U-Net with a transformer at the bottleneck, built from nnU-Net plans (`arch_kwargs`).

    Args:
        input_channels, n_stages, features_per_stage, conv_op, kernel_sizes, strides, num_classes, conv_bias, norm_op,
            norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs, deep_supervision: as in nnU-Net.
        n_conv_per_stage (or n_blocks_per_stage): residual blocks per encoder stage.
        n_conv_per_stage_decoder: residual blocks per decoder stage.
        vit: {"dim": 768, "layers": 12, "heads": 12}; None leaves the transformer out: the same network without it.
        vit_grid: tokens per axis at the bottleneck for the planned patch: of the position embedding. Other patches get
            it interpolated in each pass.
        block: `preact`, `post_noact` or `post` (`nnunet_xlstm.layers.residual`).
        stem: a 3x3x3 convolution before the first block; False: the first block sees the image.
        recompute: activation checkpointing: in training, only the inputs of blocks are kept.

    Input (B, C_in, *size), every axis divisible by the product of its strides; logits as in UNetDecoder.

    Raises:
        ConfigError: lists that do not fit n_stages, a wrong block, or a transformer that is not described.
    """

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: int | Sequence[int],
        conv_op: type[nn.Module],
        kernel_sizes,
        strides,
        num_classes: int,
        n_conv_per_stage_decoder: int | Sequence[int],
        n_conv_per_stage: int | Sequence[int] | None = None,
        n_blocks_per_stage: int | Sequence[int] | None = None,
        conv_bias: bool = True,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict | None = None,
        nonlin: type[nn.Module] | None = nn.LeakyReLU,
        nonlin_kwargs: dict | None = None,
        deep_supervision: bool = False,
        vit: dict | None = None,
        vit_grid: Sequence[int] | None = None,
        block: str = "preact",
        stem: bool = True,
        recompute: bool = False,
    ):
        dim = convert_conv_op_to_dim(conv_op)
        depth = blocks_per_stage(n_conv_per_stage, n_blocks_per_stage, n_stages)
        decoder_depth = per_stage(n_conv_per_stage_decoder, n_stages - 1, "n_conv_per_stage_decoder")
        features = per_stage(features_per_stage, n_stages, "features_per_stage")
        strides = per_stage_and_axis(strides, n_stages, dim)
        kernels = per_stage_and_axis(kernel_sizes, n_stages, dim)
        make_block = partial(
            ResidualBlock,
            block,
            conv_op=conv_op,
            conv_bias=conv_bias,
            norm_op=norm_op,
            norm_op_kwargs=norm_op_kwargs,
            dropout_op=dropout_op,
            dropout_op_kwargs=dropout_op_kwargs,
            nonlin=nonlin,
            nonlin_kwargs=nonlin_kwargs,
        )

        def blocks(n: int, channels: int, s: int, stride: Sequence[int] = (1,) * dim) -> list[ResidualBlock]:
            """Return `n` blocks of stage `s`; the first one takes `channels` and strides."""
            first = make_block(channels, features[s], kernels[s], stride)
            rest = (make_block(features[s], features[s], kernels[s], (1,) * dim) for _ in range(n - 1))
            return [first, *rest]

        transformer = _vit(vit, vit_grid, features[-1], dim, recompute)
        stages = []
        channels = features[0] if stem else input_channels
        for s in range(n_stages):
            last = s == n_stages - 1
            convs = blocks(depth[s], channels, s, strides[s])
            stages.append(TSFMStage(convs, transformer if last else None, recompute))
            channels = features[s]
        padding = [(k - 1) // 2 for k in kernels[0]]
        first = conv_op(input_channels, features[0], kernels[0], 1, padding, bias=conv_bias) if stem else None

        decoder = build_decoder(
            blocks,
            conv_op,
            features,
            strides,
            decoder_depth,
            num_classes,
            conv_bias=conv_bias,
            deep_supervision=deep_supervision,
            recompute=recompute,
        )
        super().__init__(UNetEncoder(first, stages), decoder, strides, input_channels)

        first_block = "encoder.stages.0.convs.0"
        self.keys_to_in_proj = ("encoder.stem",) if stem else (f"{first_block}.conv1", f"{first_block}.shortcut")
        self.key_to_stem = "encoder.stem" if stem else "encoder.stages.0"
        self.key_to_lpe = None if transformer is None else f"encoder.stages.{n_stages - 1}.vit.position"


def _vit(vit: dict | None, grid: Sequence[int] | None, channels: int, dim: int, recompute: bool) -> ViT | None:
    if vit is None:
        return None
    if set(vit) != set(VIT_KEYS):
        raise ConfigError(f"vit {vit}: give {', '.join(VIT_KEYS)} and no other keys, or null for no transformer")
    if grid is None or len(grid) != dim:
        raise ConfigError(f"vit_grid {grid}: give the tokens per axis of the planned patch, {dim} numbers")
    return ViT(channels, **vit, grid=[int(n) for n in grid], recompute=recompute)
