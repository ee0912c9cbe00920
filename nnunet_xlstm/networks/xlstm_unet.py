"""xLSTM-UNet in 2D and 3D: residual U-Net with xLSTM blocks at the bottleneck or from a given encoder stage on.

Layout after Chen et al. 2024 (xLSTM-UNet) and 3D-Heart_Seg; scans are bidirectional, tokens are always patch tokens
(so the weights fit any patch size), and the cost of the cell is linear in the number of tokens.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from typing import cast

from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from torch import Tensor, nn

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.conv import conv_output_elements, residual_block
from nnunet_xlstm.layers.scan import resolve_orders
from nnunet_xlstm.layers.segsync import SegSyncBlock
from nnunet_xlstm.layers.vil import ChannelTokens, ViLBlock
from nnunet_xlstm.networks.geometry import blocks_per_stage, per_stage, per_stage_and_axis
from nnunet_xlstm.networks.unet import Stage, UNet, UNetEncoder, build_decoder

BLOCK_OWN_KEYS = ("dim", "spatial_dim", "orders", "n_blocks")  # set by the network, not by xlstm_kwargs

BLOCKS: dict[str, type[ViLBlock] | type[SegSyncBlock]] = {"vil": ViLBlock, "segsync": SegSyncBlock}
XLSTMBlock = ViLBlock | SegSyncBlock | ChannelTokens


class EncoderStage(Stage):
    """Residual convolution blocks, the first one strided, then xLSTM blocks (or none)."""

    def __init__(self, convs: Sequence[nn.Module], xlstm: Sequence[XLSTMBlock]):
        super().__init__()
        self.convs = nn.Sequential(*convs)
        self.xlstm = nn.Sequential(*xlstm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, *size) to (B, C_out, *(size / stride))."""
        return self.xlstm(self.convs(x))

    def output_elements(self, size: tuple[int, ...]) -> int:
        """Count the elements per image that the stage writes at its output size."""
        blocks = cast(Iterable[XLSTMBlock], self.xlstm)  # torch's containers do not say what they hold
        tokens = sum(block.activation_elements(math.prod(size)) for block in blocks)
        return conv_output_elements(self.convs, size) + tokens


class XLSTMUNet(UNet):
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
        scan_mode: `alternate` gives each block the next order of the list, through the whole network; `parallel` scans
            all orders inside every block and sums their outputs.
        xlstm_kwargs: further keys of the block (`nnunet_xlstm.layers.vil`), e.g. {"expansion": 2, "conv": "dw"}.
        channel_token_patch: for reproduction of the public code only: at stages with at most as many voxels as channels
            (for this patch size) the channels are the tokens. The weights then fit this patch size alone.

    Input (B, C_in, *size), every axis divisible by the product of its strides; logits as in UNetDecoder.
    """

    # both layers that see the image: the first convolution and the stem's shortcut
    keys_to_in_proj = ("encoder.stem.conv1.all_modules.0", "encoder.stem.skip.0.all_modules.0")

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
        dim = convert_conv_op_to_dim(conv_op)
        blocks = blocks_per_stage(n_conv_per_stage, n_blocks_per_stage, n_stages)
        decoder_blocks = per_stage(n_conv_per_stage_decoder, n_stages - 1, "n_conv_per_stage_decoder")
        features = per_stage(features_per_stage, n_stages, "features_per_stage")
        strides = per_stage_and_axis(strides, n_stages, dim)
        kernels = per_stage_and_axis(kernel_sizes, n_stages, dim)
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
            strides,
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
            convs = [residual_block(conv, channels, features[s], kernels[s], strides[s], project=True)]
            convs += [residual_block(conv, features[s], features[s], kernels[s], 1) for _ in range(blocks[s] - 1)]
            stages.append(EncoderStage(convs, xlstm[s]))
            channels = features[s]
        encoder = UNetEncoder(residual_block(conv, input_channels, features[0], kernels[0], 1), stages)

        def decoder_stage(n: int, channels: int, s: int) -> list[nn.Module]:
            widths = [channels, *[features[s]] * (n - 1)]
            return [residual_block(conv, width, features[s], kernels[s], 1) for width in widths]

        decoder = build_decoder(
            decoder_stage,
            conv_op,
            features,
            strides,
            decoder_blocks,
            num_classes,
            conv_bias=conv_bias,
            deep_supervision=deep_supervision,
        )
        super().__init__(encoder, decoder, strides, input_channels)


# nnU-Net's fine-tuning for checkpoints of nnssl (nnUNetv2_train_pretrained) knows a network by the end of its name
XLSTMResidualEncoderUNet = XLSTMUNet


def _xlstm_stages(
    dim: int,
    features: Sequence[int],
    strides: Sequence[Sequence[int]],
    from_stage: int | None,
    block: str,
    blocks_per_stage: int,
    scan_orders: str | Sequence[str],
    scan_mode: str,
    kwargs: dict,
    channel_token_patch: Sequence[int] | None,
) -> list[list[XLSTMBlock]]:
    """Build the xLSTM blocks of each encoder stage (arguments as in XLSTMUNet)."""
    n_stages = len(features)
    if from_stage is None:
        return [[] for _ in features]
    if not -n_stages <= from_stage < n_stages:
        raise ConfigError(
            f"xlstm_from_stage {from_stage}: the encoder has stages 0 to {n_stages - 1} (or -1 to -{n_stages})"
        )
    if block not in BLOCKS:
        raise ConfigError(f"xlstm_block '{block}' is unknown; use {' or '.join(BLOCKS)}")
    if channel_token_patch and block != "vil":
        raise ConfigError(f"channel_token_patch goes with the block 'vil' and not with '{block}'; set it to null")
    if scan_mode not in ("parallel", "alternate"):
        raise ConfigError(f"scan_mode '{scan_mode}' is unknown; use parallel or alternate")
    valid = [name for name in inspect.signature(BLOCKS[block]).parameters if name not in BLOCK_OWN_KEYS]
    for key in kwargs:
        if key not in valid:
            raise ConfigError(f"xlstm_kwargs '{key}' is unknown to the block '{block}'; use {', '.join(valid)}")
    orders = resolve_orders(scan_orders, dim)
    first = from_stage % n_stages
    n_blocks = (n_stages - first) * blocks_per_stage
    result, made = [], 0
    for s in range(n_stages):
        grid = tuple(
            size // math.prod(stride[axis] for stride in strides[: s + 1])
            for axis, size in enumerate(channel_token_patch or ())
        )
        stage: list[XLSTMBlock] = []
        for _ in range(blocks_per_stage if s >= first else 0):
            own = orders if scan_mode == "parallel" else (orders[made % len(orders)],)
            if grid and math.prod(grid) <= features[s]:
                stage.append(ChannelTokens(features[s], grid, own, n_blocks=n_blocks, **kwargs))
            else:
                stage.append(BLOCKS[block](features[s], dim, own, n_blocks=n_blocks, **kwargs))
            made += 1
        result.append(stage)
    return result
