"""What all charts share: size, colours, markers, names as labels, files."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from nnunet_xlstm.io.write import replacing

# After Paul Tol's "muted" scheme: told apart with every common colour vision. Markers tell them apart in grey print.
COLORS = (
    "#332288", "#cc6677", "#117733", "#ddaa33", "#56b4e9", "#882255", "#44aa99", "#999933", "#aa4499", "#666666",
)  # fmt: skip
MARKERS = "osD^vPX<>h"
TEXT, SOFT, GRID = "#1b1f24", "#5b6570", "#d5dae0"
WIDTH_INCH = 7.2  # two columns of a journal
DPI = 200
STYLE = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.7,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "svg.hashsalt": "nnunet_xlstm",  # the same picture gives the same file
}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of so many inches, drawn without a display."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


@contextmanager
def styled() -> Iterator[None]:
    """Make and save charts in our style, whatever others have set (nnU-Net does); also a decorator."""
    with style.context(["default", STYLE]):
        yield


def save(figure: Figure, path: Path) -> list[Path]:
    """Write the figure beside each other as PNG and SVG.

    Args:
        figure: that is written.
        path: without ending.

    Raises:
        WriteError: a file cannot be written.
    """
    path = Path(path)
    files = [path.with_name(path.name + ending) for ending in (".png", ".svg")]
    with styled():
        write_figure(figure, files[0], dpi=DPI, bbox_inches="tight", pad_inches=0.05)
        figure.set_layout_engine("none")  # the layout is done; a second time costs as much as the drawing
        write_figure(figure, files[1], bbox_inches="tight", pad_inches=0.05, metadata={"Date": None})
    return files


def write_figure(figure: Figure, path: Path, **options) -> Path:
    """Write one file whole or not at all; its ending is the format. `options` as savefig's.

    Raises:
        WriteError: it cannot be written.
    """
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], **options)
    return path


def color(model: int) -> str:
    """Return the color of a method, by its number."""
    return COLORS[model % len(COLORS)]


def marker(model: int) -> str:
    """Return the marker of a method; the second round of the colors has other ones than the first."""
    return MARKERS[(model + model // len(COLORS)) % len(MARKERS)]


def plain(text: str) -> str:
    """Return text without control characters and line ends, in which matplotlib finds no mathematics."""
    return "".join(c if c.isprintable() else " " for c in text).replace("$", r"\$")


def labels(names: Sequence[str], width: int = 24, lines: int = 2) -> list[str]:
    """Wrap names to so many lines of so many characters; longer ones lose their middle, but stay different."""
    wrapped = [_wrap(name, width, lines) for name in names]
    for i, text in enumerate(wrapped):
        if wrapped.count(text) > 1 and len(set(names)) == len(names):
            wrapped[i] = f"{_wrap(names[i], width - 4, lines)} ({i + 1})"
    return ["\n".join(plain(line) for line in text.split("\n")) for text in wrapped]


def _wrap(name: str, width: int, lines: int) -> str:
    name = " ".join(name.split())
    if lines == 1:
        return name if len(name) <= width else f"{name[: width // 2 - 1]}…{name[-(width - width // 2) :]}"
    found = textwrap.wrap(name, width)
    if len(found) > lines:
        found = [*found[: lines - 1], f"…{name[-(width - 1) :]}"]
    return "\n".join(found)


def method_axis(ax: Axes, names: Sequence[str], show: bool = True) -> None:
    """Put one row per method on the y axis, the first on top."""
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.set_yticks(range(len(names)), labels(names) if show else [""] * len(names))
    ax.tick_params(axis="y", length=0)
    clean(ax, "x")


def clean(ax: Axes, grid: Literal["x", "y", "both"]) -> None:
    """Take off the frame on top and right, and put a light grid behind."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)


def value_axis(ax: Axes, axis: Literal["x", "y"], label: str, most: int = 6) -> None:
    """Label an axis of numbers, with few ticks and a grid."""
    few_ticks(ax, axis, most)
    getattr(ax, f"set_{axis}label")(plain(label))
    clean(ax, axis)


def few_ticks(ax: Axes, axis: Literal["x", "y"], most: int = 6) -> None:
    """Set at most so many ticks; a logarithmic axis gets plain numbers at 1, 2, 5 or only 1 per decade."""
    the_axis = getattr(ax, f"{axis}axis")
    if the_axis.get_scale() == "linear":
        the_axis.set_major_locator(MaxNLocator(most, min_n_ticks=2))
        return
    low, high = the_axis.get_view_interval()
    linear_to = getattr(the_axis.get_transform(), "linthresh", None)
    start = linear_to or low
    steps = (1, 2, 5) if high / start < 100 else (1,)
    powers = range(math.floor(math.log10(start)), math.ceil(math.log10(high)) + 1)
    ticks = [k * 10.0**power for power in powers for k in steps]
    the_axis.set_major_locator(FixedLocator([t for t in [0.0] * (linear_to is not None) + ticks if low <= t <= high]))
    the_axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    the_axis.set_minor_locator(NullLocator())


def legend(figure: Figure, handles: Sequence, names: Sequence[str], **options) -> Legend:
    """Draw a legend outside the axes; set its texts afterwards, since matplotlib hides those that begin with "_"."""
    made = figure.legend(handles, [str(i) for i in range(len(names))], frameon=False, **options)
    for text, name in zip(made.get_texts(), names, strict=True):
        text.set_text(name)
    return made


def note(figure: Figure, text: str) -> None:
    """Write a caption below the axes, at 7 points."""
    lines = textwrap.fill(plain(text), max(20, int(figure.get_figwidth() * 19)), break_on_hyphens=False)
    figure.supxlabel(lines, fontsize=7, color=SOFT, x=0.02, ha="left")


def figure_with_legend(
    texts: Sequence[str], handles: Sequence[Artist], height: float, loc: str = "outside upper left"
) -> Figure:
    """Return a figure of the full width with a legend in as many columns as fit.

    Args:
        texts: see `labels`.
        handles: one per text; none leaves the legend out, but not its place.
        height: of what is beside the legend, in inches.
        loc: of the legend.
    """
    longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    columns = max(1, min(len(texts), 4, int(WIDTH_INCH / (0.6 + 0.065 * longest))))
    lines = max((1 + text.count("\n") for text in texts), default=0)
    figure = new_figure(WIDTH_INCH, height + 0.17 * lines * math.ceil(len(texts) / columns))
    if handles:
        legend(figure, handles, texts, loc=loc, ncols=columns)
    return figure


def key(model: int, **options: Any) -> Line2D:
    """Return what stands for a method in a legend."""
    return Line2D([], [], **({"color": color(model), "marker": marker(model)} | options))
