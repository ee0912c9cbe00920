"""xLSTM-UNet in 2D and 3D: residual U-Net with xLSTM blocks at the bottleneck or from a given encoder stage on.

Layout after Chen et al. 2024 (xLSTM-UNet) and 3D-Heart_Seg; scans are bidirectional, tokens are always patch tokens
(so the weights fit any patch size), and the cost of the cell is linear in the number of tokens.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn

from nnunet_xlstm.layers.conv import UpsampleConv, conv_output_elements, residual_block
from nnunet_xlstm.layers.scan import resolve_orders
from nnunet_xlstm.layers.vil import BLOCKS, ChannelTokens
from nnunet_xlstm.networks.contract import check_patch_size, per_stage, stride_products

BLOCK_OWN_KEYS = ("dim", "spatial_dim", "orders", "n_blocks")  # set by the network, not by xlstm_kwargs


class EncoderStage(nn.Module):
    """Residual convolution blocks, the first one strided, then xLSTM blocks (or none)."""

    def __init__(self, convs: Sequence[nn.Module], xlstm: Sequence[nn.Module]):
        super().__init__()
        self.convs = nn.Sequential(*convs)
        self.xlstm = nn.Sequential(*xlstm)

    def forward(self, x: Tensor) -> Tensor:
        return self.xlstm(self.convs(x))


class XLSTMEncoder(nn.Module):
    """Stem at full resolution, then the stages. Returns one feature map per stage, highest resolution first."""

    def __init__(self, stem: nn.Module, stages: Sequence[EncoderStage]):
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C_in, *size) -> [(B, C_s, *size_s)] for each stage s."""
        x = self.stem(x)
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class UNetDecoder(nn.Module):
    """Upsample + 1x1 convolution, concatenate the skip, residual blocks; a 1x1 head at every scale.

    `seg_layers` are ordered from the lowest resolution to the highest, as in nnU-Net. It holds no reference to the
    encoder: no weight has two names.
    """

    def __init__(
        self, ups: Sequence[nn.Module], stages: Sequence[nn.Module], seg_layers: Sequence[nn.Module], ds: bool
    ):
        super().__init__()
        self.ups = nn.ModuleList(ups)
        self.stages = nn.ModuleList(stages)
        self.seg_layers = nn.ModuleList(seg_layers)
        self.deep_supervision = ds

    def forward(self, skips: list[Tensor]) -> Tensor | list[Tensor]:
        """Logits at full resolution (B, K, *size), or with deep supervision one per scale, highest first."""
        x = skips[-1]
        logits = []
        for i, (up, stage, head) in enumerate(zip(self.ups, self.stages, self.seg_layers, strict=True)):
            x = stage(torch.cat((up(x), skips[-2 - i]), 1))
            if self.deep_supervision or i == len(self.stages) - 1:
                logits.append(head(x))
        return logits[::-1] if self.deep_supervision else logits[0]


class XLSTMUNet(nn.Module):
    """Residual U-Net with xLSTM blocks, built from nnU-Net plans (`arch_kwargs`).

    Args:
        input_channels, n_stages, features_per_stage, conv_op, kernel_sizes, strides, num_classes, conv_bias, norm_op,
            norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs, deep_supervision: as in nnU-Net.
        n_conv_per_stage (or n_blocks_per_stage): residual blocks per encoder stage.
        n_conv_per_stage_decoder: residual blocks per decoder stage.
        xlstm_from_stage: first encoder stage that gets xLSTM blocks; negative counts from the end, so -1 is the
            bottleneck alone. None leaves xLSTM out: the same network without it.
        xlstm_block: `vil` or `segsync`.
        xlstm_blocks_per_stage: xLSTM blocks in each of those stages.
        scan_orders: a set (`pair`, `six`, `forward`, `reverse`, `shuffled`) or a list such as ["dhw+", "hwd-"].
        scan_mode: `alternate` gives each block the next order of the list, through the whole network; `parallel`
            scans all orders inside every block and sums their outputs.
        xlstm_kwargs: further keys of the block (`nnunet_xlstm.layers.vil`), e.g. {"expansion": 2, "conv": "dw"}.
        channel_token_patch: for reproduction of the public code only: at stages with at most as many voxels as
            channels (for this patch size) the channels are the tokens. The weights then fit this patch size alone.

    Input (B, C_in, *size), every axis divisible by the product of its strides; logits as in UNetDecoder.
    """

    key_to_encoder = "encoder.stages"
    key_to_stem = "encoder.stem"
    # both layers that see the image: the first convolution and the stem's shortcut
    keys_to_in_proj = ("encoder.stem.conv1.all_modules.0", "encoder.stem.skip.0.all_modules.0")
    key_to_lpe = None

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
        xlstm_from_stage: int | None = -1,
        xlstm_block: str = "vil",
        xlstm_blocks_per_stage: int = 1,
        scan_orders: str | Sequence[str] = "pair",
        scan_mode: str = "parallel",
        xlstm_kwargs: dict | None = None,
        channel_token_patch: Sequence[int] | None = None,
    ):
        super().__init__()
        if (n_conv_per_stage is None) == (n_blocks_per_stage is None):
            raise ValueError(
                "XLSTMUNet needs one of n_conv_per_stage and n_blocks_per_stage (two names of the same thing), got "
                f"{n_conv_per_stage} and {n_blocks_per_stage}"
            )
        dim = convert_conv_op_to_dim(conv_op)
        blocks = per_stage(
            n_conv_per_stage if n_blocks_per_stage is None else n_blocks_per_stage, n_stages, "n_conv_per_stage"
        )
        decoder_blocks = per_stage(n_conv_per_stage_decoder, n_stages - 1, "n_conv_per_stage_decoder")
        features = per_stage(features_per_stage, n_stages, "features_per_stage")
        self.strides = [_per_axis(s, dim) for s in _listed(strides, n_stages)]
        self.divisors = stride_products(self.strides)
        kernels = [_per_axis(k, dim) for k in _listed(kernel_sizes, n_stages)]
        conv = {
            "conv_op": conv_op,
            "conv_bias": conv_bias,
            "norm_op": norm_op,
            "norm_op_kwargs": norm_op_kwargs,
            "dropout_op": dropout_op,
            "dropout_op_kwargs": dropout_op_kwargs,
            "nonlin": nonlin,
            "nonlin_kwargs": nonlin_kwargs,
        }

        xlstm = _xlstm_stages(
            dim,
            features,
            self.strides,
            xlstm_from_stage,
            xlstm_block,
            xlstm_blocks_per_stage,
            scan_orders,
            scan_mode,
            xlstm_kwargs or {},
            channel_token_patch,
        )
        stages = []
        channels = features[0]
        for s in range(n_stages):
            convs = [residual_block(conv, channels, features[s], kernels[s], self.strides[s], project=True)]
            convs += [residual_block(conv, features[s], features[s], kernels[s], 1) for _ in range(blocks[s] - 1)]
            stages.append(EncoderStage(convs, xlstm[s]))
            channels = features[s]
        self.encoder = XLSTMEncoder(residual_block(conv, input_channels, features[0], kernels[0], 1), stages)

        ups, decoder_stages, heads = [], [], []
        for s in reversed(range(n_stages - 1)):
            ups.append(UpsampleConv(conv_op, features[s + 1], features[s], self.strides[s + 1], conv_bias))
            width = [2 * features[s]] + [features[s]] * (decoder_blocks[n_stages - 2 - s] - 1)
            decoder_stages.append(nn.Sequential(*(residual_block(conv, w, features[s], kernels[s], 1) for w in width)))
            heads.append(conv_op(features[s], num_classes, 1, bias=True))
        self.decoder = UNetDecoder(ups, decoder_stages, heads, deep_supervision)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """See the class.

        Raises:
            ValueError: wrong number of channels, or a size that the strides do not divide.
        """
        expected = self.encoder.stem.input_channels
        if x.shape[1] != expected:
            raise ValueError(
                f"image with {x.shape[1]} channels: the network was built for {expected}; "
                "give the channels of dataset.json"
            )
        check_patch_size(x.shape[2:], self.divisors)
        return self.decoder(self.encoder(x))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Elements per image written by all convolutions and by the xLSTM blocks at `input_size`, by arithmetic.

        nnU-Net's planner compares it with its reference to choose patch and batch size.
        """
        size = tuple(int(s) for s in input_size)
        check_patch_size(size, self.divisors)
        total = conv_output_elements(self.encoder.stem, size)
        sizes = []
        for stage, stride in zip(self.encoder.stages, self.strides, strict=True):
            size = tuple(i // s for i, s in zip(size, stride, strict=True))
            sizes.append(size)
            total += conv_output_elements(stage.convs, size)
            total += sum(block.activation_elements(math.prod(size)) for block in stage.xlstm)
        decoder = zip(self.decoder.ups, self.decoder.stages, self.decoder.seg_layers, reversed(sizes[:-1]), strict=True)
        for i, (up, stage, head, size) in enumerate(decoder):
            total += conv_output_elements(up, size) + conv_output_elements(stage, size)
            if self.decoder.deep_supervision or i == len(self.decoder.stages) - 1:
                total += conv_output_elements(head, size)
        return total

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of convolutions; linear layers and gates keep the xLSTM's own."""
        InitWeights_He(1e-2)(module)


def _listed(value, n: int) -> list:
    """One entry per stage from a number or a list."""
    return [value] * n if isinstance(value, int) else list(value)


def _per_axis(value: int | Sequence[int], dim: int) -> tuple[int, ...]:
    return (value,) * dim if isinstance(value, int) else tuple(int(v) for v in value)


def _xlstm_stages(
    dim, features, strides, from_stage, block, blocks_per_stage, scan_orders, scan_mode, kwargs, channel_token_patch
) -> list[list[nn.Module]]:
    """The xLSTM blocks of each encoder stage (arguments as in XLSTMUNet)."""
    n_stages = len(features)
    if from_stage is None:
        return [[] for _ in features]
    if not -n_stages <= from_stage < n_stages:
        raise ValueError(
            f"xlstm_from_stage {from_stage}: the encoder has stages 0 to {n_stages - 1} (or -1 to -{n_stages})"
        )
    if block not in BLOCKS:
        raise ValueError(f"xlstm_block '{block}' is unknown; use {' or '.join(BLOCKS)}")
    if scan_mode not in ("parallel", "alternate"):
        raise ValueError(f"scan_mode '{scan_mode}' is unknown; use parallel or alternate")
    valid = [name for name in inspect.signature(BLOCKS[block]).parameters if name not in BLOCK_OWN_KEYS]
    for key in kwargs:
        if key not in valid:
            raise ValueError(f"xlstm_kwargs '{key}' is unknown to the block '{block}'; use {', '.join(valid)}")
    orders = resolve_orders(scan_orders, dim)
    first = from_stage % n_stages
    n_blocks = (n_stages - first) * blocks_per_stage
    result, made = [], 0
    for s in range(n_stages):
        grid = channel_token_patch and [
            size // math.prod(stride[axis] for stride in strides[: s + 1])
            for axis, size in enumerate(channel_token_patch)
        ]
        stage = []
        for _ in range(blocks_per_stage if s >= first else 0):
            own = orders if scan_mode == "parallel" else (orders[made % len(orders)],)
            if grid and math.prod(grid) <= features[s]:
                stage.append(ChannelTokens(features[s], grid, own, n_blocks=n_blocks, **kwargs))
            else:
                stage.append(BLOCKS[block](features[s], dim, own, n_blocks=n_blocks, **kwargs))
            made += 1
        result.append(stage)
    return result
