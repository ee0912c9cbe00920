"""Tables and sentences of a comparison over several data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_xlstm.comparison.analysis import Settings
from nnunet_xlstm.comparison.narrative import FEW, count
from nnunet_xlstm.comparison.sets.analysis import SetsResult
from nnunet_xlstm.comparison.tables import PaperTable, best, cell, directed, number, rank, title
from nnunet_xlstm.datasets.case_table import listed
from nnunet_xlstm.evaluation.summary import METRICS
from nnunet_xlstm.html import DASH

OVERALL = "mean over the data sets"


def paper_tables(names: Sequence[str], sets: Sequence[str], results: Sequence[SetsResult]) -> list[PaperTable]:
    """Return one table per metric: models x data sets, mean ± SD, then the mean over the data sets."""
    tables = []
    for r in results:
        # what is the best of a column is only said of models that all have a value for the same cases
        fair = [set_result.comparable[-1] for set_result in r.results]
        columns = [best(r.mean[s], r.metric) & fair[s] for s in range(len(sets))]
        overall = best(r.overall, r.metric) & all(fair)
        rows = []
        for m, name in enumerate(names):
            cells = [(_set_cell(r, s, m), bool(columns[s][m])) for s in range(len(sets))]
            rows.append([(name, False), *cells, (number(r.overall[m], r.metric), bool(overall[m]))])
        over = " or ".join(sorted({set_result.over for set_result in r.results}))
        caption = f"{directed(r.metric)}: mean ± SD over the {over} of each data set, and the mean over the data sets."
        tables.append((caption, ["Model", *sets, "Mean"], rows))
    return tables


def _set_cell(r: SetsResult, s: int, model: int) -> str:
    """Return mean ± SD in one data set; a dash for a model that it lacks."""
    own = r.columns[s]
    return cell(r.results[s], own.index(model), -1) if model in own else DASH


def set_rows(names: Sequence[str], sets: Sequence[str], results: Sequence[SetsResult]) -> tuple[list, list[list[Any]]]:
    """Return sets.csv: a row per metric, data set and model."""
    header = ["metric", "unit", "data set", "over", "model", "n", "mean", "ci_low", "ci_high", "rank"]
    rows = []
    for r in results:
        for s, one in enumerate(sets):
            for m, name in enumerate(names):
                if m in r.columns[s]:
                    start = [r.metric, METRICS[r.metric].unit, one, r.results[s].over, name, r.n[s, m]]
                    rows.append([*start, r.mean[s, m], *r.interval[:, s, m], rank(r.rank[s, m])])
    return header, rows


def overall_rows(names: Sequence[str], results: Sequence[SetsResult]) -> tuple[list, list[list[Any]]]:
    """Return overall.csv: a row per metric and model."""
    header = ["metric", "unit", "model", OVERALL, "ci_low", "ci_high", "rank", "rank 2.5 %", "rank 97.5 %"]
    header += ["share of rank 1", "mean of the ranks"]
    rows = []
    for r in results:
        for m, name in enumerate(names):
            numbers = [r.overall[m], *r.overall_interval[:, m], rank(r.overall_rank[m]), r.rank_low[m], r.rank_high[m]]
            rows.append([r.metric, METRICS[r.metric].unit, name, *numbers, r.first[m], r.mean_rank[m]])
    return header, rows


def difference_rows(names: Sequence[str], results: Sequence[SetsResult]) -> tuple[list, list[list[Any]]]:
    """Return differences.csv: a row per metric and pair of models, the first minus the second."""
    header = ["metric", "unit", "model", "minus", "difference", "ci_low", "ci_high"]
    rows = []
    for r in results:
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                if i < j and np.isfinite(r.difference[i, j]):
                    bounds = r.difference_interval[:, i, j]
                    rows.append([r.metric, METRICS[r.metric].unit, one, other, r.difference[i, j], *bounds])
    return header, rows


def overall_table(names: Sequence[str], r: SetsResult) -> tuple[list[str], list[list[str]]]:
    """Return, of one metric, the mean over the data sets with its interval, and ranks, as text."""
    header = ["model", f"{title(r.metric)}, {OVERALL}", "95 % interval", "rank", "95 % of resamples", "first in"]
    header += ["mean of the ranks"]
    rows = []
    for m, name in enumerate(names):
        if np.isnan(r.overall_rank[m]):
            rows.append([name, *[DASH] * 6])
            continue
        bounds = " to ".join(number(v, r.metric) for v in r.overall_interval[:, m])
        ranks = [f"{r.overall_rank[m]:g}", f"{r.rank_low[m]:g} to {r.rank_high[m]:g}", f"{100 * r.first[m]:.0f} %"]
        rows.append([name, number(r.overall[m], r.metric), bounds, *ranks, f"{r.mean_rank[m]:.2f}"])
    return header, rows


def difference_table(names: Sequence[str], r: SetsResult) -> tuple[list[str], list[list[str]]]:
    """Return, of one metric, the difference of every pair as text."""
    rows = []
    for _, _, one, other, difference, *bounds in difference_rows(names, [r])[1]:
        rows.append([one, other, number(difference, r.metric), " to ".join(number(v, r.metric) for v in bounds)])
    return ["model", "minus", f"{title(r.metric)}, {OVERALL}", "95 % interval"], rows


def conclusion(names: Sequence[str], sets: Sequence[str], results: Sequence[SetsResult]) -> str:
    """Say which model is best over the sets by the first metric, how surely, and in how many sets by itself."""
    r = results[0]
    start = f"{count(len(names), 'model')} on {count(len(sets), 'data set')}."
    leaders = np.flatnonzero(r.overall_rank == 1).tolist()
    if len(leaders) > 1:
        return f"{start} {listed([names[m] for m in leaders])} share the first rank by the mean {r.metric}."
    m = leaders[0]
    wins = int((r.rank[:, m] == 1).sum())
    return (
        f"{start} By the {OVERALL}, {names[m]} ranks first by {r.metric} "
        f"({number(r.overall[m], r.metric)}), and so in {100 * r.first[m]:.0f} % of the resamples. By itself it ranks "
        f"first in {wins} of the {count(len(sets), 'data set')}."
    )


def notes(
    names: Sequence[str], common: Sequence[str], sets: Sequence[str], results: Sequence[SetsResult], settings: Settings
) -> list[str]:
    """List what is resampled, how ranks are made, and what is missing."""
    over = " or ".join(sorted({one.over for one in results[0].results}))
    found = [
        f"Intervals: {settings.resamples} bootstrap resamples of the {over} within each data set; each set counts the "
        "same. The data sets themselves are not resampled, so the intervals say nothing of other data sets.",
        f"Rank: by the {OVERALL}, where a missing value counts as the worst. Mean of the ranks: by the mean in each "
        "data set. Intervals of differences are not corrected for the number of pairs.",
    ]
    if len(sets) < 2:
        found.append(f"There is one data set, so that the {OVERALL} is its own.")
    if behind := [name for name in names if name not in common]:
        found.append(f"Not in every data set, and so without a mean over them and a rank: {listed(behind)}.")
    small = [name for s, name in enumerate(sets) if 1 < results[0].n[s].max() <= FEW]
    if small:
        found.append(f"Intervals of {FEW} {over} or fewer are too narrow: {listed(small)}.")
    failed = [name for s, name in enumerate(sets) if any(r.results[s].failed.any() for r in results)]
    if failed and settings.na == "worst":
        found.append(
            f"Values are missing in {listed(failed)}: ranks count them as the worst, means leave such cases out. The "
            "pages of these data sets name them."
        )
    return found
