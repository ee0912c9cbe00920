"""Draw and save the figures of a comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nnunet_xlstm.comparison.analysis import MetricResult
from nnunet_xlstm.comparison.compared import Compared
from nnunet_xlstm.comparison.inputs import COSTS, ModelScores
from nnunet_xlstm.comparison.narrative import significance_text
from nnunet_xlstm.comparison.tables import directed
from nnunet_xlstm.evaluation.summary import METRICS, mean_of_known, means_of_groups
from nnunet_xlstm.figures.rank_charts import rank_stability, significance_map
from nnunet_xlstm.figures.relation_charts import (
    Volumes,
    accuracy_against_cost,
    accuracy_bubbles,
    modality_dots,
    radar,
    volume_agreement,
)
from nnunet_xlstm.figures.score_charts import Panel, boxes_per_class, scores_per_method
from nnunet_xlstm.figures.style import save

# beside these there are "scores" and "volumes_<n>"
PER_METRIC = ("boxes", "ranks", "significance", "radar", "modality", "cost", "bubbles", "sets")
MIN_RADAR = 3


@dataclass(frozen=True)
class Job:
    """One figure: the start of its file names, its kind, what is said under it on the page, and how to draw it."""

    name: str
    kind: str
    caption: str
    draw: Callable[[], Figure]


def jobs(compared: Compared) -> Iterator[Job]:
    """Yield the figures that this comparison has."""
    results, alpha = compared.results, compared.settings.alpha
    names, classes = compared.models.names, list(compared.models.classes.values())
    panels = [Panel(directed(r.metric), r.points, r.mean[:, -1], r.interval[:, :, -1]) for r in results]
    over = results[0].over
    every = f"Average over the classes of every {over[:-1]}"
    yield Job("scores", "scores", every, partial(scores_per_method, names, panels, over))
    for r in results:
        values, label = r.units[:, :, :-1], directed(r.metric)
        draw_boxes = partial(boxes_per_class, names, classes, values, label, over)
        yield Job(f"boxes_{r.metric}", "boxes", f"{label} per class, every {over[:-1]}", draw_boxes)
        if len(names) > 1:
            text = f"{r.metric}: mean, then rank; {compared.settings.resamples} resamples of the {r.tested}"
            yield Job(f"ranks_{r.metric}", "ranks", text, partial(rank_stability, names, r.stability, text))
            caption = significance_text(compared, r)
            draw_map = partial(significance_map, names, r.tests.p_holm, alpha, r.metric, caption)
            yield Job(f"significance_{r.metric}", "significance", f"{r.metric}: significance", draw_map)
    yield from _relations(compared)


def _relations(compared: Compared) -> Iterator[Job]:
    names, subjects, costs = compared.models.names, compared.subjects, compared.costs
    volumes = total_volumes(compared.models, subjects)
    if volumes is not None:
        for model, name in enumerate(names):
            draw_one = partial(volume_agreement, name, model, volumes)
            yield Job(f"volumes_{model + 1}", "volumes", f"{name}: {volumes.label}", draw_one)
    for r in compared.results:
        text = f"mean {directed(r.metric)}{' of the subjects' if subjects is not None else ''}"
        failed = "; where values are missing, such cases are left out" if r.failed.any() else ""
        if compared.modality is not None:
            kind, chart = ("radar", radar) if len(names) >= MIN_RADAR else ("modality", modality_dots)
            caption = f"{text} per modality{failed}"
            caption += "" if kind == "radar" else f" (a radar needs {MIN_RADAR} models or more)"
            groups = modality_means(r, compared.modality, subjects)
            yield Job(f"{kind}_{r.metric}", kind, caption, partial(chart, names, groups, text))
        if costs is not None:
            yield from bubbles(names, r.metric, r.mean[:, -1], r.interval[:, :, -1], costs, f"{text}{failed}")
            known = {COSTS[key]: values for key, values in costs.items() if np.isfinite(values).any()}
            draw_cost = partial(accuracy_against_cost, names, r.mean[:, -1], r.interval[:, :, -1], known, text)
            yield Job(f"cost_{r.metric}", "cost", f"{text} against cost{failed}", draw_cost)


def bubbles(
    names: Sequence[str],
    metric: str,
    mean: np.ndarray,
    interval: np.ndarray,
    costs: dict[str, np.ndarray],
    text: str,
) -> Iterator[Job]:
    """Yield score against GMAC, with the parameters as areas; nothing where no model has both."""
    across, area = costs["gmac"], costs["params_m"]
    if (np.isfinite(mean + across) & (area > 0)).any():
        caption = f"{text} against {COSTS['gmac']}; area: {COSTS['params_m']}"
        ends = text.partition(";")[0], COSTS["gmac"], COSTS["params_m"]
        draw_one = partial(accuracy_bubbles, names, mean, interval, across, area, *ends)
        yield Job(f"bubbles_{metric}", "cost", caption, draw_one)


def modality_means(
    result: MetricResult, modality: Sequence[str], subjects: Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Return modality -> mean of the case averages, or of the averages of the subjects' cases of it, (models,)."""
    kinds = np.asarray(modality)
    clusters = np.asarray(subjects if subjects is not None else range(len(kinds)))
    rows = {kind: (result.averages[:, kinds == kind], clusters[kinds == kind].tolist()) for kind in sorted({*modality})}
    return {kind: mean_of_known(means_of_groups(*found), axis=1) for kind, found in rows.items()}


def total_volumes(models: ModelScores, subjects: Sequence[str] | None = None) -> Volumes | None:
    """Return the volumes of all classes together, of subjects the mean over their cases.

    Returns:
        None where the summaries have none, or where regions overlap in part.
    """
    keys = list(models.classes)
    chosen = outer_classes(keys)
    sources = (("VolumeRef", "VolumePred", "mL"), ("n_ref", "n_pred", "voxels"))
    found = next((names for names in sources if set(names[:2]) <= models.values.keys()), None)
    if chosen is None or found is None:
        return None
    reference, prediction, unit = found
    columns = [keys.index(key) for key in chosen]
    whole = f"all {len(chosen)} classes together" if len(chosen) > 1 else models.classes[chosen[0]]
    ours, theirs = (models.values[name][:, :, columns].sum(2) for name in (reference, prediction))
    if subjects is None:
        return Volumes(reference=ours, prediction=theirs, unit=unit, label=f"volume of {whole}, every case")
    ours, theirs = (means_of_groups(values, subjects) for values in (ours, theirs))
    label = f"volume of {whole}, every subject (mean over its cases)"
    return Volumes(reference=ours, prediction=theirs, unit=unit, label=label)


def outer_classes(keys: Sequence[str]) -> list[str] | None:
    """Return the classes that lie in no other one, so that their volumes add up; None where some overlap in part.

    Args:
        keys: "3" for a label, "(1, 2)" for a region, as in summary.json.
    """
    sets = {key: frozenset(map(int, re.findall(r"\d+", key))) for key in keys}
    outer = [key for key in keys if not any(sets[key] < other for other in sets.values())]
    members = [label for key in outer for label in sets[key]]
    return outer if len(members) == len(set(members)) else None


def draw(job: Job, folder: Path) -> list[Path]:
    """Save one figure as PNG and SVG."""
    return save(job.draw(), folder / job.name)


def remove_earlier(folder: Path, new: Collection[str]) -> None:
    """Remove the figures of an earlier comparison, which might be of other models: files named exactly as ours.

    Args:
        folder: of the figures.
        new: names of those that stay.
    """
    ours = {"scores", *(f"{kind}_{metric}" for kind in PER_METRIC for metric in METRICS)}
    for path in (*folder.glob("*.png"), *folder.glob("*.svg")):
        if path.name not in new and (path.stem in ours or re.fullmatch(r"volumes_[1-9][0-9]*", path.stem)):
            path.unlink()
