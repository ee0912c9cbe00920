"""The xLSTM block of 3D-SegSync (section 2.2.2): convolution, then a gated mLSTM on the flattened map."""

from __future__ import annotations

import math

import torch
from dynamic_network_architectures.building_blocks.regularization import DropPath
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.vil import CONVS, NORMS, add_all, cell_elements, mlstms


class SegSyncBlock(nn.Module):
    """xLSTM block of 3D-SegSync (section 2.2.2): convolution, then a gated mLSTM on the flattened map.

    `orders` `reverse` is the literal text (one flipped mLSTM); `pair` with own weights is bidirectional.

    Args:
        dim, spatial_dim, orders, share_weights, expansion, n_heads, qkv_block, snake, backend: as in ViLBlock.
        merge: how the gate path and the mLSTM path meet: `mul`, `add` or `concat`.
        cell: False keeps the block's convolution alone, the control without xLSTM.
        drop_path: probability that the block is skipped for an image, in training.
        n_blocks: blocks in the network, for the scale of the down-projection's initialization.

    Raises:
        ConfigError: unknown merge, or what MLSTM refuses.
    """

    def __init__(
        self,
        dim: int,
        spatial_dim: int,
        orders: tuple[str, ...],
        share_weights: bool = False,
        expansion: int = 2,
        n_heads: int = 4,
        qkv_block: int = 4,
        merge: str = "mul",
        cell: bool = True,
        drop_path: float = 0.0,
        n_blocks: int = 1,
        snake: bool = False,
        backend: str = "auto",
    ):
        super().__init__()
        if merge not in ("mul", "add", "concat"):
            raise ConfigError(f"merge '{merge}' of the SegSync block is unknown; use mul, add or concat")
        inner = expansion * dim
        self.dim, self.merge, self.has_cell = dim, merge, cell
        self.conv = nn.Sequential(
            CONVS[spatial_dim](dim, dim, 3, padding=1),
            NORMS[spatial_dim](dim, affine=True),
            nn.LeakyReLU(inplace=True),
        )
        if not cell:
            return
        self.norm = nn.LayerNorm(dim)
        self.gate_proj = nn.Linear(dim, inner, bias=False)
        self.cell_proj = nn.Linear(dim, inner, bias=False)
        self.mlstm = mlstms(inner, orders, share_weights, n_heads, qkv_block, snake, backend)
        self.proj_down = nn.Linear(inner * (2 if merge == "concat" else 1), dim, bias=False)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        std = math.sqrt(2 / (5 * dim))
        for linear in (self.gate_proj, self.cell_proj):
            nn.init.normal_(linear.weight, std=std)
        nn.init.normal_(self.proj_down.weight, std=2 / (n_blocks * math.sqrt(dim)))
        for scan in self.mlstm:
            scan.reset_parameters(std)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *grid) to (B, C, *grid)."""
        u = self.conv(x)
        if not self.has_cell:
            return u
        tokens = self.norm(rearrange(u, "b c ... -> b ... c"))
        a, b = F.silu(self.gate_proj(tokens)), self.cell_proj(tokens)
        p = add_all([cell(b, b) for cell in self.mlstm])
        y = a * p if self.merge == "mul" else a + p if self.merge == "add" else torch.cat((a, p.to(a.dtype)), -1)
        y = self.proj_down(y.to(self.proj_down.weight.dtype))
        return u + self.drop_path(rearrange(y, "b ... c -> b c ...")).to(u.dtype)

    def activation_elements(self, voxels: int) -> int:
        """Count as ViLBlock.activation_elements."""
        if not self.has_cell:
            return voxels * self.dim
        inner = self.gate_proj.out_features
        return voxels * (2 * inner + cell_elements(self.mlstm, inner) + 2 * self.proj_down.out_features)
