"""Primus (Wald et al. 2025, arXiv 2503.01835) under the conventions of nnU-Net's trainers, for weights of nnssl."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from dynamic_network_architectures.architectures import primus
from torch import Tensor
from torch.nn import functional as F

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.networks.geometry import token_strides

POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}


class Primus(primus.Primus):
    """The published network, built from nnU-Net plans (`arch_kwargs`) and trained by stock trainers.

    Args:
        input_channels: as in nnU-Net.
        num_classes: as in nnU-Net.
        deep_supervision: as in nnU-Net.
        patch_embed_size: voxels per axis of a token.
        input_shape: the patch; position embeddings fit no other.
        strides: of `token_strides`, which nnU-Net reads from plans.
        others: as in dynamic_network_architectures.

    Input (B, C_in, *input_shape); logits at full resolution, with deep supervision also their means per token.

    Raises:
        ConfigError: tokens that do not divide the patch, strides of other tokens.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        patch_embed_size: Sequence[int],
        input_shape: Sequence[int],
        strides: Sequence[Sequence[int]] | None = None,
        deep_supervision: bool = False,
        **others,
    ):
        if len(patch_embed_size) != len(input_shape) or any(
            n % t for n, t in zip(input_shape, patch_embed_size, strict=True)
        ):
            raise ConfigError(f"patch {list(input_shape)}: tokens of {list(patch_embed_size)} voxels do not divide it")
        if strides is not None and [list(s) for s in strides] != token_strides(patch_embed_size):
            raise ConfigError(f"strides {strides}: tokens of {patch_embed_size} need {token_strides(patch_embed_size)}")
        super().__init__(
            input_channels=input_channels,
            num_classes=num_classes,
            patch_embed_size=tuple(patch_embed_size),
            input_shape=tuple(input_shape),
            **others,
        )
        self.input_shape = tuple(input_shape)
        self.patch_embed_size = tuple(patch_embed_size)
        self.decoder = SimpleNamespace(deep_supervision=deep_supervision)  # where nnU-Net's trainers set it

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Map (B, C_in, *input_shape) to logits.

        Raises:
            ConfigError: an image of another size.
        """
        if tuple(x.shape[2:]) != self.input_shape:
            raise ConfigError(
                f"image of {tuple(x.shape[2:])} voxels: the position embedding was made for {self.input_shape}; leave "
                "patch_size as it is in the plans"
            )
        logits = super().forward(x)
        if not self.decoder.deep_supervision:
            return logits
        return [logits, POOL[len(self.input_shape)](logits, self.patch_embed_size)]
