"""Sums and collections over the processes of a distributed run; the identity where there is one process.

Every rank must make the same calls in the same order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def is_distributed() -> bool:
    """Whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(x: Tensor) -> Tensor:
    """Sum of x over all ranks; x itself is overwritten."""
    if is_distributed():
        dist.all_reduce(x)
    return x


def gather_rows(x: Tensor) -> tuple[Tensor, int]:
    """Rows of all ranks, (sum of n, D), and the index of this rank's first row. Ranks may differ in their n.

    Without gradient. x: (n, D).
    """
    if not is_distributed():
        return x, 0
    counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    n = [int(c) for c in counts]
    padded = x.new_zeros(max(n), x.shape[1])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in n]
    dist.all_gather(parts, padded)
    return torch.cat([part[:k] for part, k in zip(parts, n, strict=True)]), sum(n[: dist.get_rank()])
