"""State that changes once per optimizer step, and a queue of vectors made of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnunet_xlstm.pretraining.distributed import RowGatherer


class StepState(nn.Module):
    """Remembers what the forward calls of a step give and takes it over at the step's end.

    All micro-batches of a step so see the state before the step. What is remembered is not part of the state dict:
    a run is saved between steps.
    """

    def end_step(self) -> None:
        """Take over what was accumulated, from all ranks, and forget it: the optimizer has stepped."""

    def discard_step(self) -> None:
        """Forget what was accumulated, and change nothing: the optimizer did not step."""


class VectorQueue(StepState):
    """The last `size` vectors of the steps before, of all ranks, oldest overwritten first.

    Args:
        size: vectors kept; 0 keeps none.
        dim: their length.
    """

    vectors: Tensor
    pushed: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.size = size
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))  # in all, since the start
        self._pushed: int | None = 0  # the same number, known without waiting for the device
        self._pending: list[Tensor] = []
        self._gather = RowGatherer()

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._pushed = None

    def _count(self) -> int:
        if self._pushed is None:
            self._pushed = int(self.pushed)
        return self._pushed

    def kept(self) -> Tensor:
        """Return (n, dim) vectors, n <= size, in no particular order: a view, which changes with the next push."""
        return self.vectors[: min(self._count(), self.size)]

    def accumulate(self, vectors: Tensor) -> None:
        """Note vectors (n, dim) for the end of the step."""
        if self.size:
            self._pending.append(vectors.detach())

    @torch.no_grad()
    def push(self, vectors: Tensor) -> None:
        """Write vectors (n, dim) over the oldest ones; of more than `size`, the last ones stay."""
        count = self._count()
        n = len(vectors)
        last = vectors[-self.size :]
        places = torch.arange(count + n - len(last), count + n, device=self.vectors.device) % self.size
        self.vectors[places] = last.to(self.vectors.dtype)
        self._pushed = count + n
        self.pushed.fill_(self._pushed)

    def end_step(self) -> None:
        """Push the vectors of the step, of all ranks."""
        if self._pending:
            self.push(self._gather(torch.cat(self._pending))[0])
        self._pending = []

    def discard_step(self) -> None:
        """Forget the vectors of the step."""
        self._pending = []
