"""The page of a comparison: index.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_xlstm import __version__
from nnunet_xlstm.comparison.analysis import MetricResult, Settings
from nnunet_xlstm.comparison.compared import Compared
from nnunet_xlstm.comparison.inputs import ModelScores
from nnunet_xlstm.comparison.narrative import conclusion, notes, significance_text, units_text
from nnunet_xlstm.comparison.plots import Job
from nnunet_xlstm.comparison.tables import OF_SUBJECTS, cell, number, over_units, pairs, paper_tables, rank, title
from nnunet_xlstm.evaluation.page import definition_rows
from nnunet_xlstm.html import Block, Gallery, Heading, Page, Picture, Table, Text
from nnunet_xlstm.statistics.bootstrap import LEVEL

MAX_PAIRS = 30
NAME_WIDTH = 36


def build_page(compared: Compared, drawn: Sequence[tuple[Job, Path]]) -> Page:
    """Build the page: answer, tables, figures, tests, definition.

    Args:
        compared: the models.
        drawn: each figure and its PNG.
    """
    names, results, settings = compared.models.names, compared.results, compared.settings
    name = " and ".join(names) if len(names) <= 2 else f"{len(names)} models"
    models = replace(compared.models, names=short_names(names))
    pictures = {job.name: Picture(path, job.caption) for job, path in drawn}
    kinds = {kind: [pictures[job.name] for job, _ in drawn if job.kind == kind] for kind in {j.kind for j, _ in drawn}}
    blocks: list[Block] = [Text(text) for text in notes(compared)]
    blocks += [Heading("Scores"), *_main_tables(models, results), *kinds.get("scores", [])]
    blocks += [Heading("Per class"), *_class_tables(models, results), *kinds.get("boxes", [])]
    if len(models.names) > 1:
        blocks += [Heading("Rankings"), *_rank_tables(models, results, settings)]
        blocks += [Gallery(kinds["ranks"]), Heading("Who is better than whom")]
        for r in results:
            blocks += [Text(f"{r.metric}. {significance_text(compared, r)}"), pictures[f"significance_{r.metric}"]]
            blocks += _pair_tables(models, r, settings)
    last = {"volumes": "Volumes", "radar": "Modalities", "modality": "Modalities", "cost": "Cost"}
    for kind, heading in last.items():
        if kind in kinds:
            blocks += [Heading(heading), *kinds[kind]]
    blocks += [Heading("Definition"), _definition(compared)]
    files = [[short, name, str(path)] for short, (name, path) in zip(models.names, compared.sources, strict=True)]
    blocks += [Heading("Models"), Table(["model", "full name", "summary"], files)]
    return Page(f"Comparison of {name}", conclusion(compared), blocks, footer=f"nnunet_xlstm {__version__}")


def short_names(names: Sequence[str]) -> list[str]:
    """Shorten names that would widen a table: long ones lose their middle, but stay different."""
    short = [n if len(n) <= NAME_WIDTH else f"{n[: NAME_WIDTH // 2]}…{n[1 - NAME_WIDTH // 2 :]}" for n in names]
    return [n if short.count(n) == 1 else f"{n} ({i + 1})" for i, n in enumerate(short)]


def _main_tables(models: ModelScores, results: Sequence[MetricResult]) -> list[Block]:
    header = ["model", *(title(r.metric) for r in results)]
    scores, intervals = [], []
    for m, name in enumerate(models.names):
        scores.append([name, *(_solid(cell(r, m, -1)) for r in results)])
        bounds = ((number(v, r.metric) for v in r.interval[:, m, -1]) for r in results)
        intervals.append([name, *(_solid(f"{low} to {high}") for low, high in bounds)])
    r = results[0]
    caption = f"Average over the classes{OF_SUBJECTS[r.over]}: {over_units(r)}"
    return [
        Table(header, scores, caption),
        Table(header, intervals, f"{LEVEL:.0%} interval of these means: bootstrap over the {r.over}"),
    ]


def _solid(text: str) -> str:
    """Keep numbers that belong together on one line."""
    return text.replace(" ", "\u00a0")


def _class_tables(models: ModelScores, results: Sequence[MetricResult]) -> list[Block]:
    tables = paper_tables(models, results)[1:]
    return [
        Table(header, [[row[0][0], *(_solid(text) for text, _ in row[1:])] for row in rows], caption)
        for caption, header, rows in tables
    ]


def _rank_tables(models: ModelScores, results: Sequence[MetricResult], settings: Settings) -> list[Block]:
    header = ["model", "mean", "median", "mean of ranks", "test", "bootstrap of mean"]
    blocks: list[Block] = []
    for r in results:
        rows = []
        for m, name in enumerate(models.names):
            cells = [rank(ranks[m]) for ranks in r.rankings.values()]
            s = r.stability
            rows.append([name, *cells, f"{s.median[m]:g} ({s.low[m]:g} to {s.high[m]:g})"])
        caption = (
            f"{r.metric}: rank by the mean, the median and the mean of the ranks of the {r.tested}, and by the number "
            "of models that one is significantly better than; last: rank by the mean in "
            f"{settings.resamples} resamples, median and 2.5 to 97.5 %"
        )
        blocks.append(Table(header, rows, caption))
    return blocks


def _pair_tables(models: ModelScores, r: MetricResult, settings: Settings) -> list[Block]:
    found = sorted(pairs(r, models.names, settings.alpha), key=lambda pair: (pair["p_holm"], pair["p"]))
    rows = []
    for pair in found[:MAX_PAIRS]:
        difference = number(pair["difference"], r.metric)
        bounds = f"{number(pair['ci_low'], r.metric)} to {number(pair['ci_high'], r.metric)}"
        p = [f"{pair[key]:.3g}" for key in ("p", "p_holm")]
        counts = f"{pair['n']} ({pair['n_differ']})"
        power = "underpowered" if pair["underpowered"] else ""
        rows.append([pair["better"], pair["worse"], difference, _solid(bounds), *p, counts, pair["method"], power])
    header = ["is better", "than", "difference", f"{LEVEL:.0%} interval"]
    header += ["p", "p (Holm)", "n (differ)", "test", "power"]
    failed = " over the classes that both have" if r.failed.any() else ""
    more = f"; the {MAX_PAIRS} smallest of {len(found)}, p_values.csv has all" if len(found) > MAX_PAIRS else ""
    caption = (
        f"{title(r.metric)}: ordered pairs of models, smallest p first{more}. Mean difference{failed}; its interval is "
        "not corrected for the number of pairs, p (Holm) is. n: what tests compare, in brackets those whose values "
        "differ (no exact p is smaller than one half to the power of these)"
    )
    return [Table(header, rows, caption)]


def _definition(compared: Compared) -> Table:
    settings = compared.settings
    missing = {
        "worst": "counts as the worst value in tests and ranks; means and differences leave it out",
        "drop": "is left out for all models",
    }[settings.na]
    over = "cases" if compared.subjects is None else "subjects, each the mean over its cases"
    rows = [
        [
            "means, SD, intervals, ranks are of",
            over if settings.unit == "case" else f"{over}; ranks and differences: of what tests compare",
        ],
        ["tests compare", units_text(compared)],
        ["test", "Wilcoxon signed-rank, one-sided, zeros dropped, exact up to 25 pairs that differ; Holm per metric"],
        ["a value that is missing", f"{missing}; if reference and prediction are both empty, the model is right"],
        ["bootstrap", f"{settings.resamples} resamples, percentiles (too narrow for few), seed {settings.seed}"],
        *definition_rows(compared.models.definition),
    ]
    return Table(["setting", "value"], rows)
