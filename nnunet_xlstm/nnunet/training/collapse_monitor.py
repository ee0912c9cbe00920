"""The monitor of a pre-training run: an epoch's measures into the log, a JSONL file, a picture and the history."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.datasets.case_index import PoolCases
from nnunet_xlstm.figures.pretraining_chart import draw_progress
from nnunet_xlstm.io.write import write_text
from nnunet_xlstm.pretraining.collapse.diagnosis import CollapseWarning, diagnose
from nnunet_xlstm.pretraining.collapse.metrics import CollapseMetrics, StepStatistics, knn_accuracy
from nnunet_xlstm.pretraining.early_stopping import has_stopped_falling

KNN_NEIGHBORS = 5


class CollapseMonitor:
    """Collects what the steps of an epoch show, and judges it at the epoch's end.

    Attributes:
        history: of every epoch, losses and measures; epoch -1 is before the first step.
    """

    def __init__(self, config: PretrainingConfig, pool: PoolCases | None, folder: Path):
        self.config, self.pool, self.folder = config, pool, folder
        self.metrics = CollapseMetrics(config)
        self.history: list[dict] = []
        self._terms: dict[str, list[torch.Tensor]] = defaultdict(list)

    def add(self, seen: StepStatistics, keys: Sequence[str]) -> None:
        """Take in what one optimizer step showed.

        Args:
            seen: of the images of the step.
            keys: cases of these images, in their order.
        """
        self.metrics.add(seen, keys)

    def add_losses(self, losses: Mapping[str, torch.Tensor]) -> None:
        """Take in the terms of the loss of one batch; they are read at the end of the epoch, without a wait here."""
        for name in losses.keys() - {"loss"}:
            self._terms[name].append(losses[name])

    def at_rest(self, patience: int) -> bool:
        """Tell whether the validation loss has stopped falling for `patience` epochs."""
        return has_stopped_falling([row["val_loss"] for row in self.history if row["epoch"] >= 0], patience)

    def record(self, row: dict, log: Callable[[str], None], write: bool) -> list[CollapseWarning]:
        """Complete the row of an epoch with all measures, and diagnose the run.

        Args:
            row: `epoch`, `step` and losses; is changed.
            log: takes a line of text.
            write: also into pretraining.jsonl; one rank only.

        Returns:
            The warnings that hold now.
        """
        row |= {f"loss_{name}": float(torch.stack(values).mean()) for name, values in sorted(self._terms.items())}
        self._terms.clear()
        row |= self.metrics.epoch() | self._knn()
        if row["epoch"] < 0 and self.config.feature_norm:
            row["embedding_sd"] = None  # the heads have not yet got the statistics that they will work with
        self.history = [earlier for earlier in self.history if earlier["epoch"] < row["epoch"]] + [row]
        warnings = diagnose(self.history, self.config)
        measures = {name: round(value, 4) for name, value in row.items() if isinstance(value, float)}
        log(f"collapse monitor: {json.dumps(measures)}")
        row["warnings"] = [warning.code for warning in warnings]
        for warning in warnings if row["epoch"] >= 0 else ():
            log(f"WARNING: {warning}")
        if write:
            write_text(self.folder / "pretraining.jsonl", "".join(json.dumps(row) + "\n" for row in self.history))
        return warnings

    def draw(self) -> None:
        """Draw the history into progress.png."""
        draw_progress(self.history, self.folder / "progress.png")

    def _knn(self) -> dict[str, float | None]:
        """Measure how well neighbors among the features tell modality and source of a case, where there are several."""
        if self.pool is None:
            return {}
        features, keys = self.metrics.vectors()
        rows = [self.pool.cases[key] for key in keys]
        subjects = [row.subject for row in rows]
        return {
            f"knn_{name}": knn_accuracy(features, [getattr(row, name) for row in rows], subjects, KNN_NEIGHBORS)
            for name in ("modality", "source")
        }
