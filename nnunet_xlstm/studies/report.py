"""The report of a study: tables (CSV, Markdown), a figure and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm import __version__
from nnunet_xlstm.comparison.tables import title
from nnunet_xlstm.evaluation.summary import mean_of_known
from nnunet_xlstm.figures.learning_curve import Curve, learning_curve
from nnunet_xlstm.figures.score_charts import scores_per_set
from nnunet_xlstm.figures.style import save
from nnunet_xlstm.html import DASH, Block, Code, Heading, Page, Picture, Table, Text
from nnunet_xlstm.io.tables import write_csv
from nnunet_xlstm.io.write import write_text
from nnunet_xlstm.studies.analysis import METRICS, Findings, Point, repeated
from nnunet_xlstm.studies.narrative import conclusion, difference_text, p_text, range_text, remarks
from nnunet_xlstm.studies.study import Study

DIGITS = {"HD95": 2}
CURVE, SETS = "learning_curve", "scores"  # names of the figure
REPORTS = (
    *("results.csv", "table.csv", "table.md", "report.html"),
    *(f"{name}.{ending}" for name in (CURVE, SETS) for ending in ("png", "svg")),
)


def write_report(found: Findings, resume: str, comparison: Path | None = None) -> Path:
    """Write results.csv, table.csv, table.md, the figure as PNG and SVG, and report.html; return that page.

    Args:
        found: the numbers.
        resume: the command that goes on with the study.
        comparison: the page of `compare`, where there is one.
    """
    out = found.study.folder
    write_csv(out / "results.csv", *_run_rows(found))
    write_csv(out / "table.csv", *_point_rows(found))
    header, rows = text_rows(found)
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
    write_text(out / "table.md", "\n".join([*lines, "", *(f"{text}\n" for text in remarks(found))]))
    return _page(found, _picture(found), resume, comparison).write(out / "report.html")


def _key_columns(study: Study) -> list[str]:
    """Return names of the columns that say the condition."""
    return [*(["data set"] if len(study.scored_sets) > 1 else []), *([study.kind.axis.key] if study.kind.axis else [])]


def _keys(study: Study, point: Point) -> list[Any]:
    condition = point.condition
    name = [condition.data.name] if len(study.scored_sets) > 1 else []
    return [*name, *([condition.value] if study.kind.axis else [])]


def _run_rows(found: Findings) -> tuple[list[str], list[list[Any]]]:
    """Return every run, part and class."""
    axis = found.study.kind.axis
    header = ["run", "variant", "part", *([axis.key] if axis else []), "seed", "class", *METRICS]
    rows = []
    for s in found.scored:
        start = [s.run.id, s.run.variant, s.part.name, *([s.run.value] if axis else []), s.run.seed]
        rows += [[*start, name, *(values[metric] for metric in METRICS)] for name, values in s.scores.items()]
    return header, rows


def _point_rows(found: Findings) -> tuple[list[str], list[list[Any]]]:
    """Return every variant, condition and metric, in full precision."""
    header = ["variant", *_key_columns(found.study), "metric", "runs", "subjects", "mean", "low", "high", "repeat_sd"]
    header += ["difference", "difference_low", "difference_high", "p_holm"]
    rows = []
    for p in found.points:
        d = p.difference
        difference = [None] * 4 if d is None else [d.mean, *d.interval, d.p]
        start = [p.variant, *_keys(found.study, p), p.metric, p.runs, p.subjects]
        rows.append([*start, p.mean, *p.interval, p.repeat_sd, *difference])
    return header, rows


def text_rows(found: Findings) -> tuple[list[str], list[list[str]]]:
    """Return a variant and a condition per row, as text: the printed table."""
    study = found.study
    header = [*_key_columns(study), "variant", "runs", "Dice (95 % interval)", f"SD of {repeated(study)}"]
    header += [f"minus {study.variants[0].name}", "p (Holm)", *(title(metric) for metric in METRICS[1:])]
    others = {(p.condition.key, p.variant, p.metric): p for p in found.points}
    planned = max(study.seeds * max(len(study.folds), 1), 1)
    rows = []
    for p in found.of("Dice"):
        more = [others.get((p.condition.key, p.variant, metric)) for metric in METRICS[1:]]
        rows.append(
            [
                *(str(key) for key in _keys(study, p)),
                p.variant,
                f"{p.runs} of {planned}",
                f"{p.mean:.3f} ({range_text(p.interval)})",
                DASH if p.repeat_sd is None else f"{p.repeat_sd:.3f}",
                difference_text(p.difference),
                p_text(None if p.difference is None else p.difference.p),
                *(DASH if q is None else f"{q.mean:.{DIGITS.get(q.metric, 3)}f}" for q in more),
            ]
        )
    return header, rows


def _picture(found: Findings) -> Picture:
    """Draw and save Dice against the axis, of the variants, or of the variants per data set."""
    study = found.study
    over = "the scored subjects" if study.folds else "test subjects"
    if len(study.scored_sets) > 1:
        variants, sets = [variant.name for variant in study.variants], [data.name for data in study.scored_sets]
        chart = scores_per_set(variants, sets, *_per_set(found, variants, sets), "Dice", over)
        return Picture(save(chart, study.folder / SETS)[0], "Dice per data set")
    unit = study.kind.axis.unit if study.kind.axis else ""
    chart = learning_curve(_curves(found), "Dice", over, unit, repeated(study))
    several = len({p.condition.value for p in found.of("Dice")}) > 1
    caption = f"Dice against the number of {unit}s" if several else "Dice of the variants"
    return Picture(save(chart, study.folder / (CURVE if unit else SETS))[0], caption)


def _per_set(found: Findings, variants: list[str], sets: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (sets, variants) and interval (2, sets, variants), NaN where there is none."""
    mean, interval = np.full((len(sets), len(variants)), np.nan), np.full((2, len(sets), len(variants)), np.nan)
    for p in found.of("Dice"):
        s, v = sets.index(p.condition.data.name), variants.index(p.variant)
        mean[s, v], interval[:, s, v] = p.mean, p.interval
    return mean, interval


def _curves(found: Findings) -> list[Curve]:
    """Return the Dice of each variant that has a run."""
    made = []
    for variant in found.study.variants:
        points = [p for p in found.of("Dice") if p.variant == variant.name]
        if points:
            x, mean = [p.condition.value or 0 for p in points], [p.mean for p in points]
            interval = np.array([p.interval for p in points]).T
            made.append(Curve(variant.name, x, mean, interval, [list(p.repeats.values()) for p in points]))
    return made


def _page(found: Findings, shown: Picture, resume: str, comparison: Path | None) -> Page:
    study = found.study
    header, rows = text_rows(found)
    blocks: list[Block] = [shown, Heading("Scores")]
    blocks += [Table(header, rows), *(Text(text) for text in remarks(found))]
    if comparison is not None:
        where = comparison.relative_to(study.folder)
        blocks.append(Text(f"Tests of all pairs, rankings, figures per class: {where}"))
    blocks += [Heading("Per class"), *_class_tables(found), Heading("Variants"), _variant_table(study)]
    blocks += [Heading("Settings"), _settings(study), Heading("Go on"), Code(resume)]
    return Page(
        f"{study.kind.title}: {study.sets[0].dataset}", conclusion(found), blocks, f"nnunet_xlstm {__version__}"
    )


def _class_tables(found: Findings) -> list[Block]:
    """Return mean Dice over runs, a table per data set."""
    study, axis = found.study, found.study.kind.axis
    tables: list[Block] = []
    for data in study.scored_sets:
        groups: dict[tuple[int, str], list[dict[str, dict[str, float]]]] = {}
        for s in found.scored:
            if s.part.data.name == data.name:
                groups.setdefault((s.run.value or 0, s.run.variant), []).append(s.scores)
        if not groups:
            continue
        classes = list(next(iter(groups.values()))[0])
        rows = [
            [
                *([str(value)] if axis else []),
                variant,
                *mean_of_known(np.array([[scores[name]["Dice"] for name in classes] for scores in group]), axis=0),
            ]
            for (value, variant), group in sorted(groups.items(), key=lambda item: item[0][0])
        ]
        of = f"{data.name}: " if len(study.scored_sets) > 1 else ""
        header = [*([axis.key] if axis else []), "variant", *classes]
        tables.append(Table(header, rows, f"{of}Dice, mean over subjects, then over runs"))
    return tables


def _variant_table(study: Study) -> Table:
    rows = [
        [
            variant.name,
            variant.trainer,
            variant.plans,
            "from scratch"
            if variant.checkpoint is None
            else f"{variant.checkpoint} (SHA-256 {study.hashes[f'variant {variant.name}'][:12]})",
            *(["the pool" if variant.name in study.pooled else "each data set alone"] if study.pooled else []),
            ", ".join([*(f"{k} {v}" for k, v in variant.config.items()), *variant.adapt]) or DASH,
        ]
        for variant in study.variants
    ]
    trained = ["trained on"] if study.pooled else []
    return Table(["variant", "trainer", "plans", "starts from", *trained, "own settings"], rows)


def _settings(study: Study) -> Table:
    rows = [("data sets" if study.pooled else "data set", ", ".join(data.dataset for data in study.sets))]
    rows += [("configuration", study.configuration), ("length of a run", _length(study))]
    rows += [("keys of all trainers", ", ".join(f"{k} {v}" for k, v in study.config.items()) or DASH)]
    if study.folds:
        rows += [(f"fold {n}", f"{len(fold['train'])} cases to train, {len(fold['val'])} scored")
                 for n in study.folds for fold in [study.sets[0].folds[n]]]  # fmt: skip
    for data in study.sets if not study.folds else ():
        trained = {data.subjects[case] for case in data.training_cases}
        name = f" of {data.name}" if study.pooled else ""
        rows.append((f"subjects{name}", f"{len(trained)} to train, {len(data.tested)} scored"))
    for seed, order in study.orders.items():
        rows.append((f"drawn, seed {seed}", ", ".join(order[: max(study.values)])))
    rows += [(name, version) for name, version in study.versions.items()]
    return Table(["setting", "value"], rows)


def _length(study: Study) -> str:
    if study.epoch is None:
        return "as the recipe of each trainer says"
    if study.iterations is None:
        return f"epochs of {study.epoch} iterations"
    return f"{study.iterations} iterations ({study.iterations // study.epoch} x {study.epoch})"
