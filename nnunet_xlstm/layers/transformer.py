"""A vision transformer on the voxels of a feature map (Dosovitskiy et al. 2021), for a grid of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.amp import in_range, wide
from nnunet_xlstm.layers.device import run

MLP_RATIO = 4
INIT_STD = 0.02
MODES = {1: "linear", 2: "bicubic", 3: "trilinear"}


def resize_grid(grid: Tensor, size: Sequence[int]) -> Tensor:
    """Map (B, C, *old) to (B, C, *size): linear in 3D, cubic in 2D; the same tensor where nothing changes."""
    size = tuple(size)
    if tuple(grid.shape[2:]) == size:
        return grid
    return F.interpolate(grid.float(), size, mode=MODES[len(size)], align_corners=False).to(grid.dtype)


class TransformerBlock(nn.Module):
    """LayerNorm, attention of all tokens to all, sum; LayerNorm, two linear layers with GELU, sum."""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, MLP_RATIO * dim), nn.GELU(), nn.Linear(MLP_RATIO * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, S, dim) to (B, S, dim)."""
        q, k, v = rearrange(self.qkv(self.norm1(x)), "b s (n h d) -> n b h s d", n=3, h=self.n_heads)
        heads = F.scaled_dot_product_attention(q, k, v)
        x = wide(x) + self.proj(rearrange(heads, "b h s d -> b s (h d)"))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Every voxel becomes a token; what the transformer makes of them is added to the map.

    The position embedding is learned, one vector per token of `grid`, and stored as a map, so its shape tells its grid;
    an input of another size gets it interpolated.

    Args:
        channels: of the map.
        dim: of the transformer.
        layers: of the transformer.
        heads: of the transformer.
        grid: tokens per axis of the planned patch.
        recompute: activation checkpointing, block by block.

    Raises:
        ConfigError: the heads do not divide dim.
    """

    def __init__(self, channels: int, dim: int, layers: int, heads: int, grid: Sequence[int], recompute: bool = False):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"vit: {heads} heads do not divide dim {dim}; use a divisor")
        self.recompute = recompute
        self.embed = nn.Linear(channels, dim)  # on channels: the 1x1x1 convolution
        self.position = nn.Parameter(torch.empty(1, dim, *grid))
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, channels)
        nn.init.normal_(self.position, std=INIT_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *size) to (B, C, *size)."""
        size = x.shape[2:]
        position = resize_grid(self.position, size)
        tokens = in_range(self.embed, rearrange(x, "b c ... -> b (...) c")) + rearrange(
            position, "b c ... -> b (...) c"
        )
        for block in self.blocks:
            tokens = run(block, tokens, self.recompute)
        return wide(x) + rearrange(self.out(self.norm(tokens)), "b s c -> b c s").unflatten(2, size)

    def activation_elements(self, n_tokens: int) -> int:
        """Count the elements per image that the linear layers write for so many tokens."""
        widths = [m.out_features for m in self.modules() if isinstance(m, nn.Linear)]
        return n_tokens * sum(widths)
