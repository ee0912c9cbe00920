"""Tables of a comparison: CSV for programs, Markdown and LaTeX for a paper, rows for the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_xlstm.comparison.analysis import MetricResult
from nnunet_xlstm.comparison.inputs import ModelScores
from nnunet_xlstm.evaluation.summary import METRICS
from nnunet_xlstm.html import DASH

DIGITS = {"": 3, "mm": 2, "mL": 2, "voxels": 0}
OF_SUBJECTS = {"cases": "", "subjects": " and the cases of a subject"}
NOT_ALL = ", where all models have a value for the same cases"
ARROW = {"high": "↑", "low": "↓"}
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''",
}  # fmt: skip


def number(value: float, metric: str) -> str:
    """Return a value with the decimals of its unit; a dash where there is none."""
    return DASH if not np.isfinite(value) else f"{value:.{DIGITS[METRICS[metric].unit]}f}"


def mean_sd(mean: float, sd: float, metric: str) -> str:
    """Return mean and SD as in "0.912 ± 0.031"; without SD where it is unknown."""
    text = number(mean, metric)
    return f"{text} ± {number(sd, metric)}" if np.isfinite(mean) and np.isfinite(sd) else text


def cell(r: MetricResult, model: int, column: int) -> str:
    """Return mean ± SD, with the number of units behind it where not all have a value."""
    text = mean_sd(r.mean[model, column], r.sd[model, column], r.metric)
    n = int(r.n[model, column])
    return f"{text} (n {n})" if 0 < n < r.points.shape[1] else text


def title(metric: str) -> str:
    """Return a metric with its unit, as in "HD95 (mm)"."""
    unit = METRICS[metric].unit
    return f"{metric} ({unit})" if unit else metric


def directed(metric: str) -> str:
    """Return a metric with its unit and what is better, as in "HD95 (mm) ↓"."""
    return f"{title(metric)} {ARROW[METRICS[metric].better]}"


def best(mean: np.ndarray, metric: str) -> np.ndarray:
    """Mark the models that print the best mean, (models,): those that read the same share it."""
    shown = np.array([float(number(v, metric)) if np.isfinite(v) else np.nan for v in mean])
    if np.isnan(shown).all() or len(shown) == 1:
        return np.zeros(len(shown), bool)
    return shown == (np.nanmin(shown) if METRICS[metric].better == "low" else np.nanmax(shown))


def best_marks(r: MetricResult, column: int) -> np.ndarray:
    """Mark the models printed bold, (models,): none where their means are of other cases, or leave failures out."""
    marks = best(r.mean[:, column], r.metric) & r.comparable[column]
    average = column % len(r.comparable) == len(r.comparable) - 1
    if average and not marks[r.rankings["mean, then rank"] == 1].any():
        return np.zeros_like(marks)
    return marks


# A table for a paper: (heading, header, rows of (text, is best)).
PaperTable = tuple[str, list[str], list[list[tuple[str, bool]]]]


def paper_tables(models: ModelScores, results: Sequence[MetricResult]) -> list[PaperTable]:
    """Return the main table (models x metrics, mean ± SD over the cases), and one per metric (models x classes)."""
    header = ["Model", *(directed(r.metric) for r in results)]
    caption = f"Average over the classes{OF_SUBJECTS[results[0].over]}: {over_units(results[0])}."
    tables = [(caption, header, _paper_rows(models, [(r, -1) for r in results]))]
    for result in results:
        header = ["Model", *models.classes.values(), "average"]
        columns = [(result, c) for c in range(len(header) - 1)]
        caption = f"{directed(result.metric)}: {over_units(result)}."
        tables.append((caption, header, _paper_rows(models, columns)))
    return tables


def _paper_rows(models: ModelScores, columns: Sequence[tuple[MetricResult, int]]) -> list[list[tuple[str, bool]]]:
    marks = [best_marks(result, c) for result, c in columns]
    rows = []
    for model, name in enumerate(models.names):
        texts = [cell(r, model, c) for r, c in columns]
        rows.append([(name, False), *((text, bool(mark[model])) for text, mark in zip(texts, marks, strict=True))])
    return rows


def over_units(r: MetricResult) -> str:
    """Say what a mean is over, as in "mean ± SD over the 10 cases, or the n that have a value"."""
    count = r.points.shape[1]
    units = f"the {count} {r.over}" if count > 1 else f"1 {r.over[:-1]}"
    fewer = ((0 < r.n) & (r.n < count)).any()
    return f"mean ± SD over {units}{', or the n that have a value' if fewer else ''}"


def _caption(caption: str, rows: Sequence) -> str:
    if len(rows) < 2:
        return caption
    marked = [any(bold for _, bold in column) for column in zip(*rows, strict=True)][1:]
    return f"{caption} Best in bold{'' if all(marked) else NOT_ALL}." if any(marked) else caption


def markdown(tables: Sequence[PaperTable], notes: Sequence[str]) -> str:
    """Write all tables as Markdown; the best value in bold. Names are escaped so that they stay text."""
    blocks = []
    for caption, header, rows in tables:
        lines = [_md(_caption(caption, rows)), "", f"| {' | '.join(_md(h) for h in header)} |"]
        lines.append(f"|{'|'.join([' --- ', *[' ---: '] * (len(header) - 1)])}|")
        for row in rows:
            lines.append(f"| {' | '.join(f'**{_md(text)}**' if bold else _md(text) for text, bold in row)} |")
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, *(_md(note) for note in notes)]) + "\n"


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|&#$~])", r"\\\1", " ".join(text.split()))


def latex(tables: Sequence[PaperTable], notes: Sequence[str]) -> str:
    """Write all tables as LaTeX floats; they need booktabs, and graphicx for tables of many columns."""
    blocks = ["% \\usepackage{booktabs,graphicx}"]
    for i, (caption, header, rows) in enumerate(tables):
        text = " ".join([_caption(caption, rows), *(notes if i == 0 else [])])
        wide = len(header) > 5
        body = [
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            " & ".join(_tex(cell) for cell in header) + r" \\",
            r"\midrule",
            *(" & ".join(rf"\textbf{{{_tex(t)}}}" if bold else _tex(t) for t, bold in row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        body = [r"\resizebox{\linewidth}{!}{%", *body, "}"] if wide else body
        lines = [r"\begin{table}[htb]", r"\centering", rf"\caption{{{_tex(text)}}}", rf"\label{{tab:comparison{i}}}"]
        blocks.append("\n".join([*lines, *body, r"\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def _tex(text: str) -> str:
    text = "".join(LATEX.get(c, c) for c in " ".join(text.split()))
    for sign, command in (("±", r"$\pm$"), ("↑", r"$\uparrow$"), ("↓", r"$\downarrow$"), (DASH, "--")):
        text = text.replace(sign, command)
    return text


def table_rows(models: ModelScores, results: Sequence[MetricResult]) -> tuple[list[str], list[list[Any]]]:
    """Return table.csv: a row per metric, model and class, then the averages over the classes and their mean."""
    header = ["metric", "unit", "model", "class", "name", "over", "n", "mean", "sd", "ci_low", "ci_high", "failed"]
    rows = []
    for r in results:
        for model, name in enumerate(models.names):
            start = [r.metric, METRICS[r.metric].unit, name]
            unit = r.over[:-1]
            classes = [*models.classes.items(), (f"{unit} average", f"average over the classes of a {unit}")]
            for c, (key, text) in enumerate(classes):
                failed = r.failed[model] if c == len(classes) - 1 else None
                values = [r.n[model, c], r.mean[model, c], r.sd[model, c], *r.interval[:, model, c], failed]
                rows.append([*start, key, text, r.over, *values])
            rows.append([*start, "class mean", "mean over the classes", r.over, None, r.class_mean[model], *[None] * 4])
    return header, rows


def score_rows(
    models: ModelScores, results: Sequence[MetricResult], labels: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[list[Any]]]:
    """Return scores.csv: a row per case and model.

    Args:
        models: scores of all models.
        results: of each metric.
        labels: further columns, such as "subject" -> one text per case.
    """
    header = ["case", *labels, "model"]
    for r in results:
        header += [r.metric, *(f"{r.metric} {name}" for name in models.classes.values())]
    rows = []
    for c, case in enumerate(models.cases):
        for m, model in enumerate(models.names):
            row = [case, *(column[c] for column in labels.values()), model]
            for r in results:
                row += [r.averages[m, c], *r.values[m, c]]
            rows.append(row)
    return header, rows


def pairs(result: MetricResult, names: Sequence[str], alpha: float) -> Iterator[dict[str, Any]]:
    """Yield every ordered pair of models with its test; `difference` is better minus worse, see MetricResult."""
    underpowered = result.tests.underpowered_pairs(alpha)
    for (i, j), test in result.tests.tests.items():
        yield {
            "better": names[i],
            "worse": names[j],
            "n": test.n,
            "n_differ": test.n_differ,
            "statistic": test.statistic,
            "p": test.p,
            "p_holm": float(result.tests.p_holm[i, j]),
            "significant": bool(result.tests.p_holm[i, j] < alpha),
            "method": test.method,
            "difference": result.difference[i, j],
            "ci_low": result.difference_interval[0, i, j],
            "ci_high": result.difference_interval[1, i, j],
            "difference_n": int(result.difference_n[i, j]),
            "underpowered": bool(underpowered[i, j]),
        }


def p_value_rows(
    models: ModelScores, results: Sequence[MetricResult], alpha: float
) -> tuple[list[str], list[list[Any]]]:
    """Return p_values.csv: a row per metric and ordered pair."""
    header = ["metric", "over", "better", "worse", "n", "n_differ", "statistic", "p", "p_holm", "significant", "method"]
    header += ["difference", "ci_low", "ci_high", "difference_n", "underpowered"]
    rows = [[r.metric, r.tested, *pair.values()] for r in results for pair in pairs(r, models.names, alpha)]
    return header, rows


def rank(value: float) -> int | None:
    """Return a rank as a whole number; None for a model that has none."""
    return int(value) if np.isfinite(value) else None


def rank_rows(models: ModelScores, results: Sequence[MetricResult]) -> tuple[list[str], list[list[Any]]]:
    """Return ranks.csv: a row per metric and model, with every ranking and how stable the first is."""
    columns = range(len(models.names))
    header = ["metric", "over", "model", *results[0].rankings, "bootstrap median", "2.5 %", "97.5 %"]
    header += [f"share of rank {m + 1}" for m in columns]
    rows = []
    for r in results:
        for m in columns:
            stability = [r.stability.median[m], r.stability.low[m], r.stability.high[m], *r.stability.frequency[m]]
            numbers = [rank(ranks[m]) for ranks in r.rankings.values()]
            rows.append([r.metric, r.tested, models.names[m], *numbers, *stability])
    return header, rows
