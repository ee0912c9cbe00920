"""Schedules of semi-supervised training: numbers as functions of the step, so a resumed run has nothing to restore."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nnunet_xlstm.config.semi import SemiKeys
from nnunet_xlstm.pretraining.schedules import cosine


@dataclass(frozen=True)
class SemiSchedule:
    """What step `step`, from 0, of a run of `total` steps uses."""

    config: SemiKeys
    total: int

    @property
    def start(self) -> int:
        """Return the first step with unlabelled images."""
        return round(self.config.pretrain_fraction * self.total)

    def uses_unlabelled(self, step: int) -> bool:
        """Return whether this step takes unlabelled images."""
        return self.config.needs_unlabelled and step >= self.start

    def weight(self, step: int) -> float:
        """Return the weight of the unlabelled images: exp(-5 (1 - t)^2) up to its height (Laine and Aila 2017)."""
        if not self.uses_unlabelled(step):
            return 0.0
        ramp = self.config.ramp_fraction * self.total
        progress = min((step - self.start) / ramp, 1.0) if ramp else 1.0
        return self.config.unlabelled_weight * math.exp(-5 * (1 - progress) ** 2)

    def momentum(self, step: int) -> float:
        """Return the share of the teacher that stays after this step.

        A cosine from teacher_momentum to teacher_momentum_end, at most 1 - 1 / (k + 1) in the k-th step with unlabelled
        images (Tarvainen and Valpola 2017), and 0 before: the teacher then is the student.
        """
        k = step - self.start
        if k <= 0:
            return 0.0
        height = cosine(self.config.teacher_momentum, self.config.teacher_momentum_end, k, self.total - self.start)
        return min(1 - 1 / (k + 1), height)
