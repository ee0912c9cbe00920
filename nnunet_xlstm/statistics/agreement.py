"""Agreement of two measurements of the same quantity (Bland and Altman, Lancet 1986)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Over the pairs of finite numbers; NaN where there are too few, or no spread.

    Attributes:
        n: pairs.
        bias: mean of measured - reference.
        sd: of these differences (ddof 1).
        low: lower limit of agreement, bias - 1.96 SD.
        high: upper limit of agreement, bias + 1.96 SD.
        mean_absolute: mean of |measured - reference|.
        r: Pearson's, of three pairs or more.
        r2: 1 - sum (measured - reference)^2 / sum (reference - its mean)^2: about the identity line, not a fitted one.
    """

    n: int
    bias: float
    sd: float
    low: float
    high: float
    mean_absolute: float
    r: float
    r2: float


def agreement(measured: Sequence[float] | np.ndarray, reference: Sequence[float] | np.ndarray) -> Agreement:
    """Compare two (n,) series; a pair with a value that is not finite is left out.

    Raises:
        ValueError: series of different lengths.
    """
    pairs = np.array([measured, reference], dtype=float)
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    values, truth = pairs
    n, difference = truth.size, values - truth
    bias = float(difference.mean()) if n else math.nan
    sd = float(difference.std(ddof=1)) if n > 1 else math.nan
    squares = float(((truth - truth.mean()) ** 2).sum()) if n else 0.0
    has_spread = n > 2 and bool((np.ptp(pairs, axis=1) > 0).all())
    return Agreement(
        n=n,
        bias=bias,
        sd=sd,
        low=bias - 1.96 * sd,
        high=bias + 1.96 * sd,
        mean_absolute=float(np.abs(difference).mean()) if n else math.nan,
        r=float(np.corrcoef(pairs)[0, 1]) if has_spread else math.nan,
        r2=1 - float((difference**2).sum()) / squares if squares > 0 else math.nan,
    )
