"""KoLeo: pushes each image's feature away from its nearest neighbor (Sablayrolles et al. 2019; DINOv2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.pretraining.branch import EncoderFeatureInfo
from nnunet_xlstm.pretraining.objectives.base import Objective, ObjectiveInputs
from nnunet_xlstm.pretraining.step_state import VectorQueue

EPS = 1e-8  # as in DINOv2
MASKED_SIMILARITY = -2.0  # below any cosine


def koleo(
    x: Tensor, others: Tensor | None = None, subject_ids: Tensor | None = None, other_subject_ids: Tensor | None = None
) -> Tensor:
    """Compute -mean_i log |x_i - nearest(i) + eps|, the nearest among the other rows of x and the rows of `others`.

    Args:
        x: unit vectors (B, D).
        others: unit vectors (n, D) without gradient.
        subject_ids: (B,), the subject of each vector: no vector is pushed away from one of the same subject. None:
            every vector has a subject of its own.
        other_subject_ids: (n,), likewise, of `others`.

    Returns:
        A scalar, the mean over vectors that have a neighbor; 0 (with a gradient of 0) where none has.
    """
    pool = x if others is None or not len(others) else torch.cat((x, others))
    with torch.no_grad():
        cosines = x @ pool.T
        cosines.diagonal().fill_(MASKED_SIMILARITY)
        if subject_ids is not None:
            pool_ids = subject_ids if other_subject_ids is None else torch.cat((subject_ids, other_subject_ids))
            cosines.masked_fill_(subject_ids[:, None] == pool_ids, MASKED_SIMILARITY)
        best, nearest = cosines.max(1)
        judged = best > MASKED_SIMILARITY
    distances = (x - pool[nearest] + EPS).norm(dim=1)
    terms = torch.where(judged, -torch.log(distances + EPS), 0.0)
    return terms.sum() / judged.sum().clamp_min(1) + x.sum() * 0


class KoLeoObjective(Objective):
    """Mean over both global views of KoLeo on the student's pooled, normalized feature of the last stage.

    Each view has its own neighbors. The queue holds features of earlier steps, so a batch of 2 has neighbors too; in
    a small data set it also holds the image itself, seen before, so vectors of one subject are no neighbors.
    """

    @classmethod
    def needs(cls, config: PretrainingConfig) -> set[str]:
        """Need nothing but the student's pooled features."""
        return set()

    def __init__(self, feature_info: EncoderFeatureInfo, config: PretrainingConfig):
        super().__init__(feature_info, config)
        self.stage = feature_info.stages[-1]
        self.queue = VectorQueue(config.queue_size, feature_info.channels[self.stage])
        self.subject_ids = VectorQueue(config.queue_size, 1)  # of the vectors in the queue

    def forward(self, inputs: ObjectiveInputs) -> Tensor:
        """Compute the term, a scalar."""
        features = F.normalize(inputs.student.features[self.stage][:2], dim=-1)
        subject_ids = inputs.batch.subjects
        if subject_ids is None:
            subject_ids = -1 - torch.arange(features.shape[1], device=features.device)  # nobody in the queue
        subject_ids = subject_ids.to(features.device, torch.float32)
        if self.training:
            self.queue.accumulate(features.flatten(0, 1))
            known = subject_ids if inputs.batch.subjects is not None else torch.full_like(subject_ids, float("nan"))
            self.subject_ids.accumulate(known.repeat(len(features))[:, None])
        others, other_ids = self.queue.kept().to(features.dtype), self.subject_ids.kept()[:, 0]
        return torch.stack([koleo(view, others, subject_ids, other_ids) for view in features]).mean()
