"""A study in sentences: the conclusion on top, how to read the table, what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_xlstm.html import DASH
from nnunet_xlstm.studies.analysis import Condition, Difference, Findings, conditions

MAX_LISTED = 12
FEW = 10  # subjects up to which intervals are said to be too narrow


def _condition_words(found: Findings, condition: Condition) -> list[str]:
    """Return the data set where there are several, and the value of the axis."""
    several = len(found.study.scored_sets) > 1
    axis = found.study.kind.axis
    words = [condition.data.name] if several else []
    return [*words, *([axis.text(condition.value)] if axis and condition.value is not None else [])]


def conclusion(found: Findings) -> str:
    """Return who is best, under each condition."""
    sentences = []
    for condition in conditions(found.study):
        points = [p for p in found.of("Dice") if p.condition.key == condition.key]
        if not points:
            continue
        best = max(points, key=lambda p: p.mean)
        where = ", ".join(_condition_words(found, condition))
        text = f"{where}{': ' if where else ''}{best.variant} has the highest Dice, {best.mean:.3f}"
        if best.difference is not None:
            text += f", {difference_text(best.difference)} against {found.study.variants[0].name}"
        sentences.append(f"{text}.")
    return " ".join(sentences)


def remarks(found: Findings) -> list[str]:
    """Say how to read the numbers, and what they lack."""
    study, first = found.study, found.study.variants[0].name
    counts: dict[str, int] = {}
    for p in found.points:
        counts[p.condition.data.name] = max(p.subjects, counts.get(p.condition.data.name, 0))
    of = ", ".join(f"{name} {n}" if len(counts) > 1 else f"{n}" for name, n in counts.items())
    per = f" at the same number of {study.kind.axis.unit}s" if study.kind.axis else ""
    per = per or (" of the same data set" if len(counts) > 1 else "")
    seeds = "; a case's scores are averaged over the seeds first" if study.seeds > 1 else ""
    texts = [
        f"Scored subjects: {of}{seeds}. {study.kind.reading} p: Wilcoxon signed-rank against {first}, two-sided, Holm "
        f"over the variants{per}."
    ]
    if len(study.variants) > 2:
        texts.append("The highest of several variants is so partly by chance, which its interval does not count.")
    if min(counts.values()) < FEW:
        texts.append(f"Fewer than {FEW} subjects: the intervals are too narrow.")
    if study.kind.length == "epochs" and all(variant.checkpoint for variant in study.variants):
        texts.append("No variant starts from scratch, so nothing here says what pre-training brings.")
    for data in study.scored_sets:
        if data.unscored:
            texts.append(
                f"{data.name}: the classes {', '.join(data.unscored)} are not scored for any variant, since the pool "
                "cannot make them or tell them apart."
            )
    if found.missing:
        shown = ", ".join(found.missing[:MAX_LISTED]) + (" and more" if len(found.missing) > MAX_LISTED else "")
        texts.append(
            f"Not finished: {len(found.missing)} of {len(study.runs())} runs ({shown}). A variant is compared with "
            f"{first} where both have finished the same seeds{' and folds' if study.folds else ''}."
        )
    return texts


def difference_text(difference: Difference | None) -> str:
    """Return a difference with its interval, as in "+0.012 (-0.003 to +0.027)"; a dash where there is none."""
    return DASH if difference is None else f"{difference.mean:+.3f} ({range_text(difference.interval, '+')})"


def p_text(p: float | None) -> str:
    """Return a p value with three decimals, or "<0.001"; a dash where there is none."""
    return DASH if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"


def range_text(bounds: Sequence[float], sign: str = "") -> str:
    """Return bounds as in "0.801 to 0.853"; with `sign` "+" positive ones have their sign too."""
    return " to ".join(DASH if np.isnan(v) else f"{v:{sign}.3f}" for v in bounds)
