"""What a study has found: tables (CSV, Markdown), the learning curve and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm import __version__
from nnunet_xlstm.comparison.tables import title
from nnunet_xlstm.figures.learning_curve import Curve, learning_curve
from nnunet_xlstm.figures.style import save
from nnunet_xlstm.io.files import write_text
from nnunet_xlstm.io.tables import write_csv
from nnunet_xlstm.report.html import DASH, Block, Code, Heading, Page, Picture, Table, Text
from nnunet_xlstm.studies.analysis import METRICS, Findings, Point

REPORTS = ("results.csv", "table.csv", "table.md", "learning_curve.png", "learning_curve.svg", "report.html")
MAX_LISTED = 12
DIGITS = {"HD95": 2}


def write_report(found: Findings, resume: str) -> Path:
    """Write results.csv, table.csv, table.md, learning_curve.png and .svg, and report.html; that page.

    Args:
        resume: the command that goes on with the study.
    """
    out = found.study.folder
    write_csv(out / "results.csv", *run_rows(found))
    write_csv(out / "table.csv", *point_rows(found))
    header, rows = text_rows(found)
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
    write_text(out / "table.md", "\n".join([*lines, "", *(f"{text}\n" for text in remarks(found))]))
    curve = save(learning_curve(curves(found), "Dice"), out / "learning_curve")[0]
    return page(found, curve, resume).write(out / "report.html")


def run_rows(found: Findings) -> tuple[list[str], list[list[Any]]]:
    """Every run and class."""
    rows = [
        [row.run.id, row.run.arm, row.run.labels, row.run.seed, name, *(values[metric] for metric in METRICS)]
        for row in found.runs
        for name, values in row.scores.items()
    ]
    return ["run", "arm", "labels", "seed", "class", *METRICS], rows


def point_rows(found: Findings) -> tuple[list[str], list[list[Any]]]:
    """Every arm, number of labels and metric, in full precision."""
    header = ["arm", "labels", "metric", "seeds", "mean", "low", "high", "seed_sd"]
    header += ["difference", "difference_low", "difference_high", "p_holm"]
    rows = []
    for p in found.points:
        bounds = p.difference_interval or (None, None)
        rows.append([p.arm, p.labels, p.metric, len(p.seeds), p.mean, *p.interval, p.seed_sd, p.difference, *bounds])
        rows[-1].append(p.p)
    return header, rows


def text_rows(found: Findings) -> tuple[list[str], list[list[str]]]:
    """An arm and a number of labels per row, as text: the printed table."""
    first = found.study.arms[0].name
    header = ["labels", "arm", "seeds", "Dice (95 % interval)", "SD of seeds", f"minus {first}", "p (Holm)"]
    header += [title(metric) for metric in METRICS[1:]]
    others = {(p.labels, p.arm, p.metric): p for p in found.points}
    rows = []
    for p in found.of("Dice"):
        more = [others.get((p.labels, p.arm, metric)) for metric in METRICS[1:]]
        rows.append(
            [
                str(p.labels),
                p.arm,
                f"{len(p.seeds)} of {found.study.seeds}",
                f"{p.mean:.3f} ({_range(p.interval)})",
                DASH if p.seed_sd is None else f"{p.seed_sd:.3f}",
                _difference(p),
                DASH if p.p is None else f"{p.p:.3f}" if p.p >= 0.001 else "<0.001",
                *(DASH if q is None else f"{q.mean:.{DIGITS.get(q.metric, 3)}f}" for q in more),
            ]
        )
    return header, rows


def _difference(p: Point) -> str:
    return DASH if p.difference is None else f"{p.difference:+.3f} ({_range(p.difference_interval, '+')})"


def _range(bounds: Sequence[float], sign: str = "") -> str:
    return " to ".join(DASH if np.isnan(v) else f"{v:{sign}.3f}" for v in bounds)


def remarks(found: Findings) -> list[str]:
    """How to read the numbers, and what they lack."""
    tested = {found.study.subjects[case] for case in found.study.test_cases}
    first = found.study.arms[0].name
    texts = [
        f"Scores of {len(tested)} test subjects; a case's scores are averaged over the seeds first. Intervals: "
        f"bootstrap over test subjects. p: Wilcoxon signed-rank against {first}, two-sided, Holm over the arms of the "
        "same number of labels. SD of seeds: how much drawn labels and initial weights matter.",
    ]
    if len(found.study.arms) > 2:
        texts.append("The highest of several arms is so partly by chance, which its interval does not count.")
    if len(tested) < 10:
        texts.append("Fewer than 10 test subjects: the intervals are too narrow.")
    if found.missing:
        shown = ", ".join(found.missing[:MAX_LISTED]) + (" and more" if len(found.missing) > MAX_LISTED else "")
        texts.append(
            f"Not finished: {len(found.missing)} of {len(found.study.runs())} runs ({shown}). An arm is compared with "
            f"{first} where both have finished the same seeds."
        )
    return texts


def curves(found: Findings) -> list[Curve]:
    """The Dice of each arm that has a run."""
    made = []
    for arm in found.study.arms:
        points = [p for p in found.of("Dice") if p.arm == arm.name]
        if points:
            x, mean = [p.labels for p in points], [p.mean for p in points]
            interval = np.array([p.interval for p in points]).T
            made.append(Curve(arm.name, x, mean, interval, [list(p.seeds.values()) for p in points]))
    return made


def answer(found: Findings) -> str:
    """Who is best, for each number of labels."""
    sentences = []
    for labels in found.study.labels:
        points = [p for p in found.of("Dice") if p.labels == labels]
        if not points:
            continue
        best = max(points, key=lambda p: p.mean)
        text = f"{labels} labelled subject{'s' * (labels > 1)}: {best.arm} has the highest Dice, {best.mean:.3f}"
        if best.difference is not None:
            bounds = _range(best.difference_interval, "+")
            text += f", {best.difference:+.3f} ({bounds}) against {found.study.arms[0].name}"
        sentences.append(f"{text}.")
    return " ".join(sentences)


def page(found: Findings, curve: Path, resume: str) -> Page:
    header, rows = text_rows(found)
    several = len({point.labels for point in found.points}) > 1
    caption = "Dice against the number of labelled subjects" if several else "Dice of the arms"
    blocks: list[Block] = [Picture(curve, caption), Heading("Scores")]
    blocks += [Table(header, rows), *(Text(text) for text in remarks(found)), Heading("Per class")]
    blocks += [_class_table(found), Heading("Arms"), _arm_table(found), Heading("Settings"), _settings(found)]
    blocks += [Heading("Go on"), Code(resume)]
    return Page(f"Few-label study: {found.study.dataset}", answer(found), blocks, f"nnunet_xlstm {__version__}")


def _class_table(found: Findings) -> Table:
    """Mean Dice over the seeds."""
    classes = list(found.runs[0].scores)
    groups: dict[tuple[int, str], list[dict[str, dict[str, float]]]] = {}
    for row in found.runs:
        groups.setdefault((row.run.labels, row.run.arm), []).append(row.scores)
    rows = [
        [str(labels), arm, *(float(np.mean([scores[name]["Dice"] for scores in group])) for name in classes)]
        for (labels, arm), group in sorted(groups.items(), key=lambda item: item[0][0])
    ]
    return Table(["labels", "arm", *classes], rows, "Dice, mean over test subjects and seeds")


def _arm_table(found: Findings) -> Table:
    rows = [
        [
            arm.name,
            arm.trainer,
            arm.plans,
            "from scratch"
            if arm.checkpoint is None
            else f"{arm.checkpoint} (SHA-256 {found.study.hashes[f'arm {arm.name}'][:12]})",
            ", ".join([*(f"{k} {v}" for k, v in arm.config.items()), *arm.adapt]) or DASH,
        ]
        for arm in found.study.arms
    ]
    return Table(["arm", "trainer", "plans", "starts from", "own settings"], rows)


def _settings(found: Findings) -> Table:
    study = found.study
    rows = [("data set", study.dataset), ("configuration", study.configuration)]
    rows += [("iterations of every run", f"{study.iterations} ({study.iterations // study.epoch} x {study.epoch})")]
    rows += [("keys of all trainers", ", ".join(f"{k} {v}" for k, v in study.config.items()) or DASH)]
    rows += [("training subjects to draw from", str(len(study.orders["0"])))]
    for seed, order in study.orders.items():
        rows.append((f"drawn, seed {seed}", ", ".join(order[: max(study.labels)])))
    rows += [(name, version) for name, version in study.versions.items()]
    return Table(["setting", "value"], [list(row) for row in rows])
