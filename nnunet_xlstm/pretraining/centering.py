"""What the teacher's prototype scores become: the distribution that the student has to match.

The papers' "Center(z) subtracts the mean of the vector" (3D-Heart_Seg, 3D-SegSync App. C) changes nothing under a
softmax; it is kept as `per_vector` for the test that proves so. What prevents collapse is DINO's running center
(Caron et al. 2021, eq. 4) or Sinkhorn-Knopp (Caron et al. 2020, SwAV; DINOv2). A new target is one class and one row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_xlstm.config.pretraining import TeacherKeys
from nnunet_xlstm.pretraining.distributed import RowGatherer, sum_over_ranks
from nnunet_xlstm.pretraining.step_state import StepState, VectorQueue


class Target(StepState):
    """softmax(logits / temperature), without any center (`none`). Base of the others.

    Args:
        n_prototypes: K.
        config: TeacherKeys.
    """

    def __init__(self, n_prototypes: int, config: TeacherKeys):
        super().__init__()

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Return log-probabilities (..., K) in float32 or wider of the teacher's logits (..., K).

        With the state before this step; in training mode the logits are remembered for `end_step`.
        """
        return torch.log_softmax(logits / temperature, -1)


class PerVectorCenter(Target):
    """Subtracts each vector's own mean: no effect, and nothing against collapse."""

    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Return log-probabilities as `Target.forward` does."""
        return super().forward(logits - logits.mean(-1, keepdim=True), temperature)


class RunningCenter(Target):
    """softmax((logits - c) / temperature); after each step c <- m c + (1 - m) mean of the step's logits.

    The mean is over all vectors of all micro-batches and ranks, so accumulation is exact.
    """

    center: Tensor

    def __init__(self, n_prototypes: int, config: TeacherKeys):
        super().__init__(n_prototypes, config)
        self.momentum = config.center_momentum
        self.register_buffer("center", torch.zeros(n_prototypes))
        self._sum: Tensor | None = None  # K sums, then the number of vectors

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Return log-probabilities as `Target.forward` does, about the running center."""
        if self.training:
            flat = logits.flatten(0, -2)
            total = torch.cat((flat.sum(0), flat.new_full((1,), len(flat))))
            self._sum = total if self._sum is None else self._sum + total
        return super().forward(logits - self.center, temperature)

    @torch.no_grad()
    def end_step(self) -> None:
        """Move the center to the mean of the step's logits, over all ranks."""
        if self._sum is not None:
            total = sum_over_ranks(self._sum)
            self.center.lerp_((total[:-1] / total[-1]).to(self.center.dtype), 1 - self.momentum)
        self._sum = None

    def discard_step(self) -> None:
        """Forget the logits of the step."""
        self._sum = None


class SinkhornTarget(Target):
    """Assignments that use all prototypes equally, over this batch (of all ranks) and a queue of earlier logits.

    With fewer vectors than prototypes an equal split is impossible; the queue makes up for a small batch.
    """

    def __init__(self, n_prototypes: int, config: TeacherKeys):
        super().__init__(n_prototypes, config)
        self.queue = VectorQueue(config.queue_size, n_prototypes)
        self._gather = RowGatherer()

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Return log-probabilities as `Target.forward` does, by assignment among all vectors known."""
        flat = logits.flatten(0, -2)
        if self.training:
            self.queue.accumulate(flat)
        rows, first = self._gather(flat)
        scores = torch.cat((rows, self.queue.kept().to(rows.dtype)))
        return sinkhorn(scores / temperature)[first : first + len(flat)].view_as(logits)

    def end_step(self) -> None:
        """Put the logits of the step into the queue."""
        self.queue.end_step()

    def discard_step(self) -> None:
        """Forget the logits of the step."""
        self.queue.discard_step()


def sinkhorn(scores: Tensor, iterations: int = 3) -> Tensor:
    """Return the log of the Sinkhorn-Knopp assignment of exp(scores), (B, K): rows sum to 1, columns to about B / K.

    Each iteration scales columns to 1 / K, then rows to 1 / B (Cuturi 2013; order as in DINOv2). In logarithms, so that
    no prototype's share underflows to 0 / 0 at low temperatures.
    """
    log_q = scores
    for _ in range(iterations):
        log_q = log_q - torch.logsumexp(log_q, 0, keepdim=True)
        log_q = log_q - torch.logsumexp(log_q, 1, keepdim=True)
    return log_q


TARGETS: dict[str, type[Target]] = {
    "running": RunningCenter,
    "sinkhorn": SinkhornTarget,
    "per_vector": PerVectorCenter,
    "none": Target,
}
