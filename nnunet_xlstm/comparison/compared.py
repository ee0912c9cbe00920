"""A comparison before it is drawn and written: the models, what is known of their cases, the result of each metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_xlstm.comparison.analysis import MetricResult, Settings, analyze, choose_metrics
from nnunet_xlstm.comparison.inputs import ModelScores, read_costs, read_models
from nnunet_xlstm.datasets.case_table import read_case_table


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Models compared by each metric.

    Attributes:
        sources: (name of the model, its summary.json).
        models: their scores.
        settings: what was compared, and how.
        results: one per metric.
        subjects: of each case; None: each case counts by itself.
        modality: of each case; None where unknown.
        costs: key of COSTS -> (models,); None where unknown.
    """

    sources: Sequence[tuple[str, Path]]
    models: ModelScores
    settings: Settings
    results: Sequence[MetricResult]
    subjects: list[str] | None = None
    modality: list[str] | None = None
    costs: dict[str, np.ndarray] | None = None


def compare_models(
    sources: Sequence[tuple[str, Path]],
    settings: Settings,
    subjects_file: Path | None,
    modality_file: Path | None,
    cost_file: Path | None,
) -> Compared:
    """Read the models and what files say of them, and compare them by each metric; arguments as of `compare`.

    Raises:
        DatasetError: the summaries do not fit together, or a file or a metric is not as it should be.
    """
    models = read_models(sources, settings.common)
    subjects = read_case_table(subjects_file, "subject", models.cases) if subjects_file else None
    return Compared(
        sources=sources,
        models=models,
        settings=settings,
        subjects=subjects,
        modality=read_case_table(modality_file, "modality", models.cases) if modality_file else None,
        costs=read_costs(cost_file, models.names) if cost_file else None,
        results=[analyze(models, metric, settings, subjects) for metric in choose_metrics(models, settings.metrics)],
    )
