"""Features with the mean and scale of earlier steps taken out, channel by channel, before a projection head."""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_xlstm.pretraining.distributed import sum_over_ranks
from nnunet_xlstm.pretraining.step_state import StepState

MOMENTUM = 0.99


class RunningFeatureNorm(StepState):
    """(x - mean) / sd, with running statistics of the steps before; the first step sees x as it is.

    Pooled maps of a convolutional encoder are nearly the same for all images (cosine above 0.99 before training: the
    activations' common mean). A head then maps all images to one embedding, the running center takes that out, and the
    targets are uniform from the start. Unlike batch norm this couples no images of a batch, so accumulation is exact.
    """

    mean: Tensor
    variance: Tensor
    updates: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self._sums: Tensor | None = None  # about the running mean: C sums, C sums of squares, the number of vectors

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (..., C); float32 or wider."""
        # channels that hardly vary stay small instead of showing rounding errors
        return (x - self.mean) * torch.rsqrt(self.variance + 1e-6 * self.mean.square() + 1e-12)

    @torch.no_grad()
    def accumulate(self, x: Tensor) -> None:
        """Note vectors (..., C) for the statistics of the next steps."""
        d = x.flatten(0, -2) - self.mean
        sums = torch.cat((d.sum(0), d.square().sum(0), d.new_full((1,), len(d))))
        self._sums = sums if self._sums is None else self._sums + sums

    @torch.no_grad()
    def end_step(self) -> None:
        """Move mean and variance to those of the step, over all ranks."""
        if self._sums is not None:
            sums = sum_over_ranks(self._sums).to(self.mean.dtype)
            shift, square = (sums[:-1] / sums[-1]).chunk(2)
            self.updates += 1
            share = (1 - MOMENTUM) / (1 - MOMENTUM ** self.updates.to(self.mean.dtype))  # 1 at first: no start at 0
            self.mean += share * shift
            # of a mixture: the second moment about the old mean, less the square of the mean's shift
            old = self.variance * (self.updates > 1)
            self.variance.copy_((1 - share) * old + share * square - (share * shift).square()).clamp_min_(0)
        self._sums = None

    def discard_step(self) -> None:
        """Forget the vectors of the step."""
        self._sums = None
