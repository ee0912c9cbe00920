"""Accuracy against one cost as bubbles whose areas are another cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_xlstm.figures import style

LARGEST = 34.0  # points across, of the bubble of the largest cost


@style.styled()
def accuracy_bubbles(
    names: Sequence[str],
    mean: np.ndarray,
    interval: np.ndarray,
    across: np.ndarray,
    area: np.ndarray,
    label: str,
    across_label: str,
    area_label: str,
) -> Figure:
    """Draw one bubble per method: x is a cost, y the score with its interval, the area another cost.

    Args:
        names: of the methods.
        mean: (methods,).
        interval: (2, methods), NaN where there is none.
        across: (methods,), NaN where unknown; a method without all three is not drawn.
        area: (methods,), NaN where unknown; a method without all three is not drawn.
        label: of the accuracy, with the unit.
        across_label: of the cost along x, with the unit.
        area_label: of the cost that is the area, with the unit.

    Raises:
        ValueError: no method has all three.
    """
    shown = [i for i in range(len(names)) if np.isfinite([mean[i], across[i], area[i]]).all() and area[i] > 0]
    if not shown:
        raise ValueError("no method has a score and both costs; draw one of the costs alone")
    texts = style.labels([f"{names[i]} ({area[i]:.3g})" for i in shown], 28, 2)
    columns, legend_height = style.legend_shape(texts, style.WIDTH_INCH)
    figure = style.new_figure(style.WIDTH_INCH, 3.9 + legend_height)
    ax = figure.subplots()
    largest = max(area[i] for i in shown)
    size = {i: LARGEST * (area[i] / largest) ** 0.5 for i in shown}
    for i in sorted(shown, key=lambda i: -area[i]):  # small ones on top
        ax.plot(
            across[i],
            mean[i],
            "o",
            color=style.color(i),
            markersize=size[i],
            alpha=0.75,
            markeredgecolor="white",
            zorder=2,
        )
        if np.isfinite(interval[0, i]):
            ax.plot([across[i]] * 2, interval[:, i], color=style.SOFT, linewidth=1, zorder=3)
        ax.plot(across[i], mean[i], ".", color="black", markersize=3, zorder=4)
    known = across[shown]
    if known.min() > 0 and known.max() > 10 * known.min():
        ax.set_xscale("log")
    ax.margins(x=0.15, y=0.18)
    style.few_ticks(ax, "x", 5)
    style.few_ticks(ax, "y")
    style.clean(ax, "both")
    ax.set_xlabel(style.plain(across_label))
    ax.set_ylabel(style.plain(label))
    handles = [Line2D([], [], color=style.color(i), marker="o", linestyle="", markersize=7) for i in shown]
    style.legend(figure, handles, texts, loc="outside upper left", ncols=columns)
    text = f"Area of a bubble, and in brackets: {area_label}. Dot and line: mean and 95 % bootstrap interval."
    style.note(figure, text, style.WIDTH_INCH)
    return figure
