"""A small encoder, small settings and toy images for the tests of pre-training."""

import torch
from torch import nn

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.pretraining.views import ViewBatch

SMALL = {
    "n_prototypes": 16,
    "n_prototypes_inner": 12,
    "head_hidden": 16,
    "head_bottleneck": 8,
    "dense_points": 10,
    "queue_size": 12,
    "mask_block": 4,
    "monitor_vectors": 128,
}


def small_config(**keys) -> PretrainingConfig:
    return PretrainingConfig(**{**SMALL, **keys})


class ToyEncoder(nn.Module):
    """Three strided convolutions: maps at 1/2, 1/4 and 1/8 of the resolution."""

    def __init__(self, dims: int = 2, width: int = 4, channels: int = 1):
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        widths = [channels, width, 2 * width, 3 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(conv(a, b, 3, stride=2, padding=1), nn.GELU())
            for a, b in zip(widths, widths[1:], strict=False)
        )

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def random_batch(n: int, dims: int = 2, channels: int = 1, n_local_crops: int = 0, size: int = 16) -> ViewBatch:
    """Views of noise with boxes that meet."""
    start = 0.2 * torch.rand(n, 2, dims)
    return ViewBatch(
        torch.randn(n, 2, channels, *[size] * dims),
        torch.stack((start, 0.6 + 0.2 * torch.rand(n, 2, dims)), -1),
        torch.rand(n, 2, dims) < 0.5,
        torch.randn(n, n_local_crops, channels, *[size // 2] * dims) if n_local_crops else None,
    )


def part(batch: ViewBatch, which: slice) -> ViewBatch:
    """Some images of a batch."""
    tensors = (batch.global_views, batch.boxes, batch.flips, batch.local_views)
    return ViewBatch(*(None if t is None else t[which] for t in tensors))


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
