"""What a comparison says about itself in sentences: captions, notes, the answer on top of the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_xlstm.comparison.analysis import MetricResult, Settings
from nnunet_xlstm.comparison.inputs import Material
from nnunet_xlstm.comparison.tables import number, title
from nnunet_xlstm.evaluation.summary import METRICS
from nnunet_xlstm.statistics.tests import units_needed

LISTED = 3


def units_text(settings: Settings, subjects: Sequence[str] | None) -> str:
    """What one pair of a test is."""
    if settings.unit == "case":
        return "cases, averaged over the classes" if subjects is None else "subjects, averaged over cases and classes"
    whole = "of every case" if subjects is None else "of every subject, averaged over its cases"
    return f"classes {whole}: they are not independent, so that p is too small"


def significance_text(result: MetricResult, settings: Settings, subjects: Sequence[str] | None) -> str:
    """The test, its units, the family of the correction, alpha, and whether it can show anything."""
    tests = result.tests
    methods = sorted({t.method for t in tests.tests.values()} - {"identical"})
    how = {"exact": "exact p", "normal": "normal approximation"}
    text = (
        f"One-sided paired Wilcoxon signed-rank test ({', '.join(how[m] for m in methods) or 'no differences'}) of "
        f"{tests.units} pairs ({units_text(settings, subjects)}); numbers: p after Holm's correction over the "
        f"{tests.comparisons} ordered pairs of this metric; alpha {settings.alpha:g}."
    )
    return f"{text} {underpowered_text(result, settings)}".strip()


def underpowered_text(result: MetricResult, settings: Settings) -> str:
    """Empty where a significant difference is attainable."""
    tests = result.tests
    if not tests.underpowered(settings.alpha):
        return ""
    return (
        f"Underpowered: with {tests.units} pairs no corrected p below {tests.smallest_p_holm():.3g} is attainable "
        f"({tests.smallest_p():.3g} uncorrected), however large the differences; "
        f"{units_needed(settings.alpha, tests.comparisons)} pairs are needed."
    )


def notes(material: Material, results: Sequence[MetricResult], settings: Settings) -> list[str]:
    """What a reader must know about the numbers of the tables."""
    found = []
    for r in results:
        if r.failed.any():
            names = ", ".join(f"{n} {k}" for n, k in zip(material.names, r.failed, strict=True) if k)
            counted = "tests and rankings count them as the worst value" if settings.na == "worst" else "so do the rest"
            found.append(f"{r.metric} has values that are missing ({names}): the means leave them out, {counted}.")
    if material.left_out:
        names = ", ".join(f"{len(cases)} of {name}" for name, cases in material.left_out.items())
        found.append(f"Cases left out because not all models have them: {names}.")
    if not material.definition:
        found.append("The summaries are nnU-Net's own and do not say how their metrics were computed.")
    return found


def answer(
    material: Material, results: Sequence[MetricResult], settings: Settings, subjects: Sequence[str] | None
) -> str:
    """One or two sentences: who is best by the first metric, and whether that is more than chance."""
    of = f" of {len(set(subjects))} subjects" if subjects is not None else ""
    count = f"{_count(len(material.names), 'model')} on {_count(len(material.cases), 'case')}{of}."
    r = results[0]
    mean = r.mean[:, -1]
    if len(material.names) == 1 or not np.isfinite(mean).any():
        return f"{count} Mean {title(r.metric)}: {number(mean[0], r.metric)}."
    low = METRICS[r.metric].better == "low"
    first = np.flatnonzero(np.isclose(mean, np.nanmin(mean) if low else np.nanmax(mean), rtol=1e-9, atol=1e-12))
    kind = "lowest" if low else "highest"
    if len(first) > 1:
        names = ", ".join(material.names[i] for i in first[:LISTED])
        names += f" and {len(first) - LISTED} more" if len(first) > LISTED else ""
        return f"{count} {names} share the {kind} mean {r.metric} ({number(mean[first[0]], r.metric)})."
    i = int(first[0])
    text = f"{count} {material.names[i]} has the {kind} mean {r.metric} ({number(mean[i], r.metric)})"
    if r.tests.underpowered(settings.alpha):
        pairs = _count(r.tests.units, "pair")
        return f"{text}; {pairs} are too few to show a significant difference between any of them."
    wins = int((r.tests.p_holm[i] < settings.alpha).sum())
    others = _count(len(material.names) - 1, "other")
    return f"{text} and is significantly better than {wins or 'none'} of the {others}."


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
