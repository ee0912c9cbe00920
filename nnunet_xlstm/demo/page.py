"""index.html of a demo: one file with its pictures inside, no scripts, nothing fetched."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #5b6570; --line: #d5dae0; --page: #fff; --bar: #2f7dd1; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --soft: #9aa5b1; --line: #3a424b; --page: #14181c; --bar: #5aa2ee; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
       max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2rem; }
.soft, figcaption, caption { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.total { font-weight: 600; }
meter { width: 8rem; max-width: 25vw; }
figure { margin: 1.2rem 0; break-inside: avoid; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem;
      border: 1px solid var(--line); border-radius: 4px; padding: .6rem; }
@media print { body { max-width: none; padding: 0; } pre { font-size: .7rem; } h2 { break-after: avoid; } }
"""


def build_page(summary: Mapping[str, Any], pictures: Sequence[tuple[str, Path]]) -> str:
    """The page as HTML text. Every name is escaped: data set, case and structure names may hold anything.

    Args:
        summary: what `run_demo` writes to summary.json.
        pictures: (caption, PNG file) in the order shown.
    """
    title = f"nnunet_xlstm demo: {summary['dataset']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_lead(summary))}</p>",
        "<h2>Dice per structure</h2>",
        _dice_table(summary),
        "<h2>Pictures</h2>" if pictures else "",
        *(_figure(caption, path) for caption, path in pictures),
        "<h2>Commands</h2>",
        _commands(summary["environment"], summary["commands"]),
        "<h2>Run</h2>",
        _facts(summary),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def format_dice(value: float | None) -> str:
    """Three decimals, or a dash where there is no value."""
    return "–" if value is None else f"{value:.3f}"


def _lead(summary: Mapping[str, Any]) -> str:
    text = (
        f"Mean Dice {format_dice(summary['mean_dice'])} on {summary['n_scored']} {summary['scored_on']}, "
        f"in {summary['total_seconds'] / 60:.1f} minutes on {summary['device']}."
    )
    baseline = summary.get("intensity_baseline")
    if baseline:
        text += f" The best classifier of single voxel intensities reaches {format_dice(baseline['mean'])}."
    return text


def _dice_table(summary: Mapping[str, Any]) -> str:
    baseline = summary.get("intensity_baseline")
    intensity = baseline["per_structure"] if baseline else {}
    rows = [(name, value, intensity.get(name), "") for name, value in summary["dice"].items()]
    rows.append(("mean", summary["mean_dice"], baseline["mean"] if baseline else None, ' class="total"'))
    head = '<th>structure</th><th class="number">Dice</th><th></th>'
    head += '<th class="number">intensity only</th>' if baseline else ""
    lines = []
    for name, value, other, kind in rows:
        meter = "" if value is None else f'<meter min="0" max="1" value="{value:.3f}"></meter>'
        cells = f'<td>{escape(str(name))}</td><td class="number">{format_dice(value)}</td><td>{meter}</td>'
        cells += f'<td class="number">{format_dice(other)}</td>' if baseline else ""
        lines.append(f"<tr{kind}>{cells}</tr>")
    caption = escape(f"Mean over {summary['n_scored']} {summary['scored_on']}")
    return (
        f'<div class="scroll"><table><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _figure(caption: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(caption)
    return f'<figure><img src="data:image/png;base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _commands(environment: Mapping[str, str], commands: Sequence[Mapping[str, Any]]) -> str:
    """What to type to run the stages by hand."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines += [shlex.join(row["command"]) for row in commands]
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _facts(summary: Mapping[str, Any]) -> str:
    """Seconds per stage, settings and versions as one table."""
    rows = [(f"{stage}, seconds", f"{seconds:.0f}") for stage, seconds in summary["seconds"].items()]
    rows += [(key.replace("_", " "), str(summary[key])) for key in ("device", "seed", "trainer", "plans", "finished")]
    rows += [("training", ", ".join(f"{key} {value}" for key, value in summary["config"].items()))]
    rows += [(name, str(version)) for name, version in summary["versions"].items()]
    body = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows)
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'
