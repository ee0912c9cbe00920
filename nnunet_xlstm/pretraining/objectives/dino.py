"""The cross-view objective: the student's prototypes of one view against the teacher's of another (DINO)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.pretraining.branch import EncoderFeatureInfo
from nnunet_xlstm.pretraining.centering import TARGETS
from nnunet_xlstm.pretraining.objectives.base import Objective, ObjectiveInputs


def pairwise_divergences(log_q: Tensor, log_p: Tensor, divergence: str) -> Tensor:
    """Compute the divergence of every teacher view from every student view, mean over the batch.

    Args:
        log_q: the teacher's log-probabilities (T, B, K), without gradient.
        log_p: the student's (S, B, K).
        divergence: ce: -sum q log p; kl: sum q log(q/p) = ce - H(q), the same gradient; reverse_kl: sum p log(p/q); js:
            (KL(q|m) + KL(p|m)) / 2 with m = (p + q) / 2.

    Returns:
        (T, S).
    """
    n = log_q.shape[1]
    q = log_q.exp()
    if divergence in ("ce", "kl"):
        ce = -(q.flatten(1) @ log_p.flatten(1).T) / n
        return ce if divergence == "ce" else ce + (q * log_q).sum((1, 2))[:, None] / n
    rows = []
    for lq in log_q:
        if divergence == "reverse_kl":
            row = (log_p.exp() * (log_p - lq)).sum((1, 2))
        else:
            log_m = torch.logaddexp(lq, log_p) - math.log(2)
            row = (lq.exp() * (lq - log_m) + log_p.exp() * (log_p - log_m)).sum((1, 2)) / 2
        rows.append(row / n)
    return torch.stack(rows)


def mean_over_pairs(distances: Tensor) -> Tensor:
    """Average (T, S) over pairs of different views; the T teacher views are the first T of the S student views.

    Raises:
        ConfigError: if no pair of different views is left.
    """
    n_teacher, n_student = distances.shape
    n_pairs = n_teacher * n_student - min(n_teacher, n_student)
    if not n_pairs:
        raise ConfigError(
            f"{n_student} student and {n_teacher} teacher views: no pair of different views; give two global views"
        )
    return (distances.sum() - distances.diagonal().sum()) / n_pairs


class DINOObjective(Objective):
    """Mean over stages, and over pairs of different views, of the divergence of the distributions over prototypes.

    L = (l(z_1, q'_2) + l(z_2, q'_1)) / 2 in 3D-Heart_Seg and 3D-SegSync (App. C), with q' centered as `centering` says.
    """

    @classmethod
    def needs(cls, config: PretrainingConfig) -> set[str]:
        """Need the teacher, prototypes of pooled features, and local views."""
        return {"teacher", "embedding", "logits", "local"}

    def __init__(self, feature_info: EncoderFeatureInfo, config: PretrainingConfig):
        super().__init__(feature_info, config)
        self.divergence = config.divergence
        self.student_temperature = config.student_temperature
        self.targets = nn.ModuleDict(
            {
                str(s): TARGETS[config.centering](feature_info.n_prototypes(s, config), config)
                for s in feature_info.stages
            }
        )

    def forward(self, inputs: ObjectiveInputs) -> Tensor:
        """Compute the term, a scalar."""
        terms = []
        for stage, target in self.targets.items():
            log_q = target(inputs.teacher_outputs.logits[int(stage)], inputs.teacher_temperature)
            log_p = torch.log_softmax(inputs.student.logits[int(stage)] / self.student_temperature, -1)
            terms.append(mean_over_pairs(pairwise_divergences(log_q, log_p, self.divergence)))
            inputs.targets[f"dino {stage}"] = log_q.exp().flatten(0, -2).mean(0)
        inputs.observed["log_q"] = log_q  # of the last stage
        inputs.observed["log_p"] = log_p.detach()[: len(log_q)]
        return torch.stack(terms).mean()
