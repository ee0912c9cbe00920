"""A comparison in sentences: captions, notes, the conclusion on top of the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_xlstm.comparison.analysis import MetricResult, Settings
from nnunet_xlstm.comparison.compared import Compared
from nnunet_xlstm.comparison.tables import best_marks, number, title
from nnunet_xlstm.datasets.case_table import listed
from nnunet_xlstm.evaluation.summary import METRICS
from nnunet_xlstm.statistics.wilcoxon import units_needed

LISTED = 3
FEW = 10  # units up to which the intervals are said to be too narrow


def units_text(compared: Compared) -> str:
    """Say what one pair of a test is."""
    subjects = compared.subjects
    if compared.settings.unit == "case":
        return "cases, averaged over the classes" if subjects is None else "subjects, averaged over cases and classes"
    whole = "of every case" if subjects is None else "of every subject, averaged over its cases"
    return f"classes {whole}: they are not independent, so that p is too small"


def significance_text(compared: Compared, result: MetricResult) -> str:
    """Describe the test, its units, the family of the correction, alpha, and whether it can show anything."""
    tests, settings = result.tests, compared.settings
    methods = sorted({t.method for t in tests.tests.values()} - {"identical"})
    how = {"exact": "exact p", "normal": "normal approximation"}
    text = (
        f"One-sided paired Wilcoxon signed-rank test ({', '.join(how[m] for m in methods) or 'no differences'}) of "
        f"{count(tests.units, 'pair')} ({units_text(compared)}); numbers: p after Holm's correction over "
        f"the {tests.comparisons} ordered pairs of models; alpha {settings.alpha:g}."
    )
    return f"{text} {_underpowered_text(result, settings)}".strip()


def _underpowered_text(result: MetricResult, settings: Settings) -> str:
    """Say where no significant difference is attainable; empty where one is, between all models."""
    tests = result.tests
    if not tests.underpowered(settings.alpha):
        few = int(tests.underpowered_pairs(settings.alpha).sum())
        have = "has" if few == 1 else "have"
        return f"{few} of these {have} too few pairs of {result.over} for that, see 'underpowered'." if few else ""
    return (
        f"Underpowered: with {count(tests.units, 'pair')} no corrected p below {tests.smallest_p_holm():.3g} is "
        f"attainable ({tests.smallest_p():.3g} uncorrected), however large the differences; "
        f"{units_needed(settings.alpha, tests.comparisons)} pairs are needed."
    )


def notes(compared: Compared) -> list[str]:
    """List what a reader must know about the numbers of the tables."""
    models, results = compared.models, compared.results
    found = [text for r in results if (text := _missing_text(compared, r))]
    known = [int(n) for r in results for n in r.n[:, -1] if n > 1]
    if known and min(known) <= FEW:
        over = results[0].over
        found.append(
            f"Bootstrap intervals of few {over} are too narrow: with 4 {over} those called 95 % hold the true mean in "
            f"about 79 % of all studies, with 10 in 90 % (here: {min(known)} {over})."
        )
    if models.left_out:
        names = ", ".join(f"{len(cases)} of {name}" for name, cases in models.left_out.items())
        found.append(f"Cases left out because not all models have them: {names}.")
    if models.failed:
        names = ", ".join(f"{listed(cases)} of {name}" for name, cases in models.failed.items())
        found.append(f"Cases that could not be scored and so count nowhere: {names}.")
    if not models.definition:
        found.append("The summaries are nnU-Net's own and do not say how their metrics were computed.")
    return found


def _missing_text(compared: Compared, r: MetricResult) -> str:
    names = ", ".join(f"{name} {n}" for name, n in zip(compared.models.names, r.failed, strict=True) if n)
    if compared.settings.na == "drop":
        values = f"{r.dropped} value{'s' if r.dropped != 1 else ''} (a class of a case)"
        why = f"failures, which so cost nothing: {names}" if names else "reference and prediction are both empty"
        text = f"{r.metric}: {values} that not all models have are left out for all of them ({why})."
        return text if r.dropped else ""
    if not names:
        return ""
    return (
        f"{r.metric} has values that are missing ({names}): tests and rankings count them as the worst value. Means "
        "leave such cases out, differences the classes that either model lacks, so by these a model that fails can "
        "look better than it is."
    )


def conclusion(compared: Compared) -> str:
    """Say who ranks first by the first metric, whether that is more than chance, and where another model does."""
    models, settings, subjects = compared.models, compared.settings, compared.subjects
    of = f" of {count(len(set(subjects)), 'subject')}" if subjects is not None else ""
    start = f"{count(len(models.names), 'model')} on {count(len(models.cases), 'case')}{of}."
    r = compared.results[0]
    mean = r.mean[:, -1]
    if len(models.names) == 1:
        return f"{start} Mean {title(r.metric)}: {number(mean[0], r.metric)}."
    first = np.flatnonzero(r.rankings["mean, then rank"] == 1)
    kind = "lowest" if METRICS[r.metric].better == "low" else "highest"
    by_mean = best_marks(r, -1)[first].all()
    shown = [number(mean[first[0]], r.metric)] if by_mean else []
    if r.failed.any():
        shown += [
            {"worst": "missing values count as the worst", "drop": "values that a model lacks left out"}[settings.na]
        ]
    brackets = f" ({', '.join(shown)})" if shown else ""
    if len(first) > 1:
        names = ", ".join(models.names[i] for i in first[:LISTED])
        names += f" and {len(first) - LISTED} more" if len(first) > LISTED else ""
        what = f"share the {kind} mean {r.metric}" if by_mean else f"share the first rank by {r.metric}"
        return f"{start} {names} {what}{brackets}{_however(compared, first)}."
    i = int(first[0])
    what = f"has the {kind} mean {r.metric}" if by_mean else f"ranks first by {r.metric}"
    text = f"{start} {models.names[i]} {what}{brackets}"
    wins, others = int((r.tests.p_holm[i] < settings.alpha).sum()), len(models.names) - 1
    if r.tests.underpowered(settings.alpha):
        pairs = f"{count(r.tests.units, 'pair')} {'is' if r.tests.units == 1 else 'are'}"
        text += f"; {pairs} too few to show a significant difference between any of them"
    elif others == 1:
        other = models.names[1 - i]
        text += f" and is significantly better than {other}" if wins else ", not significantly so"
    else:
        who = {0: f"none of the {others}", others: "both" if others == 2 else f"all {others}"}
        text += f" and is significantly better than {who.get(wins, f'{wins} of the {others}')} others"
    return f"{text}{_however(compared, first)}."


def _however(compared: Compared, first: np.ndarray) -> str:
    """Say by which of the other metrics none of the first models ranks first, and which model does."""
    groups: dict[tuple[int, ...], list[MetricResult]] = {}
    for r in compared.results[1:]:
        leaders = tuple(np.flatnonzero(r.rankings["mean, then rank"] == 1).tolist())
        if leaders and not set(leaders) & set(first.tolist()):
            groups.setdefault(leaders, []).append(r)
    parts = []
    for leaders, found in groups.items():
        sure = [
            r.metric
            for r in found
            if (r.tests.p_holm[np.ix_(np.array(leaders), first)] < compared.settings.alpha).all()
        ]
        how = (
            "" if not sure else ", significantly" if len(sure) == len(found) else f", by {_joined(sure)} significantly"
        )
        who = f"{_joined([compared.models.names[i] for i in leaders])} {'ranks' if len(leaders) == 1 else 'rank'} first"
        parts.append(f"by {_joined([r.metric for r in found])} {who}{how}")
    return f"; however, {'; '.join(parts)}" if parts else ""


def _joined(names: Sequence[str]) -> str:
    """Join names as in "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def count(n: int, what: str) -> str:
    """Return a number of things, as in "1 case" and "2 cases"."""
    return f"{n} {what}{'' if n == 1 else 's'}"
