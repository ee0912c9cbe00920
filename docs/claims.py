"""Read docs/claims.yaml, and look its numbers up in the scores below docs/results.

A verdict follows from the interval and the effect that the claim needs (0 unless `needs` says more):

- supported: all of the interval is above it;
- not supported: all of the interval is below it;
- inconclusive: the interval holds it, there is none, or there are fewer than six subjects, from whom no two-sided
  paired rank test can reach p = 0.05 (2 / 2^5 = 0.0625).

Where a verdict differs from this rule, `why` says for what reason.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from nnunet_xlstm.statistics.bootstrap import mean_interval

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"
VERDICTS = ("supported", "not supported", "inconclusive")
MIN_SUBJECTS = 6
SUBJECT = re.compile(r"patient\d+")  # of ACDC, with two images each; elsewhere a case is a subject
# Columns of effect, low and high in the tables that `compare`, `study` and `features` write.
COLUMNS = (
    ("difference", "ci_low", "ci_high"),
    ("difference", "difference_low", "difference_high"),
)
Estimate = tuple[float, float | None, float | None]  # effect, low, high


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One comparison: what is claimed, what was measured, and what follows.

    `effect` and `interval` are differences in `unit`, positive where they favor the claim; `source` says which scores
    they come from (see `look_up`).
    """

    id: str
    claim: str
    effect: float | str
    interval: tuple[float, float] | None
    subjects: int | None
    seeds: int
    verdict: str
    result: str
    command: str
    needs: float = 0.0
    digits: int = 3
    why: str = ""
    source: dict = field(default_factory=dict)

    @property
    def effect_text(self) -> str:
        return self.effect if isinstance(self.effect, str) else f"{self.effect:+.{self.digits}f}"

    @property
    def interval_text(self) -> str:
        return " to ".join(f"{bound:+.{self.digits}f}" for bound in self.interval) if self.interval else "–"

    @property
    def verdict_by_rule(self) -> str:
        """The verdict that the interval and the number of subjects give."""
        if self.interval is None or (self.subjects or 0) < MIN_SUBJECTS:
            return "inconclusive"
        low, high = self.interval
        return "supported" if low > self.needs else "not supported" if high < self.needs else "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of the index of results: its effect is that of a claim, or a measured value in words."""

    question: str
    answer: str
    page: str
    claim: str | None = None
    measured: str = ""
    readme: bool = False


def load(path: Path = DOCS / "claims.yaml") -> tuple[dict[str, list[Claim]], list[Question]]:
    """Return the claims by topic, and the questions of the index.

    Raises:
        TypeError: a row has an unknown key, or misses one.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    topics = {
        topic["topic"]: [
            Claim(**row | {"interval": row["interval"] and tuple(row["interval"])}) for row in topic["claims"]
        ]
        for topic in content["topics"]
    }
    return topics, [Question(**row) for row in content["questions"]]


def by_id() -> tuple[dict[str, Claim], list[Question]]:
    """Return the claims by their id, and the questions of the index."""
    topics, questions = load()
    return {claim.id: claim for rows in topics.values() for claim in rows}, questions


def read_rows(file: str) -> list[dict[str, str]]:
    """Rows of a CSV below docs/results, or of the first table of a Markdown file there."""
    path = RESULTS / file
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    lines = [line.strip("| ").split(" | ") for line in path.read_text(encoding="utf-8").splitlines() if "|" in line]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def find(file: str, row: dict) -> dict[str, str]:
    """Return the one row of a table whose columns have these values.

    Raises:
        ValueError: no row has them, or several do.
    """
    found = [r for r in read_rows(file) if all(r[column] == str(value) for column, value in row.items())]
    if len(found) != 1:
        raise ValueError(f"{file} has {len(found)} rows with {row}: name exactly one.")
    return found[0]


def by_subject(files: list[str], variant: str, dataset: str) -> dict[str, float]:
    """Mean Dice of each subject: over the classes of a case, then over the cases of a subject."""
    cases: dict[str, list[float]] = {}
    for row in (row for file in files for row in read_rows(file)):
        if (row["variant"], row["data set"]) == (variant, dataset):
            cases.setdefault(row["case"], []).append(float(row["Dice"]))
    subjects: dict[str, list[float]] = {}
    for case, values in cases.items():
        match = SUBJECT.search(case)
        subjects.setdefault(match.group() if match else case, []).append(float(np.mean(values)))
    return {name: float(np.mean(values)) for name, values in sorted(subjects.items())}


def look_up(source: dict) -> Estimate:
    """Effect and interval from the scores; None for bounds that the files do not give.

    Args:
        source: one of
            `{file, row[, columns][, reverse]}`: a row of a table of differences; `reverse` swaps the two sides;
            `{file, text, row}`: a cell such as "-0.047 (-0.065 to -0.027)" of a Markdown table;
            `{file, column, minus: [row, row]}`: the difference of two means, without interval;
            `{scores, dataset, minus: [variant, variant]}`: recomputed from the scores of cases, paired, with the
            library's bootstrap over subjects.

    Raises:
        ValueError: the rows are not found, or the two variants have other subjects.
    """
    if "scores" in source:
        a, b = (by_subject(source["scores"], variant, source["dataset"]) for variant in source["minus"])
        if not a or set(a) != set(b):
            raise ValueError(f"{source['minus']} on {source['dataset']}: not the same subjects.")
        difference = np.array([a[name] - b[name] for name in a])
        low, high = mean_interval(difference[None])[:, 0]
        return float(difference.mean()), float(low), float(high)
    if "minus" in source:
        a, b = (float(find(source["file"], row)[source["column"]]) for row in source["minus"])
        return a - b, None, None
    row = find(source["file"], source["row"])
    if "text" in source:
        effect, low, high = (float(number) for number in re.findall(r"[+-]\d\.\d+", row[source["text"]]))
        return effect, low, high
    known = (names for names in COLUMNS if set(names) <= set(row))
    effect, low, high = (float(row[column]) for column in source.get("columns") or next(known))
    return (-effect, -high, -low) if source.get("reverse") else (effect, low, high)


def page() -> str:
    """docs/claims.md: one table for each topic."""
    topics, _ = load()
    claims = [claim for rows in topics.values() for claim in rows]
    counts = ", ".join(f"{sum(c.verdict == verdict for c in claims)} {verdict}" for verdict in VERDICTS)
    lines = [
        "# Claims",
        "",
        "<!-- made from claims.yaml by `python docs/build.py`; do not edit -->",
        "",
        f"One comparison a row: {len(claims)} claims, {counts}. Effects are paired differences of Dice unless a row "
        "says otherwise, positive where they favor the claim; intervals are 95 %, bootstrapped over test subjects, "
        "under the trainings that were run.",
        "",
        "**Verdict.** A claim is *supported* where all of the interval lies above the effect that the claim needs (0 "
        "unless it names another), *not supported* where all of it lies below, else *inconclusive*; with fewer than "
        f"{MIN_SUBJECTS} subjects it is always inconclusive. A verdict that differs from this rule gives its reason.",
        "",
        "**Command** is the number of a line below the table. `WORK` is a folder for everything that is made, "
        "`PRETRAIN_WORK` that folder of `pretrain_real.py`.",
    ]
    for topic, rows in topics.items():
        commands = list(dict.fromkeys(c.command for c in rows))
        lines += [
            *("", f"## {topic}", ""),
            "| claim | effect | 95 % interval | subjects | seeds | verdict | command |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for c in rows:
            verdict = c.verdict + (f": {c.why}" if c.why else "")
            cells = [c.claim, f"[{c.effect_text}](results/{c.result})", c.interval_text, c.subjects or "–", c.seeds]
            lines.append("| " + " | ".join(map(str, [*cells, verdict, commands.index(c.command) + 1])) + " |")
        lines.append("")
        for i, command in enumerate(commands, 1):
            script, _, rest = command.partition(" ")
            lines.append(f"{i}. `python benchmarks/{script} --data $DATA --work WORK {rest}".rstrip() + "`")
    return "\n".join(lines) + "\n"


def _effect(question: Question, claims: dict[str, Claim]) -> list[str]:
    """Effect with interval, subjects and seeds of a row of the index."""
    if question.claim is None:
        return [question.measured, "–", "–"]
    claim = claims[question.claim]
    unit = "" if isinstance(claim.effect, str) else " Dice"
    return [f"{claim.effect_text}{unit} ({claim.interval_text})", str(claim.subjects), str(claim.seeds)]


def index() -> str:
    """The table of docs/results.md."""
    topics, questions = load()
    claims = {claim.id: claim for rows in topics.values() for claim in rows}
    lines = [
        "| question | answer | effect (95 % interval) | n | seeds | page |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for q in questions:
        cells = [q.question, q.answer, *_effect(q, claims), f"[{q.page.removesuffix('.md')}](results/{q.page})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def readme_rows() -> str:
    """The table of results in the README."""
    claims, questions = by_id()
    lines = ["| question | answer | effect (95 % interval) | n |", "| --- | --- | --- | --- |"]
    for q in (q for q in questions if q.readme):
        effect, n, _ = _effect(q, claims)
        lines.append(f"| [{q.question}](docs/results/{q.page}) | {q.answer} | {effect} | {n} |")
    return "\n".join(lines) + "\n"
