"""xLSTM blocks on 2D and 3D feature maps: Vision-LSTM (ViL) and the SegSync block.

Sources: Beck et al. 2024 (xLSTM, eq. 19-27, mLSTM); Alkin et al. 2024 (Vision-LSTM, block layout and initialisation);
3D-SegSync section 2.2.2 (SegSync block). Written from the equations.

Glossary: B batch, C channels, E = expansion * C, NH heads, DH = E / NH, S = prod(grid) tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from dynamic_network_architectures.building_blocks.regularization import DropPath
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.amp import no_autocast
from nnunet_xlstm.layers.mlstm import mlstm
from nnunet_xlstm.layers.scan import to_grid, to_sequence

CONVS = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def add_all(tensors: list[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape."""
    return reduce(add, tensors)  # the built-in starts from 0 and adds once more


class BlockDiagonal(nn.Module):
    """Linear map without bias whose matrix is block diagonal with `block` x `block` blocks."""

    def __init__(self, dim: int, block: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim // block, block, block))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., E) to (..., E)."""
        blocks, size, _ = self.weight.shape
        return torch.einsum("...ni,nio->...no", x.unflatten(-1, (blocks, size)), self.weight).flatten(-2)


class UnitOffsetNorm(nn.Module):
    """Layer norm whose scale is stored as an offset from 1, so that weight decay pulls it to 1; optional bias."""

    def __init__(self, dim: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        return F.layer_norm(x, self.weight.shape, 1.0 + self.weight, self.bias, 1e-5)


class MLSTM(nn.Module):
    """Projections, gates, the cell along one or more scan orders (their outputs are summed), and per-head norm.

    Args:
        dim: E, the width of the tokens.
        n_heads: NH.
        qkv_block: size of the blocks of the block-diagonal projections.

    Raises:
        ConfigError: n_heads or qkv_block does not divide E.
    """

    def __init__(self, dim: int, orders: tuple[str, ...], n_heads: int, qkv_block: int, snake: bool, backend: str):
        super().__init__()
        for name, part in (("n_heads", n_heads), ("qkv_block", qkv_block)):
            if part < 1 or dim % part:
                fitting = ", ".join(str(i) for i in range(1, 17) if dim % i == 0)
                raise ConfigError(
                    f"{name} {part} does not divide {dim}, the width of the xLSTM block's tokens (expansion * "
                    f"channels); set xlstm_kwargs['{name}'] to one of {fitting}, or change the channels"
                )
        self.n_heads, self.orders, self.snake, self.backend = n_heads, orders, snake, backend
        self.q_proj = BlockDiagonal(dim, qkv_block)
        self.k_proj = BlockDiagonal(dim, qkv_block)
        self.v_proj = BlockDiagonal(dim, qkv_block)
        self.igate = nn.Linear(3 * dim, n_heads)
        self.fgate = nn.Linear(3 * dim, n_heads)
        self.norm_weight = nn.Parameter(torch.zeros(dim))  # an offset from 1

    def reset_parameters(self, std: float) -> None:
        """Draw new weights; std: of the projections to q, k and v."""
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.normal_(projection.weight, std=std)
        nn.init.zeros_(self.fgate.weight)
        nn.init.zeros_(self.igate.weight)
        with torch.no_grad():
            # decay of 0.95 to 0.998 a step: half-lives of 14 to 280 tokens
            self.fgate.bias.copy_(torch.linspace(3.0, 6.0, self.n_heads))
        nn.init.normal_(self.igate.bias, std=0.1)

    def forward(self, qk_input: Tensor, v_input: Tensor) -> Tensor:
        """Map two (B, *grid, E) to (B, *grid, E), fp32."""
        q, k, v = self.q_proj(qk_input), self.k_proj(qk_input), self.v_proj(v_input)
        with no_autocast(q):
            qkv = torch.cat((q, k, v), -1).to(self.igate.weight.dtype)
            gates = torch.cat((self.igate(qkv), self.fgate(qkv)), -1)
        grid = tuple(q.shape[1:-1])
        # all orders in one call of the cell: (B * orders, S, features)
        sequences = [torch.cat([to_sequence(t, o, self.snake) for o in self.orders]) for t in (q, k, v, gates)]
        q, k, v = (rearrange(t, "b s (nh dh) -> b nh s dh", nh=self.n_heads) for t in sequences[:3])
        igate, fgate = rearrange(sequences[3], "b s (gates nh) -> gates b nh s", gates=2)
        h = mlstm(q, k, v, igate, fgate, backend=self.backend)  # fp32
        h = rearrange(h, "b nh s dh -> b s (nh dh)")
        parts = zip(h.chunk(len(self.orders)), self.orders, strict=True)
        h = add_all([to_grid(part, order, grid, self.snake) for part, order in parts])
        with no_autocast(h):
            h = F.layer_norm(h.unflatten(-1, (self.n_heads, -1)), (h.shape[-1] // self.n_heads,), eps=1e-5).flatten(-2)
            return h * (1.0 + self.norm_weight.to(h.dtype))


def mlstms(
    dim: int, orders: tuple[str, ...], share_weights: bool, n_heads: int, qkv_block: int, snake: bool, backend: str
) -> Sequence[MLSTM]:
    """Return a module list of one mLSTM for all orders, or one for each; arguments as in ViLBlock."""
    groups = [orders] if share_weights else [(order,) for order in orders]
    cells = nn.ModuleList(MLSTM(dim, group, n_heads, qkv_block, snake, backend) for group in groups)
    return cells  # type: ignore[return-value]  # torch's containers do not say what they hold


def cell_elements(cells: Sequence[MLSTM], dim: int) -> int:
    """Count the elements per token of width `dim` that mLSTMs keep for the backward pass."""
    return sum(4 * len(cell.orders) + 3 for cell in cells) * dim


class CausalConv1d(nn.Conv1d):
    """Depth-wise causal convolution along the flattened grid (Vision-LSTM version 1)."""

    def __init__(self, dim: int, kernel_size: int = 4):
        super().__init__(dim, dim, kernel_size, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, E, *grid) to (B, E, *grid)."""
        return super().forward(F.pad(x.flatten(2), (self.kernel_size[0] - 1, 0))).reshape(x.shape)


class ViLBlock(nn.Module):
    """Vision-LSTM block with residual: gated up-projection, depth-wise convolution, mLSTM, down-projection.

    Args:
        dim: C.
        spatial_dim: 2 or 3.
        orders: the scan orders of this block; with several, their outputs are summed.
        share_weights: one set of mLSTM weights for all orders of the block, or one for each.
        conv: `dw` (3^n depth-wise on the grid, before any flip or permutation; gives position), `causal1d`, `none`.
        n_blocks: blocks in the network, for the scale of the down-projection's initialisation.
        norm_bias: version 1 has no bias in its layer norm, version 2 has.

    Raises:
        ConfigError: unknown conv, or what MLSTM refuses.

    Parameters with `causal1d` and C divisible by 4: 6 C^2 + 87 C + 8.
    """

    def __init__(
        self,
        dim: int,
        spatial_dim: int,
        orders: tuple[str, ...],
        share_weights: bool = True,
        expansion: int = 2,
        n_heads: int = 4,
        qkv_block: int = 4,
        conv: str = "dw",
        norm_bias: bool = False,
        drop_path: float = 0.0,
        n_blocks: int = 1,
        snake: bool = False,
        backend: str = "auto",
    ):
        super().__init__()
        inner = expansion * dim
        self.norm = UnitOffsetNorm(dim, norm_bias)
        self.proj_up = nn.Linear(dim, 2 * inner, bias=False)
        self.conv: nn.Module
        if conv == "dw":
            self.conv = CONVS[spatial_dim](inner, inner, 3, padding=1, groups=inner)
        elif conv == "causal1d":
            self.conv = CausalConv1d(inner)
        elif conv == "none":
            self.conv = nn.Identity()
        else:
            raise ConfigError(f"conv '{conv}' of the ViL block is unknown; use dw, causal1d or none")
        self.mlstm = mlstms(inner, orders, share_weights, n_heads, qkv_block, snake, backend)
        self.skip = nn.Parameter(torch.ones(inner))
        self.proj_down = nn.Linear(inner, dim, bias=False)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.reset_parameters(n_blocks)

    def reset_parameters(self, n_blocks: int) -> None:
        """Draw new weights; n_blocks: blocks in the network."""
        dim = self.proj_up.in_features
        std = math.sqrt(2 / (5 * dim))
        nn.init.normal_(self.proj_up.weight, std=std)
        nn.init.normal_(self.proj_down.weight, std=2 / (n_blocks * math.sqrt(dim)))
        for cell in self.mlstm:
            cell.reset_parameters(std)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *grid) to (B, C, *grid)."""
        tokens = self.norm(rearrange(x, "b c ... -> b ... c"))
        values, z = self.proj_up(tokens).chunk(2, -1)
        local = rearrange(F.silu(self.conv(rearrange(values, "b ... e -> b e ..."))), "b e ... -> b ... e")
        h = add_all([cell(local, values) for cell in self.mlstm])
        y = self.proj_down(((h + self.skip * local) * F.silu(z)).to(self.proj_down.weight.dtype))
        return x + self.drop_path(rearrange(y, "b ... c -> b c ...")).to(x.dtype)

    def activation_elements(self, voxels: int) -> int:
        """Count the elements per image that the block keeps for the backward pass at `voxels` tokens.

        Outputs of its linear layers, convolution, projections and cell count.
        """
        inner = self.proj_down.in_features
        conv = 0 if isinstance(self.conv, nn.Identity) else inner
        return voxels * (2 * inner + conv + cell_elements(self.mlstm, inner) + self.proj_down.out_features)


class ChannelTokens(nn.Module):
    """A ViL block over channels as tokens (token width = voxels), as the public xLSTM-UNet code does at small maps.

    For reproduction only: its weights fit one grid and no other.
    """

    def __init__(self, dim: int, grid: tuple[int, ...], orders: tuple[str, ...], **kwargs):
        super().__init__()
        self.dim, self.grid = dim, tuple(grid)
        width = math.prod(grid)  # whatever the grid gives: heads and projections are made to fit
        inner = kwargs.get("expansion", 2) * width
        fit = {name: math.gcd(kwargs.get(name, 4), inner) for name in ("n_heads", "qkv_block")}
        sequence = tuple(f"s{order[-1]}" for order in orders)
        self.block = ViLBlock(width, 1, sequence, **(kwargs | fit | {"conv": "causal1d"}))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *grid) to (B, C, *grid).

        Raises:
            ConfigError: another grid than the one built for.
        """
        if tuple(x.shape[2:]) != self.grid:
            raise ConfigError(
                f"feature map {tuple(x.shape[2:])}: channel tokens were built for {self.grid} and fit no other size; "
                "use that patch size, or patch tokens (channel_token_patch=None)"
            )
        tokens = self.block(rearrange(x, "b c ... -> b (...) c"))
        return rearrange(tokens, "b s c -> b c s").unflatten(2, self.grid)

    def activation_elements(self, voxels: int) -> int:
        """Count as ViLBlock.activation_elements: the tokens are the channels, whatever the number of voxels."""
        return self.block.activation_elements(self.dim)
