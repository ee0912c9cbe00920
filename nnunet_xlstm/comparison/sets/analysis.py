"""Models compared on several data sets: each set by itself, and the mean over the sets.

What is resampled: the subjects (or cases) of each set, drawn within it, and apart from the other sets. The sets
themselves are not drawn. So intervals of the mean over the sets say how far it holds for other subjects of these sets,
and nothing of other data sets. Every set counts the same, whatever its size.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_xlstm.comparison.analysis import DEFAULT_METRICS, MetricResult, Settings, choose_metrics
from nnunet_xlstm.comparison.inputs import SETTINGS, ModelScores
from nnunet_xlstm.datasets.subjects import safe_name
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.evaluation.summary import METRICS
from nnunet_xlstm.statistics.bootstrap import draw_counts, interval, means, resampled_means
from nnunet_xlstm.statistics.ranking import ranks, replace_missing


@dataclass(frozen=True)
class ModelSet:
    """One data set: (model, its summary.json), and who the subjects of its cases are."""

    name: str
    models: list[tuple[str, Path]]
    subjects: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SetsResult:
    """One metric over all sets; arrays have one column per model, NaN where a set lacks it.

    Attributes:
        columns: of each set, the models (numbers) in the order of its result.
        mean, rank: (sets, models), over the units of each set, and the rank of that mean in it.
        n: units.
        interval: (2, sets, models).
        overall, overall_interval: (models,), (2, models), mean over the sets; NaN for a model that a set lacks.
        overall_rank: (models,), of that mean, where missing values count as the worst.
        rank_low, rank_high: (models,), 95 % of the ranks in the resamples.
        first: (models,), share of the resamples in which the model ranks first.
        mean_rank: (models,), mean of the ranks in the sets.
        difference, difference_interval: (models, models), (2, models, models), row minus column, mean over the sets of
            the paired differences in each.
    """

    metric: str
    results: list[MetricResult]
    columns: list[list[int]]
    mean: np.ndarray
    rank: np.ndarray
    n: np.ndarray
    interval: np.ndarray
    overall: np.ndarray
    overall_interval: np.ndarray
    overall_rank: np.ndarray
    rank_low: np.ndarray
    rank_high: np.ndarray
    first: np.ndarray
    mean_rank: np.ndarray
    difference: np.ndarray
    difference_interval: np.ndarray


def model_names(sets: Sequence[ModelSet]) -> list[str]:
    """Return the models of all sets, in the order in which they come."""
    return list(dict.fromkeys(name for one in sets for name, _ in one.models))


def check_sets(sets: Sequence[ModelSet]) -> None:
    """Raise DatasetError for sets of one name, also as the name of a folder, or without a model in common."""
    folders = [safe_name(one.name).casefold() for one in sets]
    if twice := [one.name for one, folder in zip(sets, folders, strict=True) if folders.count(folder) > 1]:
        raise DatasetError(f"The data sets {', '.join(twice)} become one folder; give them names that differ more.")
    if not common_models(sets):
        raise DatasetError(
            f"No model is in all of the data sets {', '.join(one.name for one in sets)}; a mean over data sets needs "
            "models under the same names in each."
        )


def common_models(sets: Sequence[ModelSet]) -> list[str]:
    """Return the models that every set has."""
    return [name for name in model_names(sets) if all(name in dict(one.models) for one in sets)]


def common_metrics(materials: Sequence[ModelScores], names: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics that are compared in all sets.

    Raises:
        DatasetError: a set lacks one that was asked for, or all share none; or they were evaluated in different ways.
    """
    definitions = [{key: models.definition.get(key) for key in SETTINGS} for models in materials]
    for name, definition in zip(names, definitions, strict=True):
        if definition != definitions[0]:
            raise DatasetError(
                f"The metrics of {names[0]} and {name} were computed in different ways ({definitions[0]}, "
                f"{definition}); evaluate all data sets with the same settings."
            )
    found = [choose_metrics(models, asked) for models in materials]
    shared = [metric for metric in found[0] if all(metric in others for others in found)]
    if not shared:
        raise DatasetError(f"The data sets share none of {', '.join(DEFAULT_METRICS)} with a value; use --metrics.")
    return tuple(shared)


def over_sets(
    names: Sequence[str], models: Sequence[Sequence[str]], results: Sequence[MetricResult], settings: Settings
) -> SetsResult:
    """Put the results of one metric together.

    Args:
        names: all models.
        models: those of each set, in the order of its result.
        results: of each set.
        settings: of the comparison.
    """
    n_sets, n_models, metric = len(results), len(names), results[0].metric
    place = [[names.index(name) for name in own] for own in models]
    mean, rank = np.full((2, n_sets, n_models), np.nan)
    n, bounds = np.zeros((n_sets, n_models), int), np.full((2, n_sets, n_models), np.nan)
    drawn = np.full((n_sets, settings.resamples, n_models), np.nan)  # means, as the tables have them
    ranked, exact = drawn.copy(), mean.copy()  # with missing values as the worst
    pairs = np.full((n_sets, n_models, n_models), np.nan)
    pairs_drawn = np.full((n_sets, settings.resamples, n_models, n_models), np.nan)
    for s, (own, r) in enumerate(zip(place, results, strict=True)):
        seed = int(np.random.SeedSequence((settings.seed, s)).generate_state(1)[0])
        mean[s, own], n[s, own], bounds[:, s, own] = r.mean[:, -1], r.n[:, -1], r.interval[:, :, -1]
        rank[s, own] = r.rankings["mean, then rank"]
        drawn[s][:, own] = _resampled(r.points, range(r.points.shape[1]), settings, seed)
        exact[s, own] = means(r.compared)
        ranked[s][:, own] = _resampled(r.compared, r.compared_of, settings, seed)
        if len(own) > 1:
            first, second = (np.array(own)[index] for index in np.triu_indices(len(own), 1))
            pairs[s, first, second] = means(r.paired)
            pairs[s, second, first] = -pairs[s, first, second]
            pairs_drawn[s][:, first, second] = _resampled(r.paired, r.paired_of, settings, seed)
            pairs_drawn[s][:, second, first] = -pairs_drawn[s][:, first, second]
    in_all = np.array([all(m in own for own in place) for m in range(n_models)])
    overall_ranks = _ranks(ranked.mean(0), metric, in_all)
    return SetsResult(
        metric=metric,
        results=list(results),
        columns=place,
        mean=mean,
        rank=rank,
        n=n,
        interval=bounds,
        overall=mean.mean(0),
        overall_interval=interval(drawn.mean(0)),
        overall_rank=_ranks(exact.mean(0)[None], metric, in_all)[0],
        rank_low=np.percentile(overall_ranks, 2.5, axis=0, method="inverted_cdf"),
        rank_high=np.percentile(overall_ranks, 97.5, axis=0, method="inverted_cdf"),
        first=np.where(in_all, (overall_ranks == 1).mean(0), np.nan),
        mean_rank=np.where(in_all, rank.mean(0), np.nan),
        difference=np.where(np.eye(n_models, dtype=bool), 0.0, pairs.mean(0)),
        difference_interval=interval(pairs_drawn.mean(0).reshape(settings.resamples, -1)).reshape(2, n_models, -1),
    )


def _resampled(values: np.ndarray, of: Sequence[Hashable], settings: Settings, seed: int) -> np.ndarray:
    """Return the means of each resample, (resamples, rows); whole subjects are drawn."""
    return resampled_means(values, draw_counts(values.shape[1], settings.resamples, seed, list(of)))


def _ranks(scores: np.ndarray, metric: str, in_all: np.ndarray) -> np.ndarray:
    """Rank (resamples, models) among the models that all sets have; NaN for the others."""
    better = METRICS[metric].better
    found = np.full(scores.shape, np.nan)
    found[:, in_all] = ranks(replace_missing(scores[:, in_all], better), better)
    return found
