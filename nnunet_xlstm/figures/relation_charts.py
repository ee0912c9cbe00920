"""Charts of two quantities: volumes of prediction and reference, two modalities, accuracy and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from nnunet_xlstm.figures import style
from nnunet_xlstm.statistics.agreement import Agreement, agreement

LARGEST_BUBBLE = 34.0  # points across, of the bubble of the largest cost


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """Volumes of one structure by several methods, (methods, cases), in `unit`; `label` names the structure."""

    reference: np.ndarray
    prediction: np.ndarray
    unit: str
    label: str


@style.styled()
def volume_agreement(name: str, model: int, volumes: Volumes) -> Figure:
    """Draw predicted against reference volume with the identity line, and Bland-Altman, with the same axes for all.

    Args:
        name: of the method.
        model: number of the method.
        volumes: of all methods.
    """
    reference, prediction, unit = volumes.reference[model], volumes.prediction[model], volumes.unit
    found = agreement(prediction, reference)
    both = np.concatenate([volumes.reference.ravel(), volumes.prediction.ravel()])
    both = both[np.isfinite(both)]
    low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    figure = style.new_figure(style.WIDTH_INCH, 3.5)
    scatter, bland = figure.subplots(1, 2)
    look = {"s": 16, "color": style.color(model), "alpha": 0.7, "linewidths": 0, "zorder": 3}
    scatter.plot(
        [low - margin, high + margin], [low - margin, high + margin], color=style.SOFT, linewidth=1, linestyle="--"
    )
    scatter.scatter(reference, prediction, **look)
    scatter.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
    scatter.set(xlabel=f"reference ({unit})", ylabel=f"prediction ({unit})")
    scatter.set_title(f"N = {found.n},  R² = {_number(found.r2)},  r = {_number(found.r)}", loc="left")
    bland.scatter((reference + prediction) / 2, prediction - reference, **look)
    _limits_of_agreement(bland, found, unit)
    far = np.nanmax(np.abs(volumes.prediction - volumes.reference), initial=0.0)
    far = 1.15 * max(far, *(abs(v) for v in (found.low, found.high) if math.isfinite(v)), 1e-9)
    bland.set(xlim=(low - margin, high + margin), ylim=(-far, far))
    bland.set(xlabel=f"mean of the two ({unit})", ylabel=f"prediction - reference ({unit})")
    for ax in (scatter, bland):
        style.clean(ax, "both")
        style.few_ticks(ax, "x", 5)
        style.few_ticks(ax, "y", 5)
    figure.suptitle(style.labels([f"{name}: {volumes.label}"], 90, 2)[0], x=0.01, ha="left", fontsize=9)
    style.note(
        figure,
        "Dashed: identity. R² about the identity line, r: Pearson. Right: bias (line) and limits of agreement "
        "(dotted: bias ± 1.96 SD).",
    )
    return figure


def _limits_of_agreement(ax: Axes, found: Agreement, unit: str) -> None:
    if found.n == 0:
        return
    ax.axhline(0, color=style.GRID, linewidth=1)
    ax.axhline(found.bias, color=style.TEXT, linewidth=1.1)
    title = f"bias {found.bias:+.3g} {unit}"
    if math.isfinite(found.low):
        for value in (found.low, found.high):
            ax.axhline(value, color=style.TEXT, linewidth=1, linestyle=":")
        title += f",  limits {found.low:+.3g} to {found.high:+.3g}"
    ax.set_title(title.replace("-", "−"), loc="left")


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


@style.styled()
def radar(names: Sequence[str], groups: Mapping[str, np.ndarray], label: str) -> Figure:
    """Draw one axis per method, one outline per group (modality); print the limits of the axes.

    Args:
        names: of the methods.
        groups: name -> (methods,), NaN where unknown.
        label: of the score, with the unit.

    Raises:
        ValueError: fewer than three methods.
    """
    models = len(names)
    if models < 3:
        raise ValueError(f"A radar of {models} methods was asked for; it needs 3 or more axes to enclose an area.")
    low, high, step = _radar_limits(np.concatenate(list(groups.values())))
    angles = math.pi / 2 - 2 * math.pi * np.arange(models) / models
    points = np.stack([np.cos(angles), np.sin(angles)], 1)
    reach = points.min(0) - 0.15, points.max(0) + 0.15
    figure = style.new_figure(5.6, 0.9 + 2.0 * float(reach[1][1] - reach[0][1]))
    ax = figure.subplots()
    rings = round((high - low) / step)
    for ring in np.arange(1, rings + 1) / rings:
        ax.add_patch(Polygon(points * ring, fill=False, edgecolor=style.GRID, linewidth=0.8))
        box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
        text = f"{low + ring * (high - low):.3g}"
        ax.annotate(text, (-0.02, ring), zorder=1, fontsize=6.5, color=style.SOFT, ha="right", va="center", bbox=box)
    for point, text in zip(points, style.labels(names, 16, 3), strict=True):
        ax.plot([0, point[0]], [0, point[1]], color=style.GRID, linewidth=0.8)
        ax.annotate(text, point * 1.07, ha=_side(point[0], "right", "left"), va=_side(point[1], "top", "bottom"))
    handles = []
    for i, values in enumerate(groups.values()):
        ring = (values - low) / (high - low)
        shown = points * ring[:, None]
        closed = np.concatenate([shown, shown[:1]])
        line = ("-", "--", ":", "-.")[i % 4]
        x, y = closed.T
        handles += ax.plot(
            x, y, marker=style.marker(i), markersize=5, linestyle=line, linewidth=1.6, color=style.color(i)
        )
        if np.isfinite(values).all():
            ax.add_patch(Polygon(shown, facecolor=style.color(i), alpha=0.12, edgecolor="none"))
    ax.set_axis_off()
    ax.set(xlim=(reach[0][0], reach[1][0]), ylim=(reach[0][1], reach[1][1]), aspect="equal")
    style.legend(figure, handles, style.labels(list(groups), 40, 1), loc="outside upper left", ncols=4)
    start = "the axes do not begin at 0" if low > 0 else "the axes begin at 0"
    style.note(figure, f"{label}; centre {low:g}, rim {high:g} ({start}).")
    return figure


@style.styled()
def modality_dots(names: Sequence[str], groups: Mapping[str, np.ndarray], label: str) -> Figure:
    """Draw one row per method, one marker per group (modality): for fewer methods than a radar needs.

    Args:
        names: of the methods.
        groups: name -> (methods,), NaN where unknown.
        label: of the axis, with the unit.
    """
    figure = style.new_figure(5.6, 1.2 + 0.4 * len(names))
    ax = figure.subplots()
    offsets = np.linspace(-0.2, 0.2, len(groups)) if len(groups) > 1 else [0.0]
    handles = []
    for i, (values, offset) in enumerate(zip(groups.values(), offsets, strict=True)):
        places = np.arange(len(names)) + offset
        handles += ax.plot(values, places, color=style.color(i), marker=style.marker(i), markersize=6, linestyle="")
    ax.margins(x=0.1)
    style.method_axis(ax, names)
    style.value_axis(ax, "x", label)
    style.legend(figure, handles, style.labels(list(groups), 40, 1), loc="outside upper left", ncols=4)
    return figure


def _side(value: float, negative: str, positive: str) -> str:
    if abs(value) < 0.1:
        return "center"
    return positive if value > 0 else negative


def _radar_limits(values: np.ndarray) -> tuple[float, float, float]:
    """Return round numbers below the smallest (with room: no point lies in the center) and above the largest."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0, 0.25
    low, high = float(values.min()), float(values.max())
    spread = max(high - low, 0.02 * abs(high), 1e-6)
    step = 10.0 ** math.floor(math.log10(spread))
    step = next(step * k for k in (0.2, 0.5, 1, 2, 5) if spread / (step * k) <= 4)
    bottom = math.floor(low / step - 0.5) * step
    bottom = max(bottom, 0.0) if low >= 0 else bottom
    return round(bottom, 10), round(math.ceil(high / step) * step, 10), step


@style.styled()
def accuracy_against_cost(
    names: Sequence[str], mean: np.ndarray, interval: np.ndarray, costs: Mapping[str, np.ndarray], label: str
) -> Figure:
    """Draw a panel per cost: a marker per method with the interval of its mean; logarithmic over a decade.

    Args:
        names: of the methods.
        mean: (methods,).
        interval: (2, methods), NaN where there is none.
        costs: label of the axis, with the unit -> (methods,), NaN where unknown; one panel each.
        label: of the accuracy, with the unit.
    """
    shown = [i for i in range(len(names)) if any(np.isfinite(values[i]) for values in costs.values())]
    handles = [style.key(i, linestyle="", markersize=7) for i in shown]
    figure = style.figure_with_legend(
        style.labels([names[i] for i in shown], 28, 2), handles, 2.7, "outside lower left"
    )
    axes = figure.subplots(1, len(costs), squeeze=False, sharey=True)[0]
    for ax, (name, values) in zip(axes, costs.items(), strict=True):
        for i in shown:
            if np.isfinite(values[i]) and np.isfinite(mean[i]):
                if np.isfinite(interval[0, i]):
                    ax.plot([values[i]] * 2, interval[:, i], color=style.color(i), linewidth=1, zorder=2)
                look = {"color": style.color(i), "markersize": 7, "markeredgecolor": "white", "markeredgewidth": 0.7}
                ax.plot(values[i], mean[i], style.marker(i), zorder=3, **look)
        ax.margins(x=0.15)
        _cost_axis(ax, values, name, 4)
        style.clean(ax, "y")
    style.value_axis(axes[0], "y", label)
    return figure


def _cost_axis(ax: Axes, costs: np.ndarray, label: str, ticks: int) -> None:
    """Put a cost along x; logarithmic over a decade."""
    known = costs[np.isfinite(costs)]
    if known.size and known.min() > 0 and known.max() > 10 * known.min():
        ax.set_xscale("log")
    style.value_axis(ax, "x", label, ticks)


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
    figure = style.figure_with_legend(texts, [style.key(i, marker="o", linestyle="", markersize=7) for i in shown], 3.9)
    ax = figure.subplots()
    size = LARGEST_BUBBLE * np.sqrt(area / area[shown].max())
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
    ax.margins(x=0.15, y=0.18)
    _cost_axis(ax, across[shown], across_label, 5)
    style.value_axis(ax, "y", label)
    text = f"Area of a bubble, and in brackets: {area_label}. Dot and line: mean and 95 % bootstrap interval."
    style.note(figure, text)
    return figure
