"""The page of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnunet_xlstm.evaluation.summary import EXTRAS, FAILED, METRICS, case_name
from nnunet_xlstm.html import Block, Heading, Page, Table, Text

SHOWN = ("Dice", "IoU", "HD", "HD95", "ASSD", "NSD", "AVD", "RVE")
MAX_CASES = 200
COUNTS = {
    "n_valid": "with a Dice",
    "n_empty_ref": "empty reference",
    "n_missed": "missed (empty prediction)",
    "n_false": "false (empty reference, prediction not)",
}


def build_page(summary: Mapping[str, Any], title: str) -> Page:
    """Build the page: cases not scored, classes, counts of empty masks, cases from the worst on, definition.

    Args:
        summary: the content of a summary.json of ours.
        title: of the page.
    """
    extras = summary[EXTRAS]
    cases = summary["metric_per_case"]
    head = [f"{name} ({METRICS[name].unit})" if METRICS[name].unit else name for name in SHOWN]
    dice, hd95 = (extras["case_mean"][name] for name in ("Dice", "HD95"))
    lead = f"Mean Dice {_text(dice)}, HD95 {_text(hd95, ' mm')}: mean of the case averages of {_count(len(cases))}."
    counts = [[extras["classes"][key], *row.values()] for key, row in extras["counts"].items()]
    failed = extras[FAILED]
    sections: list[Block] = []
    if failed:
        total = len(cases) + len(failed)
        lead = f"Incomplete: {len(failed)} of {total} cases could not be scored and are missing in all numbers. {lead}"
        sections = [Heading("Not scored"), Table(["case", "why"], list(failed.items()))]
    sections += [
        Heading("Classes"),
        _class_table(summary, head),
        Heading("Empty masks"),
        Table(["class", *COUNTS.values()], counts, "Number of cases"),
        Heading("Cases"),
        *_case_tables(cases, head),
        *_flag_table(cases, extras["classes"]),
        Heading("Definition"),
        Table(["setting", "value"], definition_rows(extras["definition"])),
    ]
    return Page(title, lead, sections, footer=f"nnunet_xlstm {extras['version']}")


def definition_rows(definition: Mapping[str, Any]) -> list[list[str]]:
    """Return settings and their values in words."""
    rows = []
    for key, value in definition.items():
        if isinstance(value, Mapping):  # names of classes -> their label ids
            value = "; ".join(f"{name}: {str(ids).strip('[]')}" for name, ids in value.items())
        rows.append([key, "none" if value is None else str(value)])
    return rows


def _count(cases: int) -> str:
    return "1 case" if cases == 1 else f"{cases} cases"


def _text(value: float | None, unit: str = "") -> str:
    return "without a finite value" if value is None else f"{value:.3f}{unit}"


def _class_table(summary: Mapping[str, Any], head: list[str]) -> Table:
    extras = summary[EXTRAS]

    def cell(mean: float | None, std: float | None) -> str | None:
        if mean is None:
            return None
        return f"{mean:.3f}" if std is None else f"{mean:.3f}\u00a0±\u00a0{std:.3f}"  # kept on one line

    rows = [
        [extras["classes"][key], *(cell(row[name], extras["std"][key][name]) for name in SHOWN)]
        for key, row in summary["mean"].items()
    ]
    rows.append(["mean of the classes", *(cell(summary["foreground_mean"][name], None) for name in SHOWN)])
    rows.append(["mean of the case averages", *(cell(extras["case_mean"][name], None) for name in SHOWN)])
    return Table(["class", *head], rows, "Mean ± SD over cases", total_rows=2)


def _case_tables(cases: list[Mapping[str, Any]], head: list[str]) -> list[Block]:
    rows = [[case_name(case["prediction_file"]), *(_average(case, name) for name in SHOWN)] for case in cases]
    rows.sort(key=lambda row: (row[1] is None, row[1], row[0]))
    blocks: list[Block] = []
    if len(rows) > MAX_CASES:
        blocks.append(Text(f"The {MAX_CASES} worst of {len(rows)}; the CSV holds all."))
    return [*blocks, Table(["case", *head], rows[:MAX_CASES], "Mean over the classes, lowest Dice first")]


def _average(case: Mapping[str, Any], name: str) -> float | None:
    """Return the mean over the classes that have a value; None where one is infinite."""
    if any(why.get(name, "").startswith("infinite") for why in case["flags"].values()):
        return None
    values = [row[name] for row in case["metrics"].values() if row[name] is not None]
    return float(np.mean(values)) if values else None


def _flag_table(cases: list[Mapping[str, Any]], names: Mapping[str, str]) -> list[Block]:
    """Return a row per case and class that is not scored like the others: the reasons, each with its metrics."""
    rows = []
    for case in cases:
        for key, why in case["flags"].items():
            reasons = [f"{', '.join(m for m in why if why[m] == text)}: {text}" for text in dict.fromkeys(why.values())]
            rows.append([case_name(case["prediction_file"]), names[key], "; ".join(reasons)])
    if not rows:
        return []
    more = f"The first {MAX_CASES} of {len(rows)}; the CSV holds all" if len(rows) > MAX_CASES else ""
    return [Heading("Flags"), Table(["case", "class", "why"], rows[:MAX_CASES], more)]
