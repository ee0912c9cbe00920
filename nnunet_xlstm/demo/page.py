"""The page of a demo: what came out, pictures, and the commands to type by hand."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_xlstm.html import DASH, Block, Code, Gallery, Heading, Meter, Page, Picture, Table
from nnunet_xlstm.io.tables import text_table


def build_page(summary: Mapping[str, Any], pictures: Sequence[tuple[str, Path]]) -> Page:
    """Return the page of one demo.

    Args:
        summary: what `run_demo` writes to summary.json.
        pictures: (caption, PNG file) in the order shown.
    """
    sections: list[Block] = [Heading("Dice per structure"), _dice_table(summary)]
    if pictures:
        sections += [Heading("Pictures"), Gallery([Picture(path, caption) for caption, path in pictures])]
    lines = [f"export {name}={shlex.quote(value)}" for name, value in summary["environment"].items()]
    lines += [shlex.join(row["command"]) for row in summary["commands"]]
    sections += [Heading("Commands"), Code("\n".join(lines)), Heading("Run"), _facts(summary)]
    return Page(f"nnunet_xlstm demo: {summary['dataset']}", _lead(summary), sections)


def format_dice(value: float | None) -> str:
    """Return three decimals, or a dash where there is no value."""
    return DASH if value is None else f"{value:.3f}"


def text_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the result as lines of text: a row per structure, the mean, and what intensity alone reaches."""
    cells = [[name, format_dice(ours), format_dice(other)] for name, ours, other in _dice_rows(summary)]
    lines = [f"{summary['dataset']}: Dice, mean over {summary['n_scored']} {summary['scored_on']}", ""]
    lines += text_table([["structure", "xLSTM-UNet", "best intensity classifier"], *cells])
    stages = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in summary["seconds"].items())
    return [*lines, "", f"{summary['total_seconds']:.0f} s on {summary['device']}: {stages}"]


def _dice_rows(summary: Mapping[str, Any]) -> list[tuple[str, float | None, float | None]]:
    """Return name, Dice and the baseline's Dice of each structure, and of the mean."""
    baseline = summary["intensity_baseline"] or {"per_structure": {}, "mean": None}
    rows = [(name, value, baseline["per_structure"].get(name)) for name, value in summary["dice"].items()]
    return [*rows, ("mean", summary["mean_dice"], baseline["mean"])]


def _lead(summary: Mapping[str, Any]) -> str:
    text = (
        f"Mean Dice {format_dice(summary['mean_dice'])} on {summary['n_scored']} {summary['scored_on']}, "
        f"in {summary['total_seconds'] / 60:.1f} minutes on {summary['device']}."
    )
    if baseline := summary["intensity_baseline"]:
        text += f" The best classifier of single voxel intensities reaches {format_dice(baseline['mean'])}."
    return text


def _dice_table(summary: Mapping[str, Any]) -> Table:
    baseline = summary["intensity_baseline"]
    rows = [(name, Meter(value), intensity) for name, value, intensity in _dice_rows(summary)]
    columns = 3 if baseline else 2
    header = ("structure", "Dice", "intensity only")
    caption = f"Mean over {summary['n_scored']} {summary['scored_on']}"
    return Table(header[:columns], [row[:columns] for row in rows], caption, total_rows=1)


def _facts(summary: Mapping[str, Any]) -> Table:
    """Return seconds per stage, settings and versions."""
    rows = [(f"{stage}, seconds", f"{seconds:.0f}") for stage, seconds in summary["seconds"].items()]
    rows += [(key.replace("_", " "), str(summary[key])) for key in ("device", "seed", "trainer", "plans", "finished")]
    rows += [("training", ", ".join(f"{key} {value}" for key, value in summary["config"].items()))]
    rows += [(name, str(version)) for name, version in summary["versions"].items()]
    return Table(("what", "value"), rows)
