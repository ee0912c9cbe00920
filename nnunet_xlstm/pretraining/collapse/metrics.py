"""Metrics of collapse: measures of the teacher's features and targets, epoch by epoch.

Measures: entropies after DINO (Caron et al. 2021, section 5.2: a target is uniform, or one prototype takes all);
spread of normalized features after SimSiam (Chen and He 2021, section 4.1); effective rank after RankMe (Garrido et al.
2023, eq. 1).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_xlstm.config.pretraining import GuardKeys

MEASURES = (
    "entropy_mean_target", "mean_entropy_target", "top1_share", "teacher_student_kl", "feature_sd", "embedding_sd",
    "effective_rank", "mean_cosine", "view_cosine", "least_entropy_mean_target",
)  # fmt: skip


@dataclass(kw_only=True)
class TargetStatistics:
    """Measures of the 2 B targets of the last stage in one step.

    Attributes:
        total: (K,), the sum of the targets.
        entropy: summed, in nats.
        divergence: summed KL to the student's distribution of the other view, in nats.
        prototypes: (2 B,), the likeliest prototype of each.
    """

    total: Tensor
    entropy: Tensor
    divergence: Tensor
    prototypes: Tensor

    @classmethod
    def join(cls, parts: Sequence[TargetStatistics]) -> TargetStatistics:
        """Join those of several micro-batches."""
        return cls(
            total=torch.stack([part.total for part in parts]).sum(0),
            entropy=torch.stack([part.entropy for part in parts]).sum(0),
            divergence=torch.stack([part.divergence for part in parts]).sum(0),
            prototypes=torch.cat([part.prototypes for part in parts]),
        )


@dataclass
class StepStatistics:
    """What one step showed of B images.

    Attributes:
        features: (B, 2, C), pooled last map of both global views; the teacher's, or the student's where no objective
            needs a teacher.
        embeddings: (B, 2, E) of the last stage's head, or None.
        targets: of the last stage; None where nothing has prototypes.
        heads: of every head with prototypes, by name, the mean target (K,).
    """

    features: Tensor
    embeddings: Tensor | None = None
    targets: TargetStatistics | None = None
    heads: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        features: Tensor,
        embeddings: Tensor | None,
        log_q: Tensor | None,
        log_p: Tensor | None,
        heads: dict[str, Tensor] | None = None,
    ) -> StepStatistics:
        """Make them of what student and teacher returned.

        Args:
            features: (2, B, C).
            embeddings: (2, B, E), or None.
            log_q: the teacher's log-probabilities (2, B, K), or None.
            log_p: the student's, likewise.
            heads: by name, the mean target (K,).
        """
        features = features.detach()  # the student's, where there is no teacher: keep no graph
        targets = None
        if log_q is not None and log_p is not None:
            q = log_q.exp()
            plogp = (q * log_q).sum()
            targets = TargetStatistics(
                total=q.sum((0, 1)),
                entropy=-plogp,
                divergence=plogp - (q.flip(0) * log_p).sum(),
                prototypes=log_q.argmax(-1).flatten(),
            )
        embeddings = None if embeddings is None else embeddings[:2].detach().transpose(0, 1)
        return cls(features.transpose(0, 1), embeddings, targets, heads or {})

    @classmethod
    def join(cls, parts: Sequence[StepStatistics]) -> StepStatistics:
        """Join those of several micro-batches; all have the same measures."""
        embeddings = [part.embeddings for part in parts if part.embeddings is not None]
        targets = [part.targets for part in parts if part.targets is not None]
        return cls(
            torch.cat([part.features for part in parts]),
            torch.cat(embeddings) if embeddings else None,
            TargetStatistics.join(targets) if targets else None,
            {name: torch.stack([part.heads[name] for part in parts]).mean(0) for name in parts[0].heads},
        )


class CollapseMetrics:
    """Keeps the last `monitor_vectors` vectors and measures them once an epoch.

    It is no part of a run's state: after a resume it fills anew.
    """

    def __init__(self, config: GuardKeys):
        self.size = config.monitor_vectors
        self._steps: deque[tuple[StepStatistics, list[str]]] = deque()
        self._n = 0

    def add(self, statistics: StepStatistics, keys: Sequence[str]) -> None:
        """Take in a step; `keys` names its B images in order.

        Raises:
            ValueError: another number of keys than images.
        """
        n = len(statistics.features)
        if len(keys) != n:
            raise ValueError(f"{len(keys)} keys for {n} images; give one key per image of the step")
        self._steps.append((statistics, list(keys)))
        self._n += 2 * n
        while len(self._steps) > 1 and self._n - 2 * len(self._steps[0][1]) >= self.size:
            self._n -= 2 * len(self._steps.popleft()[1])

    def vectors(self) -> tuple[Tensor, list[str]]:
        """Return features (n, C) of one view per image, on the CPU, and the keys of the images."""
        features = torch.cat([statistics.features[:, 0] for statistics, _ in self._steps]).float().cpu()
        return features, [key for _, keys in self._steps for key in keys]

    def epoch(self) -> dict[str, float | None]:
        """Return measures by name, None where there is nothing to measure.

        entropy_mean_target: entropy of the mean target / log K, near 0 if one prototype takes all.
        mean_entropy_target: mean entropy of the targets / log K, near 1 if they are uniform.
        least_entropy_mean_target: the least entropy_mean_target of all heads (of stages, and of the dense objective).
        top1_share: share of targets whose likeliest prototype is the commonest one.
        teacher_student_kl: of a view's target from the student's distribution of the other view, in nats.
        feature_sd, embedding_sd: of normalized vectors about the mean of their step, times sqrt(dimensions); 1 for
            random directions, 0 if an encoder gives all images of a step the same, however it drifts between steps.
        effective_rank: RankMe of the features. mean_cosine: of pairs of features. view_cosine: of the two views of an
            image. n_vectors: measured.
        """
        values: dict[str, float | None] = dict.fromkeys(MEASURES)
        values["n_vectors"] = self._n
        if not self._steps:
            return values
        steps = [statistics for statistics, _ in self._steps]
        statistics = StepStatistics.join(steps)
        features = F.normalize(statistics.features.flatten(0, 1).cpu().double(), dim=-1)
        values["feature_sd"] = _spread_within_steps([step.features for step in steps])
        values["effective_rank"] = effective_rank(features)
        values["mean_cosine"] = mean_cosine(features)
        values["view_cosine"] = float((features[::2] * features[1::2]).sum(1).mean())
        if statistics.embeddings is not None:
            values["embedding_sd"] = _spread_within_steps([s.embeddings for s in steps if s.embeddings is not None])
        if statistics.heads:
            values["least_entropy_mean_target"] = min(
                float(torch.special.entr(mean.cpu().double()).sum()) / math.log(len(mean))
                for mean in statistics.heads.values()
            )
        if (targets := statistics.targets) is not None:
            log_k = math.log(len(targets.total))
            mean = targets.total.cpu().double() / self._n
            values["entropy_mean_target"] = float(torch.special.entr(mean).sum()) / log_k
            values["mean_entropy_target"] = float(targets.entropy) / self._n / log_k
            values["top1_share"] = float(targets.prototypes.bincount().max()) / self._n
            values["teacher_student_kl"] = float(targets.divergence) / self._n
        return values


def spread(unit: Tensor) -> float:
    """Return the standard deviation over vectors (n, d), mean over dimensions, times sqrt(d)."""
    return float(unit.std(0, correction=0).mean()) * math.sqrt(unit.shape[1])


def _spread_within_steps(steps: Sequence[Tensor]) -> float:
    """Return the spread of normalized vectors about the mean of their step; all together if steps hold one image.

    Args:
        steps: of each, (B, 2, d).
    """
    groups = list(
        F.normalize(torch.cat([x.flatten(0, 1) for x in steps]).cpu().double(), dim=-1).split(
            [2 * len(x) for x in steps]
        )
    )
    groups = [group for group in groups if len(group) > 2] or [torch.cat(groups)]
    squares = sum((group - group.mean(0)).square().sum(0) for group in groups)
    variance = squares / sum(len(group) - 1 for group in groups)
    return float(variance.sqrt().mean()) * math.sqrt(len(variance))


def effective_rank(x: Tensor) -> float:
    """Return exp of the entropy of the singular values of x (n, d), normalized to sum 1 (RankMe)."""
    singular = torch.linalg.svdvals(x)
    share = singular / singular.sum().clamp_min(1e-12)
    return math.exp(float(torch.special.entr(share).sum()))


def mean_cosine(unit: Tensor) -> float | None:
    """Return the mean cosine of pairs of different vectors (n, d) of unit length; None for fewer than two."""
    n = len(unit)
    return None if n < 2 else float((unit.sum(0).square().sum() - unit.square().sum()) / (n * (n - 1)))


def knn_accuracy(features: Tensor, labels: Sequence[str], groups: Sequence[str], k: int = 10) -> float | None:
    """Return the share of vectors whose k nearest vectors (cosine) of other groups name their label by majority.

    Args:
        features: (n, d).
        labels: of each vector, such as its modality.
        groups: of each, such as its subject; a vector never has a vote of its own group.
        k: voters. Ties go to the label of the nearest.

    Returns:
        None where there are fewer than two labels, or no vector with a voter.
    """
    if len(set(labels)) < 2:
        return None
    unit = F.normalize(features.double(), dim=-1)
    numbers = {group: i for i, group in enumerate(set(groups))}
    group_ids = torch.tensor([numbers[group] for group in groups])
    names = sorted(set(labels))
    label_ids = torch.tensor([names.index(name) for name in labels])
    similarity = unit @ unit.T
    similarity[group_ids[:, None] == group_ids] = -math.inf
    nearest, places = similarity.topk(min(k, len(unit)), 1)
    valid = nearest > -math.inf
    votes = torch.zeros(len(unit), len(names), dtype=torch.double)
    weights = valid.double() * (1 + 1e-6 * 0.5 ** torch.arange(valid.shape[1]))  # the nearest voter decides a tie
    votes.scatter_add_(1, label_ids[places], weights)
    judged = valid.any(1)
    return float((votes.argmax(1) == label_ids)[judged].double().mean()) if judged.any() else None
