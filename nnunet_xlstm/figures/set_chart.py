"""A score per data set and method, with the mean over the data sets below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_xlstm.figures import style

SPREAD = 0.62  # of the height of a row, for the markers of its methods


@style.styled()
def scores_per_set(
    names: Sequence[str],
    sets: Sequence[str],
    mean: np.ndarray,
    interval: np.ndarray,
    label: str,
    over: str,
    overall: str = "",
) -> Figure:
    """Draw one row per data set, one marker with its interval per method.

    Args:
        names: of the methods.
        sets: names of the data sets.
        mean: (sets, methods), NaN where unknown.
        interval: (2, sets, methods), NaN where there is none.
        label: of the axis, with the unit.
        over: what was resampled for the intervals.
        overall: what the last row is instead of a data set, such as "mean over the data sets"; a line parts it.
    """
    texts = style.labels(names, 28, 2)
    columns, legend_height = style.legend_shape(texts, style.WIDTH_INCH)
    row_inch = max(0.34, 0.13 * len(names) + 0.12)
    figure = style.new_figure(style.WIDTH_INCH, 0.9 + row_inch * len(mean) + legend_height)
    ax = figure.subplots()
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, len(names)) if len(names) > 1 else [0.0]
    for m, offset in enumerate(offsets):
        for row, value in enumerate(mean[:, m]):
            low, high = interval[:, row, m]
            if np.isfinite(low):
                ax.plot([low, high], [row + offset] * 2, color=style.color(m), linewidth=1.4, solid_capstyle="butt")
            if np.isfinite(value):
                ax.plot(
                    value, row + offset, style.marker(m), color=style.color(m), markersize=5, markeredgecolor="white"
                )
    if overall:
        ax.axhline(len(sets) - 0.5, color=style.SOFT, linewidth=0.8)
    style.method_axis(ax, [*sets, *([overall] if overall else [])])
    style.few_ticks(ax, "x")
    style.clean(ax, "x")
    ax.set_xlabel(style.plain(label))
    handles = [Line2D([], [], color=style.color(m), marker=style.marker(m), markersize=5) for m in range(len(names))]
    style.legend(figure, handles, texts, loc="outside upper left", ncols=columns)
    below = f" The last row is the {overall}, each counting the same." if overall else ""
    style.note(figure, f"Marker and line: mean and 95 % bootstrap interval over {over}.{below}", style.WIDTH_INCH)
    return figure
