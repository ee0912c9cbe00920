"""What our U-Nets share: encoder and decoder around their stages, the checks at the border, the planner's count."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.amp import in_range
from nnunet_xlstm.layers.conv import UpsampleConv, conv_output_elements
from nnunet_xlstm.layers.device import run
from nnunet_xlstm.networks.geometry import check_patch_size, stride_products


class Stage(nn.Module):
    """Stage of an encoder: (B, C_in, *size) -> (B, C_out, *(size / stride))."""

    def output_elements(self, size: tuple[int, ...]) -> int:
        """Count the elements per image that the stage writes at its output size, by arithmetic."""
        raise NotImplementedError


class UNetEncoder(nn.Module):
    """Stem at full resolution (or none), then the stages: one feature map per stage, highest resolution first."""

    stages: Sequence[Stage]

    def __init__(self, stem: nn.Module | None, stages: Sequence[Stage]):
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)  # type: ignore[assignment]  # torch's containers do not say what they hold

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, C_in, *size) to [(B, C_s, *size_s)] for each stage s."""
        if self.stem is not None:
            x = self.stem(x)
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class UNetDecoder(nn.Module):
    """Upsample + 1x1 convolution, concatenate the skip, residual blocks; a 1x1 head at every scale.

    `seg_layers` are ordered from the lowest resolution to the highest, as in nnU-Net. It holds no reference to the
    encoder: no weight has two names. `recompute`: activation checkpointing, block by block.
    """

    stages: Sequence[nn.Sequential]

    def __init__(
        self,
        ups: Sequence[nn.Module],
        stages: Sequence[nn.Sequential],
        seg_layers: Sequence[nn.Module],
        ds: bool,
        recompute: bool = False,
    ):
        super().__init__()
        self.ups = nn.ModuleList(ups)
        self.stages = nn.ModuleList(stages)  # type: ignore[assignment]  # as above
        self.seg_layers = nn.ModuleList(seg_layers)
        self.deep_supervision = ds
        self.recompute = recompute

    def forward(self, skips: list[Tensor]) -> Tensor | list[Tensor]:
        """Return logits at full resolution (B, K, *size), or with deep supervision one per scale, highest first."""
        x = skips[-1]
        logits = []
        for i, (up, stage, head) in enumerate(zip(self.ups, self.stages, self.seg_layers, strict=True)):
            x = torch.cat((run(up, x, self.recompute), skips[-2 - i]), 1)
            for block in stage:
                x = run(block, x, self.recompute)
            if self.deep_supervision or i == len(self.stages) - 1:
                logits.append(in_range(head, x))
        return logits[::-1] if self.deep_supervision else logits[0]


def build_decoder(
    blocks: Callable[[int, int, int], Sequence[nn.Module]],
    conv_op: type[nn.Module],
    features: Sequence[int],
    strides: Sequence[Sequence[int]],
    depth: Sequence[int],
    num_classes: int,
    *,
    conv_bias: bool,
    deep_supervision: bool,
    recompute: bool = False,
) -> UNetDecoder:
    """Return the decoder of an encoder.

    Args:
        blocks: from (number of blocks, input channels, stage) to the blocks of a decoder stage.
        conv_op: of upsampling and heads.
        features: channels of each encoder stage.
        strides: of each encoder stage, per axis.
        depth: blocks of each decoder stage, from the lowest resolution on.
        num_classes: output channels of the heads.
        conv_bias: of upsampling.
        deep_supervision: whether `forward` returns logits of every scale.
        recompute: activation checkpointing, block by block.
    """
    ups, stages, heads = [], [], []
    for s, n in zip(reversed(range(len(features) - 1)), depth, strict=True):
        ups.append(UpsampleConv(conv_op, features[s + 1], features[s], strides[s + 1], conv_bias))
        stages.append(nn.Sequential(*blocks(n, 2 * features[s], s)))
        heads.append(conv_op(features[s], num_classes, 1, bias=True))
    return UNetDecoder(ups, stages, heads, deep_supervision, recompute)


class UNet(nn.Module):
    """Base of our networks: a subclass builds the parts. `strides`: per stage and axis."""

    key_to_encoder = "encoder.stages"
    key_to_stem = "encoder.stem"
    key_to_lpe: str | None = None

    def __init__(
        self, encoder: UNetEncoder, decoder: UNetDecoder, strides: Sequence[Sequence[int]], input_channels: int
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.strides = strides
        self.divisors = stride_products(strides)
        self.input_channels = input_channels

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Map (B, C_in, *size) to logits, as UNetDecoder gives them.

        Raises:
            ConfigError: wrong number of channels, or a size that the strides do not divide.
        """
        if x.shape[1] != self.input_channels:
            raise ConfigError(
                f"image with {x.shape[1]} channels: the network was built for {self.input_channels}; "
                "give the channels of dataset.json"
            )
        check_patch_size(x.shape[2:], self.divisors)
        return self.decoder(self.encoder(x))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Count the elements per image that convolutions and token layers write at `input_size`, by arithmetic.

        nnU-Net's planner compares it with its reference to choose patch and batch size.
        """
        size = tuple(int(s) for s in input_size)
        check_patch_size(size, self.divisors)
        total = 0 if self.encoder.stem is None else conv_output_elements(self.encoder.stem, size)
        sizes = []
        for stage, stride in zip(self.encoder.stages, self.strides, strict=True):
            size = tuple(i // s for i, s in zip(size, stride, strict=True))
            sizes.append(size)
            total += stage.output_elements(size)
        decoder = zip(self.decoder.ups, self.decoder.stages, self.decoder.seg_layers, reversed(sizes[:-1]), strict=True)
        for i, (up, blocks, head, size) in enumerate(decoder):
            total += conv_output_elements(up, size) + conv_output_elements(blocks, size)
            if self.decoder.deep_supervision or i == len(self.decoder.stages) - 1:
                total += conv_output_elements(head, size)
        return total

    def largest_block_elements(self, input_size: Sequence[int]) -> int:
        """Count the most that one block's convolutions write per image: blocks at full resolution are the last ones."""
        return max(conv_output_elements(block, tuple(input_size)) for block in self.decoder.stages[-1])

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialize convolutions after He et al. 2015; linear layers, embeddings and gates keep their own values."""
        InitWeights_He(1e-2)(module)
