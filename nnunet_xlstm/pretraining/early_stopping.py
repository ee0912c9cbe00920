"""When a pre-training run has nothing more to gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean


def has_stopped_falling(losses: Sequence[float], patience: int) -> bool:
    """Tell whether the loss has come to rest.

    Teacher and student begin as one network, so the first losses are low, rise as the student moves away, and fall as
    it learns: what came before the highest loss counts for nothing. After it, `patience` epochs have to pass without a
    new lowest loss, and their later half must lie no lower than their earlier half: a loss that still falls through
    its noise goes on. A loss that only rises goes on too, since with a moving teacher it may do so while it learns.

    Args:
        losses: of every epoch so far, the first one first. NaN counts as an epoch without a gain.
        patience: epochs.
    """
    highest = max(range(len(losses)), key=lambda i: _finite(losses[i], -math.inf), default=0)
    since = [_finite(loss, math.inf) for loss in losses[highest:]]
    if len(since) <= patience:
        return False
    before, window = since[:-patience], since[-patience:]
    if min(window) < min(before):
        return False
    half = patience // 2
    earlier, later = window[:half], window[len(window) - half :]
    return not half or fmean(later) >= fmean(earlier)


def _finite(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise
