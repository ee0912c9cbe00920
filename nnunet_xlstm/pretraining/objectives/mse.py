"""Squared distance between two views of an image: |a - b|^2 = 2 - 2 cos of unit vectors.

"MSE" of 3D-Heart_Seg and 3D-SegSync, whose papers do not say of what; BYOL's loss (Grill et al. 2020) without its
predictor. Alone it can collapse.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.pretraining.branch import EncoderFeatureInfo
from nnunet_xlstm.pretraining.objectives.base import Objective, ObjectiveInputs
from nnunet_xlstm.pretraining.objectives.dino import mean_over_pairs


class MSEObjective(Objective):
    """Mean over stages and over pairs of different views, every student view against every teacher view."""

    @classmethod
    def needs(cls, config: PretrainingConfig) -> set[str]:
        """Need the teacher and local views, and embeddings where they are compared."""
        return {"teacher", "local"} | ({"embedding"} if config.mse_on == "embedding" else set())

    def __init__(self, feature_info: EncoderFeatureInfo, config: PretrainingConfig):
        super().__init__(feature_info, config)
        self.stages = feature_info.stages
        self.on_embedding = config.mse_on == "embedding"

    def forward(self, inputs: ObjectiveInputs) -> Tensor:
        """Compute the term, a scalar."""
        both = inputs.student, inputs.teacher_outputs
        terms = []
        for stage in self.stages:
            if self.on_embedding:
                s, t = (outputs.embeddings[stage] for outputs in both)
            else:
                s, t = (F.normalize(outputs.features[stage], dim=-1) for outputs in both)
            cosines = t.flatten(1) @ s.flatten(1).T / t.shape[1]  # (T, S), mean over the batch
            terms.append(mean_over_pairs(2 - 2 * cosines))
        return torch.stack(terms).mean()
