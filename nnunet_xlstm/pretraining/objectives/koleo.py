"""KoLeo: pushes each image's feature away from its nearest neighbour (Sablayrolles et al. 2019; DINOv2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.pretraining.branch import Layout
from nnunet_xlstm.pretraining.objectives.base import Objective, Seen
from nnunet_xlstm.pretraining.step_state import VectorQueue

EPS = 1e-8  # as in DINOv2
NEVER = -2.0  # below any cosine


def koleo(
    x: Tensor, others: Tensor | None = None, owners: Tensor | None = None, owners_of_others: Tensor | None = None
) -> Tensor:
    """-mean_i log |x_i - nearest(i) + eps|, the nearest among the other rows of x and the rows of `others`.

    Args:
        x: unit vectors (B, D). others: unit vectors (n, D) without gradient.
        owners, owners_of_others: (B,) and (n,), whose image a vector is of: no vector is pushed away from one of the
            same owner. None: every vector has an owner of its own.

    Returns:
        A scalar, the mean over vectors that have a neighbour; 0 (with a gradient of 0) where none has.
    """
    pool = x if others is None or not len(others) else torch.cat((x, others))
    with torch.no_grad():
        cosines = x @ pool.T
        cosines.diagonal().fill_(NEVER)
        if owners is not None:
            of_pool = owners if len(pool) == len(x) else torch.cat((owners, owners_of_others))
            cosines.masked_fill_(owners[:, None] == of_pool, NEVER)
        best, nearest = cosines.max(1)
        judged = best > NEVER
    distances = (x - pool[nearest] + EPS).norm(dim=1)
    terms = torch.where(judged, -torch.log(distances + EPS), 0.0)
    return terms.sum() / judged.sum().clamp_min(1) + x.sum() * 0


class KoLeoObjective(Objective):
    """Mean over both global views of KoLeo on the student's pooled, normalised feature of the last stage.

    Each view has its own neighbours. The queue holds features of earlier steps, so a batch of 2 has neighbours too; in
    a small data set it also holds the image itself, seen before, so vectors of one subject are no neighbours.
    """

    @classmethod
    def needs(cls, config: PretrainingConfig) -> set[str]:
        return set()

    def __init__(self, layout: Layout, config: PretrainingConfig):
        super().__init__(layout, config)
        self.stage = layout.stages[-1]
        self.queue = VectorQueue(config.queue_size, layout.channels[self.stage])
        self.owners = VectorQueue(config.queue_size, 1)  # of the vectors in the queue

    def forward(self, seen: Seen) -> Tensor:
        features = F.normalize(seen.student.features[self.stage][:2], dim=-1)
        owners = seen.batch.subjects
        if owners is None:
            owners = -1 - torch.arange(features.shape[1], device=features.device)  # nobody in the queue
        owners = owners.to(features.device, torch.float32)
        if self.training:
            self.queue.remember(features.flatten(0, 1))
            known = owners if seen.batch.subjects is not None else torch.full_like(owners, float("nan"))
            self.owners.remember(known.repeat(len(features))[:, None])
        others, of_others = self.queue.kept().to(features.dtype), self.owners.kept()[:, 0]
        return torch.stack([koleo(view, others, owners, of_others) for view in features]).mean()
