"""A score against a number (labelled subjects, epochs): a line per way to train, or a row for each where it is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from nnunet_xlstm.figures import style

HEIGHT_INCH = 3.4
SPREAD = 0.012  # of the axis, between the markers of neighbouring lines


@dataclass(frozen=True)
class Curve:
    """One way to train, at increasing numbers.

    Attributes:
        x: (points,).
        mean: (points,).
        interval: (2, points), NaN where there is none.
        repeats: of each point the scores of single seeds or folds.
    """

    name: str
    x: Sequence[int]
    mean: Sequence[float]
    interval: np.ndarray
    repeats: Sequence[Sequence[float]] = field(default_factory=list)


@style.styled()
def learning_curve(
    curves: Sequence[Curve], label: str, over: str = "test subjects", unit: str = "", repeats: str = "seeds"
) -> Figure:
    """Draw a score against a number of training, or the scores of variants.

    Args:
        curves: one per way to train; the same numbers x for all.
        label: of the score, with its unit.
        over: what the intervals are bootstrapped over.
        unit: what x counts, such as "labelled subject"; empty where variants alone differ.
        repeats: "seeds" or "folds".
    """
    ticks = sorted({x for curve in curves for x in curve.x})
    means = "of the subjects of all folds" if repeats == "folds" else "of the seeds"
    dots = f"; small dots: single {repeats}" if any(len(r) > 1 for curve in curves for r in curve.repeats) else ""
    caption = f"Marker: mean {means}{dots}. {{}}: 95 % bootstrap interval over {over}."
    if len(ticks) > 1:
        figure = _lines(curves, label, ticks, f"{unit}s")
        style.note(figure, caption.format("Band"))
    else:
        figure = _rows(curves, f"{label}, {ticks[0]} {unit}{'s' * (ticks[0] > 1)}" if unit else label)
        style.note(figure, caption.format("Line"))
    return figure


def _lines(curves: Sequence[Curve], label: str, ticks: Sequence[int], x_label: str) -> Figure:
    handles = [style.key(i, markersize=5) for i in range(len(curves))]
    figure = style.figure_with_legend(style.labels([curve.name for curve in curves]), handles, HEIGHT_INCH)
    ax = figure.subplots()
    ax.set_xscale("log")
    step = (ticks[-1] / ticks[0]) ** SPREAD
    for i, curve in enumerate(curves):
        shift = step ** (i - (len(curves) - 1) / 2)  # so that points of equal height are all seen
        x = np.asarray(curve.x, float) * shift
        low, high = curve.interval
        ax.fill_between(x, low, high, color=style.color(i), alpha=0.13, linewidth=0)
        ax.plot(
            x, curve.mean, style.marker(i), color=style.color(i), linestyle="-", linewidth=1.4, markersize=5, zorder=4
        )
        for place, values in zip(x, curve.repeats, strict=True):
            ax.plot([place] * len(values), values, ".", color=style.color(i), markersize=3, alpha=0.6, zorder=3)
    ax.set_xlim(ticks[0] / step ** (len(curves) + 3), ticks[-1] * step ** (len(curves) + 3))
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel(x_label)
    style.value_axis(ax, "y", label)
    return figure


def _rows(curves: Sequence[Curve], label: str) -> Figure:
    figure = style.new_figure(style.WIDTH_INCH, 0.9 + 0.36 * len(curves))
    ax = figure.subplots()
    for i, curve in enumerate(curves):
        low, high = curve.interval[:, 0]
        if np.isfinite(low):
            ax.plot([low, high], [i, i], color=style.TEXT, linewidth=1.6, solid_capstyle="butt", zorder=3)
        ax.plot(
            curve.mean[0], i, style.marker(i), color=style.color(i), markersize=6, markeredgecolor=style.TEXT, zorder=5
        )
        for values in curve.repeats:
            ax.plot(values, [i + 0.24] * len(values), ".", color=style.color(i), markersize=4, zorder=4)
    style.method_axis(ax, [curve.name for curve in curves])
    style.value_axis(ax, "x", label)
    return figure
