"""What every network of ours promises to nnU-Net, and the checks at its border."""

from __future__ import annotations

import math
from collections.abc import Sequence


def check_patch_size(patch_size: Sequence[int], strides: Sequence[Sequence[int]]) -> None:
    """Raise a ValueError that names the axis and the nearest valid sizes if `strides` do not divide `patch_size`.

    Args:
        patch_size: voxels per axis, (D, H, W) or (H, W). strides: of all stages, each with one entry per axis.
    """
    for axis, size in enumerate(patch_size):
        divisor = math.prod(int(stride[axis]) for stride in strides)
        if size % divisor or size < divisor:
            below = size // divisor * divisor
            nearest = f"{below} or {below + divisor}" if below else f"{divisor}"
            raise ValueError(
                f"patch size {tuple(int(s) for s in patch_size)}: axis {axis} is not divisible by {divisor}, "
                f"the product of its strides; use {nearest}"
            )


def per_stage(value: int | Sequence[int], n: int, name: str) -> list[int]:
    """Expand a number to a list of `n`; a list is copied after its length is checked."""
    values = [value] * n if isinstance(value, int) else list(value)
    if len(values) != n:
        raise ValueError(f"{name} {values}: {len(values)} entries for {n} stages; give one number or {n} of them")
    return values
