"""Residual blocks of two convolutions, by where normalisation and activation stand."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.amp import narrow, wide

KINDS = ("preact", "post_noact", "post")


class ResidualBlock(nn.Module):
    """Two convolutions with normalisation and activation, and a shortcut; the first convolution strides.

    Where stride or channels change, the shortcut is a 1x1 convolution of the same stride, else the identity.

    Args:
        kind: `preact`: (norm, activation, convolution) twice, nothing after the sum, and a shortcut with a convolution
            starts behind the first activation (He et al. 2016, Identity Mappings). `post_noact`: (convolution, norm,
            activation) twice, nothing after the sum. `post`: the second activation comes after the sum (He et al. 2015;
            the block of STU-Net, Huang et al. 2023).
        conv_op, conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: as in
            nnU-Net; dropout follows the first convolution.

    Raises:
        ConfigError: unknown kind, no norm or no activation.
    """

    def __init__(
        self,
        kind: str,
        input_channels: int,
        output_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        conv_op: type[nn.Module],
        conv_bias: bool,
        norm_op: type[nn.Module] | None,
        norm_op_kwargs: dict | None,
        dropout_op: type[nn.Module] | None,
        dropout_op_kwargs: dict | None,
        nonlin: type[nn.Module] | None,
        nonlin_kwargs: dict | None,
    ):
        super().__init__()
        if kind not in KINDS:
            raise ConfigError(f"block '{kind}' is unknown; use {', '.join(KINDS)}")
        if norm_op is None or nonlin is None:
            raise ConfigError("residual blocks need norm_op and nonlin, got None; give those of nnU-Net's plans")
        self.kind = kind
        padding = [(k - 1) // 2 for k in kernel_size]
        self.conv1 = conv_op(input_channels, output_channels, kernel_size, stride, padding, bias=conv_bias)
        self.conv2 = conv_op(output_channels, output_channels, kernel_size, 1, padding, bias=conv_bias)
        self.norm1 = norm_op(input_channels if kind == "preact" else output_channels, **(norm_op_kwargs or {}))
        self.norm2 = norm_op(output_channels, **(norm_op_kwargs or {}))
        self.nonlin = nonlin(**(nonlin_kwargs or {}))
        self.dropout = dropout_op(**(dropout_op_kwargs or {})) if dropout_op else None
        changes = input_channels != output_channels or max(stride) > 1
        self.shortcut = conv_op(input_channels, output_channels, 1, stride, bias=conv_bias) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, *size) to (B, C_out, *(size / stride))."""
        if self.kind == "preact":
            y = self.nonlin(narrow(self.norm1(x)))
            shortcut = x if self.shortcut is None else self.shortcut(y)
            return self.conv2(self.nonlin(self.norm2(self._first(y)))) + wide(shortcut)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        y = self.norm2(self.conv2(self.nonlin(self.norm1(self._first(x)))))
        return self.nonlin(y + shortcut) if self.kind == "post" else self.nonlin(y) + shortcut

    def _first(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return x if self.dropout is None else self.dropout(x)
