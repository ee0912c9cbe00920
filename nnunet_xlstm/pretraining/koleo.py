"""KoLeo: pushes each image's feature away from its nearest neighbour (Sablayrolles et al. 2019; DINOv2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_xlstm.pretraining.branch import Layout
from nnunet_xlstm.pretraining.config import PretrainingConfig
from nnunet_xlstm.pretraining.objective import Objective, Seen
from nnunet_xlstm.pretraining.step_state import VectorQueue

EPS = 1e-8  # as in DINOv2


def koleo(x: Tensor, others: Tensor | None = None) -> Tensor:
    """-mean_i log |x_i - nearest(i) + eps|, the nearest among the other rows of x and all rows of `others`.

    Args:
        x: unit vectors (B, D). others: unit vectors (n, D) without gradient.

    Returns:
        A scalar; 0 (with a gradient of 0) where there is no other vector.
    """
    pool = x if others is None or not len(others) else torch.cat((x, others))
    if len(pool) < 2:
        return x.sum() * 0
    with torch.no_grad():
        cosines = x @ pool.T
        cosines.diagonal().fill_(-2)  # below any cosine: never itself
        nearest = cosines.argmax(1)
    return -torch.log((x - pool[nearest] + EPS).norm(dim=1) + EPS).mean()


class KoLeoObjective(Objective):
    """Mean over both global views of KoLeo on the student's pooled, normalised feature of the last stage.

    Each view has its own neighbours (the other view of the image is no neighbour); the queue holds features of earlier
    steps, so a batch of 2 has neighbours too.
    """

    @classmethod
    def needs(cls, config: PretrainingConfig) -> set[str]:
        return set()

    def __init__(self, layout: Layout, config: PretrainingConfig):
        super().__init__(layout, config)
        self.stage = layout.stages[-1]
        self.queue = VectorQueue(config.queue_size, layout.channels[self.stage])

    def forward(self, seen: Seen) -> Tensor:
        features = F.normalize(seen.student.features[self.stage][:2], dim=-1)
        if self.training:
            self.queue.remember(features.flatten(0, 1))
        others = self.queue.kept().to(features.dtype)
        return torch.stack([koleo(view, others) for view in features]).mean()
