"""The picture of a pre-training run: losses, and the measures that show a collapse, by epoch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from nnunet_xlstm.figures.style import DPI, SOFT, clean, color, new_figure, note, plain, styled, write_figure

# title, (key, label) of the lines, whether the axis is a share from 0 to 1, what a healthy run looks like
PANELS = (
    (
        "Loss",
        (("train_loss", "training"), ("val_loss", "validation")),
        False,
        "falls at first; with a moving teacher it may rise again",
    ),
    (
        "Entropy of the teacher's targets (share of the largest)",
        (
            ("entropy_mean_target", "of the mean target"),
            ("least_entropy_mean_target", "of the mean target, least of all heads"),
            ("mean_entropy_target", "mean of each target"),
        ),
        True,
        "mean target high, each target lower: near 0 one prototype takes all, both near 1 all targets are flat",
    ),
    ("Share of the most used prototype", (("top1_share", "top-1 share"),), True, "low"),
    ("Effective rank of the features", (("effective_rank", "RankMe"),), False, "stays up"),
    (
        "Spread of the features",
        (("feature_sd", "SD x sqrt(d) of features"), ("embedding_sd", "SD x sqrt(d) of embeddings")),
        True,
        "they stay or rise",
    ),
    (
        "Cosine between features",
        (("view_cosine", "of the two views of an image"), ("mean_cosine", "of all pairs")),
        True,
        "pairs fall, the views of one image stay well above them",
    ),
    (
        "Neighbours (kNN accuracy)",
        (("knn_modality", "of the modality"), ("knn_source", "of the data set")),
        True,
        "what the features tell apart",
    ),
    ("Student to teacher, relative distance", (("ema_distance", "distance"),), False, "small and steady"),
)


@styled()
def draw_progress(history: Sequence[dict], path: Path) -> None:
    """Write the picture of all epochs so far to `path` (PNG).

    Args:
        history: one row per epoch, with `epoch` (-1: before training) and the measures; what a run lacks is left out.
        path: of the PNG.
    """
    figure = new_figure(10.0, 9.4)
    axes = figure.subplots(4, 2).flatten()
    epochs = [row["epoch"] for row in history]
    for ax, (title, lines, share, healthy) in zip(axes, PANELS, strict=True):
        drawn = 0
        for i, (name, text) in enumerate(lines):
            values = [row.get(name) for row in history]
            if any(value is not None for value in values):
                known = [float("nan") if value is None else value for value in values]
                style = {"marker": "o", "markersize": 2.5} if len(epochs) < 40 else {}
                ax.plot(epochs, known, color=color(i), linewidth=1.3, label=plain(text), **style)
                drawn += 1
        ax.set_title(title, loc="left")
        ax.set_xlabel(textwrap.fill(f"epoch   (healthy: {healthy})", 80), fontsize=7, color=SOFT)
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        if share:
            ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]), top=max(1.05, ax.get_ylim()[1]))
        if drawn:
            ax.legend(frameon=False, fontsize=7)
        else:
            ax.text(0.5, 0.5, "not measured in this run", transform=ax.transAxes, ha="center", color=SOFT)
        clean(ax, "y")
    note(
        figure,
        "Epoch -1: before training. The numbers are in pretraining.jsonl; docs/how-to/pretrain.md explains them.",
    )
    write_figure(figure, path, dpi=DPI * 3 // 4)
