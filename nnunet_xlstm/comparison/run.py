"""Run a comparison: read, compute, draw, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nnunet_xlstm import __version__
from nnunet_xlstm.comparison import tables
from nnunet_xlstm.comparison.analysis import MetricResult, Settings
from nnunet_xlstm.comparison.compared import Compared, compare_models
from nnunet_xlstm.comparison.inputs import ModelScores
from nnunet_xlstm.comparison.narrative import conclusion, notes, significance_text
from nnunet_xlstm.comparison.page import build_page
from nnunet_xlstm.comparison.plots import draw, jobs, modality_means, remove_earlier, total_volumes
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.evaluation.summary import METRICS, finite, summary_file
from nnunet_xlstm.io.protect import protect_inputs
from nnunet_xlstm.io.tables import text_table, write_csv
from nnunet_xlstm.io.write import staging, write_json, write_text
from nnunet_xlstm.statistics.agreement import agreement
from nnunet_xlstm.statistics.bootstrap import LEVEL

LAST = ("comparison.json", "index.html")  # they speak of the others
OUTPUTS = ("scores.csv", "table.csv", "p_values.csv", "ranks.csv", "table.md", "table.tex", *LAST)


@dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`; `conclusion` says it in a sentence or two."""

    models: ModelScores
    results: Sequence[MetricResult]
    conclusion: str
    notes: list[str]
    page: Path

    def lines(self) -> list[str]:
        """Return mean ± SD per model and metric, notes and conclusion as lines of text."""
        rows = [["model", *(tables.title(r.metric) for r in self.results)]]
        for m, name in enumerate(self.models.names):
            rows.append([name, *(tables.cell(r, m, -1) for r in self.results)])
        return text_table(rows) + [line for text in (*self.notes, self.conclusion) for line in ("", text)]


def compare(
    sources: Sequence[tuple[str, Path]],
    out: Path,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    subjects_file: Path | None = None,
    modality_file: Path | None = None,
    cost_file: Path | None = None,
) -> Comparison:
    """Compare models and write tables, figures and a page.

    Args:
        sources: (name of the model, its summary.json).
        out: folder; what is there under the same names is replaced.
        settings: what is compared, and how.
        subjects_file: who the subject of each case is, see `read_case_table`.
        modality_file: the modality of each case, likewise.
        cost_file: see `read_costs`.

    Raises:
        DatasetError: the summaries do not fit together, or a file or a metric is not as it should be.
    """
    check_folder(out)
    tables_given = [path for path in (subjects_file, modality_file, cost_file) if path]
    protect_inputs([out / name for name in OUTPUTS], [*(summary_file(path) for _, path in sources), *tables_given])
    compared = compare_models(sources, settings, subjects_file, modality_file, cost_file)
    models, results = compared.models, compared.results
    columns = {"subject": compared.subjects, "modality": compared.modality}
    known = {key: column for key, column in columns.items() if column is not None}
    remarks = notes(compared)
    paper = tables.paper_tables(models, results)
    with staging(out, last=LAST) as fresh:
        todo = list(jobs(compared))
        with tqdm(todo, desc="figures", disable=None) as bar:
            files = [draw(job, fresh / "figures") for job in bar]
        write_json(fresh / "comparison.json", _record(compared))
        write_csv(fresh / "scores.csv", *tables.score_rows(models, results, known))
        write_csv(fresh / "table.csv", *tables.table_rows(models, results))
        write_csv(fresh / "p_values.csv", *tables.p_value_rows(models, results, settings.alpha))
        write_csv(fresh / "ranks.csv", *tables.rank_rows(models, results))
        write_text(fresh / "table.md", tables.markdown(paper, remarks))
        write_text(fresh / "table.tex", tables.latex(paper, remarks))
        shown = [(job, paths[0]) for job, paths in zip(todo, files, strict=True)]
        build_page(compared, shown).write(fresh / "index.html")
    remove_earlier(out / "figures", {path.name for paths in files for path in paths})
    return Comparison(models, results, conclusion(compared), remarks, out / "index.html")


def check_folder(out: Path) -> None:
    """Check that results do not take the place of a file.

    Raises:
        DatasetError: there is a file of that name.
    """
    if out.exists() and not out.is_dir():
        raise DatasetError(f"-o {out} is a file; give a folder.")


def _record(compared: Compared) -> dict[str, Any]:
    """Return the content of comparison.json: every number of the comparison. What is unknown is null."""
    models, subjects, modality = compared.models, compared.subjects, compared.modality
    volumes = total_volumes(models, subjects)
    content: dict[str, Any] = {
        "version": __version__,
        "models": [{"name": name, "file": str(path)} for name, path in compared.sources],
        "conclusion": conclusion(compared),
        "notes": notes(compared),
        "cases": models.cases,
        "left_out": models.left_out,
        "failed_cases": models.failed,
        "subjects": None if subjects is None else dict(zip(models.cases, subjects, strict=True)),
        "modality": None if modality is None else dict(zip(models.cases, modality, strict=True)),
        "classes": models.classes,
        "definition": models.definition,
        "settings": asdict(compared.settings) | {"interval": LEVEL},
        "metrics": {r.metric: _metric_record(compared, r) for r in compared.results},
        "volumes": None,
    }
    if volumes is not None:
        found = [agreement(p, g) for g, p in zip(volumes.reference, volumes.prediction, strict=True)]
        content["volumes"] = {
            "unit": volumes.unit,
            "of": volumes.label,
            "models": dict(zip(models.names, map(asdict, found), strict=True)),
        }
    return strict(content)


def _metric_record(compared: Compared, r: MetricResult) -> dict[str, Any]:
    models, alpha = compared.models, compared.settings.alpha
    by_model = {}
    for m, name in enumerate(models.names):
        columns = [
            {"n": r.n[m, c], "mean": r.mean[m, c], "sd": r.sd[m, c], "interval": r.interval[:, m, c].tolist()}
            for c in range(r.mean.shape[1])
        ]
        by_model[name] = {
            **columns[-1],
            "over": r.over,
            "class_mean": r.class_mean[m],
            "failed": r.failed[m],
            "classes": dict(zip(models.classes, columns[:-1], strict=True)),
            "ranks": {how: tables.rank(ranks[m]) for how, ranks in r.rankings.items()},
            "rank_stability": {
                "median": r.stability.median[m],
                "interval": [r.stability.low[m], r.stability.high[m]],
                "frequency": r.stability.frequency[m].tolist(),
            },
        }
        if compared.modality is not None:
            means = modality_means(r, compared.modality, compared.subjects)
            by_model[name]["modality"] = {kind: values[m] for kind, values in means.items()}
    tests = r.tests
    return {
        "unit": METRICS[r.metric].unit,
        "better": METRICS[r.metric].better,
        "models": by_model,
        "test": {
            "text": significance_text(compared, r),
            "units": tests.units,
            "comparisons": tests.comparisons,
            "smallest_p": tests.smallest_p() if tests.comparisons else None,
            "smallest_p_holm": tests.smallest_p_holm() if tests.comparisons else None,
            "underpowered": tests.underpowered(alpha),
            "pairs": list(tables.pairs(r, models.names, alpha)),
        },
    }


def strict(value: Any) -> Any:
    """Return the same with plain numbers, and null where there is no finite one."""
    if isinstance(value, dict):
        return {key: strict(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (np.integer, np.floating)):
        value = value.item()
    return finite(value) if isinstance(value, (int, float)) else value
