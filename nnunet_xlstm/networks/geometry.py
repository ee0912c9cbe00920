"""What every network of ours promises to nnU-Net, and the checks at its border."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nnunet_xlstm.errors import ConfigError


def stride_products(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return what each axis of a patch must be divisible by: the product of its strides over all stages."""
    return tuple(math.prod([int(s) for s in axis]) for axis in zip(*strides, strict=True))


def token_strides(patch_embed_size: Sequence[int]) -> list[list[int]]:
    """Return the strides that plans give for tokens of `patch_embed_size` voxels.

    nnU-Net reads two things from strides: what divides a patch, and at which scales the network answers. It gives the
    last scale no weight, so an answer at full resolution and one per token train the first alone.
    """
    one = [1] * len(patch_embed_size)
    return [one, [int(n) for n in patch_embed_size], one]


def default_strides(patch_size: Sequence[int], max_stages: int = 6, min_edge: int = 4) -> list[tuple[int, ...]]:
    """Halve every axis that is even and stays at least `min_edge`, until none can be halved or `max_stages`."""
    size, strides = list(patch_size), [(1,) * len(patch_size)]
    while len(strides) < max_stages:
        step = tuple(2 if s % 2 == 0 and s // 2 >= min_edge else 1 for s in size)
        if max(step) == 1:
            break
        strides.append(step)
        size = [s // t for s, t in zip(size, step, strict=True)]
    return strides


def token_grid(strides: Sequence[Sequence[int]], patch_size: Sequence[int]) -> list[int]:
    """Return the voxels per axis of the bottleneck's map, a transformer's tokens, for a patch of `patch_size`."""
    return [int(size) // product for size, product in zip(patch_size, stride_products(strides), strict=True)]


def at_patch(architecture: Mapping, patch_size: Sequence[int]) -> dict:
    """Fit the `architecture` of plans to a patch of `patch_size`: the position embedding's grid (`vit_grid`) follows.

    A grid of another patch would be interpolated in every pass.
    """
    kwargs = architecture["arch_kwargs"]
    if kwargs.get("vit_grid") is None:
        return dict(architecture)
    return {**architecture, "arch_kwargs": {**kwargs, "vit_grid": token_grid(kwargs["strides"], patch_size)}}


def check_patch_size(patch_size: Sequence[int], divisors: Sequence[int]) -> None:
    """Check that `divisors` divide `patch_size`.

    Args:
        patch_size: voxels per axis, (D, H, W) or (H, W).
        divisors: as from `stride_products`.

    Raises:
        ConfigError: they do not; names the axis and the nearest valid sizes.
    """
    for axis, (size, divisor) in enumerate(zip(patch_size, divisors, strict=True)):
        if size % divisor or size < divisor:
            below = size // divisor * divisor
            nearest = f"{below} or {below + divisor}" if below else f"{divisor}"
            raise ConfigError(
                f"patch size {tuple(int(s) for s in patch_size)}: axis {axis} is not divisible by {divisor}, "
                f"the product of its strides; use {nearest}"
            )


def per_stage(value: int | Sequence[int], n: int, name: str) -> list[int]:
    """Expand a number to a list of `n`; copy a list after its length is checked.

    Args:
        value: one number, or one per stage.
        n: stages.
        name: of the key, for the message.

    Raises:
        ConfigError: a list of another length.
    """
    values = [value] * n if isinstance(value, int) else list(value)
    if len(values) != n:
        raise ConfigError(f"{name} {values}: {len(values)} entries for {n} stages; give one number or {n} of them")
    return values


def blocks_per_stage(
    n_conv: int | Sequence[int] | None, n_blocks: int | Sequence[int] | None, n_stages: int
) -> list[int]:
    """Return the blocks of each encoder stage, which nnU-Net's plans name in one of two ways.

    Raises:
        ConfigError: both are given, or none.
    """
    given = [n for n in (n_conv, n_blocks) if n is not None]
    if len(given) != 1:
        raise ConfigError(
            "the network needs one of n_conv_per_stage and n_blocks_per_stage (two names of the same thing), got "
            f"{n_conv} and {n_blocks}"
        )
    return per_stage(given[0], n_stages, "n_conv_per_stage")


def per_stage_and_axis(value: int | Sequence, n: int, dim: int) -> list[tuple[int, ...]]:
    """Return kernels or strides as a tuple of `dim` numbers per stage, from a number or a list of numbers or tuples."""
    values = [value] * n if isinstance(value, int) else value
    return [(v,) * dim if isinstance(v, int) else tuple(int(i) for i in v) for v in values]
