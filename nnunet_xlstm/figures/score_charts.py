"""Charts of scores: every case, mean and interval per method; boxes per class; means per data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunet_xlstm.figures import style

BOXES_PER_ROW = 30
SPREAD = 0.62  # of the height of a row, for the markers of its methods
LONG_TAIL = 6.0  # largest value / median from which an axis is logarithmic


@dataclass(frozen=True)
class Panel:
    """One metric of every method.

    Attributes:
        label: of the axis, with the unit.
        values: (methods, cases), NaN where unknown.
        mean: (methods,).
        interval: (2, methods), NaN where there is none.
    """

    label: str
    values: np.ndarray
    mean: np.ndarray
    interval: np.ndarray


@style.styled()
def scores_per_method(names: Sequence[str], panels: Sequence[Panel], over: str = "cases") -> Figure:
    """Draw a panel per metric (two per row): a dot per case, mean and interval, one row per method.

    Args:
        names: of the methods.
        panels: one per metric.
        over: what the dots are, such as "subjects".
    """
    rows = math.ceil(len(panels) / 2)
    height = 0.75 + 0.36 * len(names)
    figure = style.new_figure(style.WIDTH_INCH, rows * height + 0.3)
    axes = figure.subplots(rows, min(len(panels), 2), squeeze=False)
    for i, ax in enumerate(axes.ravel()):
        if i >= len(panels):
            ax.set_axis_off()
            continue
        _draw_scores(ax, panels[i])
        style.method_axis(ax, names, show=i % 2 == 0)
        style.value_axis(ax, "x", panels[i].label)
    style.note(figure, f"Dots: {over}. Marker and line: mean and 95% bootstrap interval of the mean.")
    return figure


def _draw_scores(ax: Axes, panel: Panel) -> None:
    rng = np.random.default_rng(0)
    cases = panel.values.shape[1]
    for model, row in enumerate(panel.values):
        row = row[np.isfinite(row)]
        jitter = rng.uniform(-0.22, 0.22, row.size)
        size, alpha = (9, 0.45) if cases <= 100 else (4, 0.25)
        ax.scatter(row, model + jitter, s=size, alpha=alpha, color=style.color(model), linewidths=0)
        mean = panel.mean[model]
        if not np.isfinite(mean):
            continue
        low, high = panel.interval[:, model]
        if np.isfinite(low):
            ax.plot([low, high], [model, model], color=style.TEXT, linewidth=1.6, solid_capstyle="butt", zorder=4)
        ax.plot(
            mean,
            model,
            style.marker(model),
            color=style.color(model),
            markersize=6,
            markeredgecolor=style.TEXT,
            zorder=5,
        )
    _long_tail(ax, panel.values, "x")


def _long_tail(ax: Axes, values: np.ndarray, axis: str) -> None:
    """Make the axis logarithmic where a few far outliers (an empty prediction) would press all others together.

    Shares such as Dice end at 1 and stay as they are: 0.01 and 0.1 are both failures, however far apart.
    """
    known = values[np.isfinite(values)]
    if not known.size or known.max() <= 1 or known.min() < 0 or not 0 < LONG_TAIL * np.median(known) < known.max():
        return
    start = 10.0 ** math.floor(math.log10(np.median(known)))
    set_scale, set_limits = getattr(ax, f"set_{axis}scale"), getattr(ax, f"set_{axis}lim")
    if known.min() > start / 2:
        set_scale("log")
        set_limits(known.min() / 1.3, known.max() * 1.3)
    else:
        set_scale("symlog", linthresh=start, linscale=0.5)
        set_limits(0, known.max() * 1.4)


@style.styled()
def boxes_per_class(
    names: Sequence[str], classes: Sequence[str], values: np.ndarray, label: str, over: str = "cases"
) -> Figure:
    """Draw a box per class and method with N under it; where nothing is known there is a gap.

    Args:
        names: of the methods.
        classes: names of the classes.
        values: (methods, cases, classes), NaN where unknown.
        label: of the axis, with the unit.
        over: what the values are of, such as "subjects".
    """
    models = len(names)
    per_row = max(1, min(len(classes), BOXES_PER_ROW // (models + 1)))
    rows = math.ceil(len(classes) / per_row)
    names = style.labels(names, 28, 2)
    handles = [Patch(facecolor=style.color(i), edgecolor=style.TEXT, linewidth=0.6) for i in range(models)]
    figure = style.figure_with_legend(names, handles if models > 1 else [], 2.1 * rows + 0.4)
    axes = figure.subplots(rows, 1, squeeze=False, sharey=True)[:, 0]
    for row, ax in enumerate(axes):
        shown = range(row * per_row, min((row + 1) * per_row, len(classes)))
        _draw_boxes(ax, [classes[c] for c in shown], values[:, :, list(shown)], per_row)
        style.value_axis(ax, "y", label)
    style.note(
        figure,
        f"Under each box: the number of {over} with a value; a gap where there is none. Box: quartiles and median; "
        "whiskers: up to 1.5 interquartile ranges; diamond: mean."
        + (" From left to right in the order of the legend." if models > 1 else f" {style.plain(names[0])}."),
    )
    return figure


def _draw_boxes(ax: Axes, classes: Sequence[str], values: np.ndarray, per_row: int) -> None:
    models = len(values)
    step = models + 1.0
    below: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top"}
    below["xycoords"] = ax.get_xaxis_transform()
    for c, name in enumerate(classes):
        for model in range(models):
            known = values[model, :, c]
            known = known[np.isfinite(known)]
            x = c * step + model
            ax.annotate(str(known.size), (x, 0), (0, -3), fontsize=6, color=style.SOFT, **below)
            if known.size:
                _box(ax, known, x, style.color(model))
        text = "\n".join(style.labels([name], max(8, int(100 / per_row))))
        ax.annotate(text, (c * step + (models - 1) / 2, 0), (0, -13), **below)
        if c:
            ax.axvline(c * step - 1, color=style.SOFT, linewidth=0.4, linestyle=":")
    spare = max(0.0, 8 - per_row * step) / 2  # a single box need not fill the width
    ax.set_xlim(-1 - spare, per_row * step - 1 + spare)
    ax.set_xticks([])
    _long_tail(ax, values, "y")


def _box(ax: Axes, known: np.ndarray, x: float, fill: str) -> None:
    ax.boxplot(
        [known],
        positions=[x],
        widths=0.72,
        patch_artist=True,
        showmeans=True,
        manage_ticks=False,
        boxprops={"facecolor": fill, "edgecolor": style.TEXT, "linewidth": 0.6, "alpha": 0.75},
        medianprops={"color": style.TEXT, "linewidth": 1.2},
        whiskerprops={"color": style.TEXT, "linewidth": 0.6},
        capprops={"color": style.TEXT, "linewidth": 0.6},
        meanprops={"marker": "D", "markersize": 3, "markerfacecolor": "white", "markeredgecolor": style.TEXT},
        flierprops={"marker": ".", "markersize": 2.5, "markerfacecolor": style.TEXT, "markeredgecolor": "none"},
    )


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
    handles = [style.key(m, markersize=5) for m in range(len(names))]
    row_inch = max(0.34, 0.13 * len(names) + 0.12)
    figure = style.figure_with_legend(style.labels(names, 28, 2), handles, 0.9 + row_inch * len(mean))
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
    style.value_axis(ax, "x", label)
    below = f" The last row is the {overall}, each counting the same." if overall else ""
    style.note(figure, f"Marker and line: mean and 95 % bootstrap interval over {over}.{below}")
    return figure
