"""Copy-paste between two images: a random box changes places, in images and targets alike.

Bai et al., "Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation", CVPR 2023 (BCP), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def random_box(patch_size: Sequence[int], share: float) -> tuple[slice, ...]:
    """Draw a box that lies anywhere in the patch, all places alike.

    It is drawn from torch's generator of the CPU, whose state a checkpoint holds.

    Args:
        patch_size: voxels per axis.
        share: length of every edge as a share of the patch's, rounded, at least one voxel.

    Returns:
        The box, a slice per axis.
    """
    lengths = [min(max(round(share * edge), 1), edge) for edge in patch_size]
    starts = [int(torch.randint(edge - n + 1, ())) for edge, n in zip(patch_size, lengths, strict=True)]
    return tuple(slice(start, start + n) for start, n in zip(starts, lengths, strict=True))


def swap_box(first: Tensor, second: Tensor, box: tuple[slice, ...]) -> Tensor:
    """Return both batches with what lies in the box exchanged.

    Args:
        first: images or targets, (B, C, *patch).
        second: the same of the other images.
        box: a slice per spatial axis.

    Returns:
        (2 B, C, *patch): `first` with the box of `second`, then `second` with the box of `first`.
    """
    mixed = torch.cat([first, second])
    inside = (slice(None), slice(None), *box)
    mixed[: len(first)][inside] = second[inside]
    mixed[len(first) :][inside] = first[inside]
    return mixed


def downsample_targets(target: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return a target at the sizes of deep supervision, as nnU-Net's DownsampleSegForDSTransform does it.

    Args:
        target: (B, C, *patch).
        sizes: voxels per axis of every output.
    """
    return [
        target
        if tuple(size) == tuple(target.shape[2:])
        else F.interpolate(target.float(), tuple(size), mode="nearest-exact").to(target.dtype)
        for size in sizes
    ]
