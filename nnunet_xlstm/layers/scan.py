"""Scan orders: how a 2D or 3D grid of tokens becomes a sequence, and back.

An order is a rotation of the axes, slowest first (`dhw`, `hwd`, `wdh` in 3D; `hw`, `wh` in 2D), or `shuffled`, and a
direction (`+` or `-`). In nnU-Net the first axis is the one of lowest resolution, so `dhw+` reads slice by slice.
`shuffled` is one fixed random permutation of all tokens: a control that keeps the parameters and destroys the order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from nnunet_xlstm.errors import ConfigError

AXES = {1: ("s",), 2: ("hw", "wh"), 3: ("dhw", "hwd", "wdh")}
SHUFFLED = "shuffled"
SETS = ("forward", "reverse", "pair", "six", "shuffled")


def resolve_orders(orders: str | Sequence[str], dim: int) -> tuple[str, ...]:
    """Expand a named set of orders for a grid of `dim` axes; a list of orders is checked and returned.

    `forward`, `reverse`: one direction of the natural order. `pair`: both. `six`: both directions of every rotation
    (six in 3D, four in 2D). `shuffled`: both directions of the fixed permutation.

    Raises:
        ConfigError: unknown set or order.
    """
    natural = AXES[dim][0]
    named = {
        "forward": (f"{natural}+",),
        "reverse": (f"{natural}-",),
        "pair": (f"{natural}+", f"{natural}-"),
        "six": tuple(f"{axes}{sign}" for axes in AXES[dim] for sign in "+-"),
        "shuffled": (f"{SHUFFLED}+", f"{SHUFFLED}-"),
    }
    if isinstance(orders, str):
        if orders not in named:
            raise ConfigError(f"scan orders '{orders}': unknown set; use one of {', '.join(SETS)} or a list of orders")
        return named[orders]
    valid = [f"{axes}{sign}" for axes in (*AXES[dim], SHUFFLED) for sign in "+-"]
    for order in orders:
        if order not in valid:
            raise ConfigError(f"scan order '{order}': unknown for a {dim}D grid; use {', '.join(valid)}")
    if not orders:
        raise ConfigError("scan orders []: at least one order is needed; use 'pair' for both directions")
    return tuple(orders)


def shuffled_index(length: int, device: torch.device) -> Tensor:
    """Return a fixed permutation of `length` positions, (S,) int64: positions sorted by an integer hash.

    A hash and not a generator, so that it is the same on every device and traces under torch.compile.
    """
    h = torch.arange(length, device=device, dtype=torch.int64)
    for multiplier in (0x45D9F3B, 0x119DE1F3):
        h = ((h ^ (h >> 16)) * multiplier + 0x3C6EF35F) & 0xFFFFFFFF
    return torch.argsort(h ^ (h >> 16), stable=True)


def _snake(x: Tensor, inverse: bool = False) -> Tensor:
    """Reverse every other line and plane of a permuted grid (B, *grid, F): neighbors in the sequence touch in space.

    Each step is its own inverse, so the inverse takes the steps backwards.
    """
    steps = range(1, x.ndim - 2)
    for axis in reversed(steps) if inverse else steps:
        lines = x.shape[1 : axis + 1]
        odd = torch.arange(math.prod(lines), device=x.device) % 2 == 1
        x = torch.where(odd.view(1, *lines, *[1] * (x.ndim - axis - 1)), x.flip(axis + 1), x)
    return x


def to_sequence(x: Tensor, order: str, snake: bool = False) -> Tensor:
    """Read the grid of tokens `x` (B, *grid, F) in `order` -> (B, S, F)."""
    if order[:-1] == SHUFFLED:
        x = x.flatten(1, -2)
        x = x.index_select(1, shuffled_index(x.shape[1], x.device))
    else:
        natural, scanned = " ".join(AXES[x.ndim - 2][0]), " ".join(order[:-1])
        x = rearrange(x, f"b {natural} f -> b {scanned} f")
        x = (_snake(x) if snake else x).flatten(1, -2)
    return x.flip(1) if order[-1] == "-" else x


def to_grid(x: Tensor, order: str, grid: tuple[int, ...], snake: bool = False) -> Tensor:
    """Undo `to_sequence` exactly: (B, S, F) -> (B, *grid, F)."""
    if order[-1] == "-":
        x = x.flip(1)
    if order[:-1] == SHUFFLED:
        inverse = torch.argsort(shuffled_index(x.shape[1], x.device))
        return x.index_select(1, inverse).unflatten(1, grid)
    natural, scanned = AXES[len(grid)][0], order[:-1]
    x = x.unflatten(1, [grid[natural.index(axis)] for axis in scanned])
    x = _snake(x, inverse=True) if snake else x
    return rearrange(x, f"b {' '.join(scanned)} f -> b {' '.join(natural)} f")
