"""Run a comparison over several data sets: a comparison of each, then one table, figure and page of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm import __version__
from nnunet_xlstm.comparison.analysis import Settings
from nnunet_xlstm.comparison.inputs import read_costs, read_models
from nnunet_xlstm.comparison.page import short_names
from nnunet_xlstm.comparison.plots import Job, bubbles, draw, remove_earlier
from nnunet_xlstm.comparison.run import OUTPUTS as SINGLE
from nnunet_xlstm.comparison.run import check_folder, compare, strict
from nnunet_xlstm.comparison.sets import tables
from nnunet_xlstm.comparison.sets.analysis import (
    ModelSet,
    SetsResult,
    check_sets,
    common_metrics,
    common_models,
    model_names,
    over_sets,
)
from nnunet_xlstm.comparison.tables import directed, latex, markdown
from nnunet_xlstm.datasets.subjects import safe_name
from nnunet_xlstm.evaluation.summary import summary_file
from nnunet_xlstm.figures.score_charts import scores_per_set
from nnunet_xlstm.html import Block, Heading, Page, Picture, Table, Text
from nnunet_xlstm.io.protect import protect_inputs
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.tables import text_table, write_csv
from nnunet_xlstm.io.validate import ANY_TEXT, TEXT, TableOf, check
from nnunet_xlstm.io.write import staging, write_json, write_text
from nnunet_xlstm.statistics.bootstrap import LEVEL

FOLDER = "sets"  # the comparisons of single data sets
LAST = ("comparison.json", "index.html")
OUTPUTS = ("sets.csv", "overall.csv", "differences.csv", "table.md", "table.tex", *LAST)

MODELS = 'an object {"model": "summary.json", ...}; a summary.json itself is given as NAME=FILE'
SETS = TableOf(TableOf(ANY_TEXT, MODELS, least=1), f"an object data set -> {MODELS}", key=TEXT)


@dataclass(frozen=True)
class SetsComparison:
    """The outcome of `compare` over several data sets; `names` of all models."""

    sets: Sequence[ModelSet]
    names: list[str]
    settings: Settings
    results: list[SetsResult]
    conclusion: str
    notes: list[str]
    page: Path

    @property
    def labels(self) -> list[str]:
        """Return the names of the data sets."""
        return [one.name for one in self.sets]

    def lines(self) -> list[str]:
        """Return a table of the data sets and one of their mean per metric, notes and conclusion as lines of text."""
        lines = []
        for r, (caption, header, rows) in zip(
            self.results, tables.paper_tables(self.names, self.labels, self.results), strict=True
        ):
            overall_header, overall = tables.overall_table(self.names, r)
            plain = [[text for text, _ in row] for row in rows]
            lines += [caption, *text_table([header, *plain]), "", *text_table([overall_header, *overall]), ""]
        return lines + [line for text in (*self.notes, self.conclusion) for line in (text, "")][:-1]


def read_sets(path: Path) -> list[ModelSet]:
    """Read {"data set": {"model": "summary.json"}}; files are relative to the folder of the JSON file.

    Raises:
        DatasetError: the file holds something else.
    """
    content = read_json(path, dict)
    check(content, SETS, str(path))
    return [
        ModelSet(name, [(model, path.parent / file) for model, file in models.items()])
        for name, models in content.items()
    ]


def compare_sets(
    sets: Sequence[ModelSet],
    out: Path,
    settings: Settings,
    cost_file: Path | None = None,
    inputs: Sequence[Path] = (),
) -> SetsComparison:
    """Compare models on several data sets; write tables, figures and a page, and `compare`'s own for each set.

    Args:
        sets: the data sets, each with its models.
        settings: what is compared, and how.
        out: folder; what is there under the same names is replaced.
        cost_file: see `read_costs`.
        inputs: further files that must not be replaced.

    Raises:
        ConfigError: a file would replace one that is read.
        DatasetError: the sets do not fit together, or a summary is not as it should be.
    """
    check_folder(out)
    check_sets(sets)
    _protect(sets, out, [*inputs, *([cost_file] if cost_file else [])])
    names, labels = model_names(sets), [one.name for one in sets]
    costs = read_costs(cost_file, names) if cost_file else None
    read = [read_models(one.models, settings.common) for one in sets]
    settings = replace(settings, metrics=common_metrics(read, labels, settings.metrics))
    pages, found = [], []
    for one in sets:
        made = compare(one.models, out / FOLDER / safe_name(one.name), settings, one.subjects)
        pages.append(made.page.relative_to(out))
        found.append(made.results)
    models = [[name for name, _ in one.models] for one in sets]
    results = [over_sets(names, models, [r[i] for r in found], settings) for i in range(len(settings.metrics))]
    remarks = tables.notes(names, common_models(sets), labels, results, settings)
    lead = tables.conclusion(names, labels, results)
    whole = SetsComparison(sets, names, settings, results, lead, remarks, out / "index.html")
    paper = tables.paper_tables(names, labels, results)
    with staging(out, last=LAST) as fresh:
        todo = list(_jobs(whole, costs))
        files = [draw(job, fresh / "figures") for job in todo]
        write_csv(fresh / "sets.csv", *tables.set_rows(names, labels, results))
        write_csv(fresh / "overall.csv", *tables.overall_rows(names, results))
        write_csv(fresh / "differences.csv", *tables.difference_rows(names, results))
        write_text(fresh / "table.md", markdown(paper, remarks))
        write_text(fresh / "table.tex", latex(paper, remarks))
        write_json(fresh / "comparison.json", _record(whole))
        pictures = {job.name: Picture(paths[0], job.caption) for job, paths in zip(todo, files, strict=True)}
        _page(whole, pictures, pages).write(fresh / "index.html")
    remove_earlier(out / "figures", {path.name for paths in files for path in paths})
    return whole


def _protect(sets: Sequence[ModelSet], out: Path, more: list[Path]) -> None:
    """Raise ConfigError where a file of the comparison, or of that of a set, would replace one that is read."""
    files = [summary_file(path) for one in sets for _, path in one.models]
    folders = [out, *(out / FOLDER / safe_name(one.name) for one in sets)]
    written = [folder / name for folder in folders for name in {*OUTPUTS, *SINGLE}]
    protect_inputs(written, [*files, *(one.subjects for one in sets if one.subjects), *more])


def _jobs(c: SetsComparison, costs: dict[str, np.ndarray] | None) -> Iterator[Job]:
    for r in c.results:
        mean = np.concatenate([r.mean, r.overall[None]])
        bounds = np.concatenate([r.interval, r.overall_interval[:, None]], axis=1)
        over = " or ".join(sorted({one.over for one in r.results})) + " within each data set"
        label = f"mean {directed(r.metric)}"
        draw_sets = partial(scores_per_set, c.names, c.labels, mean, bounds, label, over, tables.OVERALL)
        yield Job(f"sets_{r.metric}", "sets", f"{directed(r.metric)} per data set", draw_sets)
        if costs is not None:
            text = f"{directed(r.metric)}, {tables.OVERALL}"
            yield from bubbles(c.names, r.metric, r.overall, r.overall_interval, costs, text)


def _record(c: SetsComparison) -> dict[str, Any]:
    """Return the content of comparison.json; the numbers of each data set are in its own."""
    metrics = {}
    for r in c.results:
        metrics[r.metric] = {
            name: {
                "sets": {
                    one.name: {"n": r.n[s, m], "mean": r.mean[s, m], "interval": r.interval[:, s, m].tolist(),
                               "rank": r.rank[s, m]}
                    for s, one in enumerate(c.sets) if m in r.columns[s]
                },
                "mean": r.overall[m],
                "interval": r.overall_interval[:, m].tolist(),
                "rank": r.overall_rank[m],
                "rank_interval": [r.rank_low[m], r.rank_high[m]],
                "share_of_rank_1": r.first[m],
                "mean_of_ranks": r.mean_rank[m],
                "minus": {
                    other: {"difference": r.difference[m, o], "interval": r.difference_interval[:, m, o].tolist()}
                    for o, other in enumerate(c.names) if o != m
                },
            }
            for m, name in enumerate(c.names)
        }  # fmt: skip
    content = {
        "version": __version__,
        "conclusion": c.conclusion,
        "notes": c.notes,
        "sets": {one.name: {name: str(path) for name, path in one.models} for one in c.sets},
        "settings": asdict(c.settings) | {"interval": LEVEL, "resampled": "subjects or cases within each data set"},
        "metrics": metrics,
    }
    return strict(content)


def _page(c: SetsComparison, pictures: Mapping[str, Picture], pages: Sequence[Path]) -> Page:
    short = short_names(c.names)
    blocks: list[Block] = [Text(text) for text in c.notes]
    paper = tables.paper_tables(short, c.labels, c.results)
    for r, (caption, header, rows) in zip(c.results, paper, strict=True):
        blocks += [Heading(directed(r.metric)), pictures[f"sets_{r.metric}"]]
        blocks += [Table(header, [[text.replace(" ", "\u00a0") for text, _ in row] for row in rows], caption)]
        blocks += [Table(*tables.overall_table(short, r), f"{r.metric}, {tables.OVERALL}: every one counts the same")]
        if len(c.names) > 1:
            blocks += [Table(*tables.difference_table(short, r), "Mean over the data sets of the paired differences")]
        if f"bubbles_{r.metric}" in pictures:
            blocks.append(pictures[f"bubbles_{r.metric}"])
    blocks += [Heading("Data sets")]
    named = [(one.name, ", ".join(name for name, _ in one.models)) for one in c.sets]
    own = [[*row, str(page)] for row, page in zip(named, pages, strict=True)]
    blocks += [Table(["data set", "models", "its own page: tests, rankings, classes"], own)]
    blocks += [
        Heading("Models"),
        Table(["model", "full name"], list(zip(short, c.names, strict=True))),
    ]
    title = f"Comparison of {len(c.names)} models on {len(c.sets)} data sets"
    return Page(title, c.conclusion, blocks, footer=f"nnunet_xlstm {__version__}")
