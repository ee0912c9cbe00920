"""Sums and collections over the processes of a distributed run; the identity where there is one process.

Every rank must make the same calls in the same order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def is_distributed() -> bool:
    """Return whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(x: Tensor) -> Tensor:
    """Return the sum of x over all ranks; x itself is overwritten."""
    if is_distributed():
        dist.all_reduce(x)
    return x


def mean_over_ranks(value: float, device: torch.device) -> float:
    """Return the mean of a number over all ranks.

    Args:
        value: of this rank.
        device: of this rank's tensors.
    """
    if not is_distributed():
        return value
    return sum_over_ranks(torch.tensor(value, device=device)).item() / dist.get_world_size()


class RowGatherer:
    """Collects rows of all ranks, which may differ in how many they have.

    The numbers of rows are exchanged, and waited for, when this rank comes with a number for the first time; the ranks'
    shares of a batch are taken to stay what they were.
    """

    def __init__(self) -> None:
        self._counts: dict[int, list[int]] = {}

    def __call__(self, x: Tensor) -> tuple[Tensor, int]:
        """Return the rows of all ranks, (sum of n, D), without gradient, and the index of this rank's first row.

        Args:
            x: (n, D).
        """
        if not is_distributed():
            return x, 0
        counts = self._counts.get(len(x))
        if counts is None:
            own = torch.tensor([len(x)], device=x.device)
            of_ranks = [torch.zeros_like(own) for _ in range(dist.get_world_size())]
            dist.all_gather(of_ranks, own)
            counts = self._counts[len(x)] = torch.cat(of_ranks).tolist()
        padded = x.new_zeros(max(counts), x.shape[1])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)]), sum(counts[: dist.get_rank()])
