"""Charts of rankings: stability of ranks, and which method is significantly better than which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_xlstm.figures import style
from nnunet_xlstm.statistics.ranking import RankStability

YELLOW, BLUE, EMPTY = "#ffd92f", "#3b5b92", "#eceff2"
LARGEST_DOT = 21.0  # points across


@style.styled()
def rank_stability(names: Sequence[str], stability: RankStability, label: str) -> Figure:
    """Draw a blob plot: a dot per method and rank, its area the share of resamples; the best method on top.

    Args:
        names: of the methods.
        stability: of their ranks.
        label: what was ranked, and how.
    """
    models = len(names)
    frequency, median = stability.frequency, stability.median
    average = frequency @ np.arange(1, models + 1)
    order = np.lexsort((average, median))
    figure = style.new_figure(min(style.WIDTH_INCH, 3.6 + 0.4 * models), 1.15 + 0.37 * models)
    ax = figure.subplots()
    for y, model in enumerate(order):
        shown = np.flatnonzero(frequency[model])
        size = frequency[model, shown] * LARGEST_DOT**2
        ax.scatter(
            shown + 1, np.full(shown.size, y), s=size, color=style.color(model), alpha=0.65, linewidths=0, zorder=2
        )
        ax.plot([stability.low[model], stability.high[model]], [y, y], color=style.TEXT, linewidth=1, zorder=3)
        ax.plot(median[model], y, "x", color=style.TEXT, markersize=6, markeredgewidth=1.4, zorder=4)
    style.method_axis(ax, [names[i] for i in order])
    ax.set_xlim(0.4, models + 0.6)
    ax.set_xticks(range(1, models + 1))
    ax.set_xlabel("rank")
    ax.set_title(style.plain(label), loc="left")
    handles = [_dot(share) for share in (1.0, 0.5, 0.1)]
    handles += [Line2D([], [], color=style.TEXT, marker="x", linewidth=1, markersize=6, markeredgewidth=1.4)]
    texts = ["100 %", "50 %", "10 % of the resamples", "median, 2.5 to 97.5 %"]
    style.legend(figure, handles, texts, loc="outside lower left", ncols=4, handletextpad=0.6, columnspacing=1.2)
    return figure


def _dot(share: float) -> Line2D:
    size = LARGEST_DOT * share**0.5
    return Line2D([], [], marker="o", linestyle="", color=style.SOFT, alpha=0.65, markersize=size, markeredgewidth=0)


@style.styled()
def significance_map(names: Sequence[str], p: np.ndarray, alpha: float, label: str, caption: str) -> Figure:
    """Paint yellow where the method of the row is significantly better than that of the column, else blue.

    Args:
        names: of the methods.
        p: (methods, methods), corrected.
        alpha: level of significance.
        label: what was compared.
        caption: the test, the family of the correction, alpha, what is attainable.
    """
    models = len(names)
    cell = 0.75 if models <= 4 else 0.5
    texts = style.labels(names, 22, 2)
    beside = 0.3 + 0.065 * max(len(line) for text in texts for line in text.split("\n"))
    above = style.labels(names, 28, 1)
    # Slanted labels take 0.046 inches per letter in both directions; those of the last columns stick out.
    slanted = 0.046 * np.array([len(text) for text in above])
    outside = max(0.1, float((slanted - cell * (np.arange(models)[::-1] + 0.5)).max()))
    width = max(4.2, beside + cell * models + outside)
    caption = f"Yellow: the row is significantly better than the column; blue: it is not. {caption}"
    height = cell * models + float(slanted.max()) + 0.13 * len(caption) / (19 * width) + 0.7
    figure = style.new_figure(width, height)
    ax = figure.subplots()
    significant = p < alpha
    state = np.where(np.eye(models, dtype=bool), 2, np.where(significant, 0, 1))
    ax.imshow(state, cmap=ListedColormap([YELLOW, BLUE, EMPTY]), vmin=0, vmax=2)
    for i in range(models):
        for j in range(models):
            if i != j:
                ink = style.TEXT if significant[i, j] else "white"
                ax.text(j, i, p_text(p[i, j]), ha="center", va="center", fontsize=7, color=ink)
    ax.set_xticks(np.arange(models + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(models + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set_yticks(range(models), texts)
    ax.set_xticks(range(models), above, rotation=45, ha="left", rotation_mode="anchor", va="center")
    ax.xaxis.tick_top()
    ax.set_title(style.plain(label), loc="left")
    style.note(figure, caption)
    return figure


def p_text(p: float) -> str:
    """Write p with three decimals, or as a bound."""
    if p < 0.001:
        return "<.001"
    return "1" if p > 0.9995 else f"{p:.3f}"[1:]
