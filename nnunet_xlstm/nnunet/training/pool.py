"""The base of the trainers for pools of data sets that each label some of the targets."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist

from nnunet_xlstm.config import PoolConfig
from nnunet_xlstm.datasets.case_index import NAME, PoolCases, read_pool_cases
from nnunet_xlstm.datasets.sampling import sampling_probabilities
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.write import write_json
from nnunet_xlstm.layers.device import read_scalars, to_device
from nnunet_xlstm.losses.partial_labels import PartialLabelLoss
from nnunet_xlstm.nnunet.training.base import BaseTrainer
from nnunet_xlstm.pools.manifest_json import read_manifest
from nnunet_xlstm.pools.restrict.painting import out_of_scope_targets

N_ENTRIES = 10_000  # that stand for the sampling probabilities, at least


class PoolTrainer(BaseTrainer):
    """Trains on what `pool build` made: sigmoids, and a loss over the targets that are annotated in a case.

    Cases are drawn as pool_cases.json says, or `case_sampling`. Dice in validation is of each source's own targets:
    nnU-Net's would count what nobody annotated as false, and choose a wrong best checkpoint.
    """

    recipe = PoolConfig()
    config: PoolConfig

    def prepare(self) -> None:
        """Read the pool's side-car."""
        super().prepare()
        self.targets = [name for name in self.dataset_json["labels"] if name not in ("background", "ignore")]
        self.pool = self._read_pool()
        self.sources = sorted({row.source for row in self.pool.cases.values()})

    @cached_property
    def absent(self) -> dict[str, frozenset[str]]:
        """Return source -> targets that count as annotated and absent in its cases."""
        if self.config.out_of_scope_targets == "ignored":
            return dict.fromkeys(self.sources, frozenset())
        where = f"dataset.json of {self.plans_manager.dataset_name}"
        targets = read_manifest(self.dataset_json, where)
        return {source: out_of_scope_targets(targets, source) for source in self.sources}

    def _read_pool(self) -> PoolCases:
        path = Path(self.preprocessed_dataset_folder_base) / NAME
        pool = read_pool_cases(path) if path.is_file() else None
        if pool is None or any(row.valid is None for row in pool.cases.values()):
            raise ConfigError(
                f"{self.plans_manager.dataset_name} is not a labelled pool: {path} "
                f"{'lists no targets' if pool else 'is missing'}. {type(self).__name__} trains on one; make it with "
                "`nnunet_xlstm pool build`, or use another -tr"
            )
        for case, row in pool.cases.items():
            if unknown := set(row.valid or ()) - set(self.targets):
                raise ConfigError(
                    f"{path}: target {min(unknown)} of case {case} is missing from dataset.json; build the pool again, "
                    "then plan and preprocess with --clean"
                )
        return pool

    # ---- loss

    def _build_loss(self) -> PartialLabelLoss:
        if not self.label_manager.has_regions:
            raise ConfigError(
                f"{self.plans_manager.dataset_name}: its labels are no regions; make it with `nnunet_xlstm pool build`"
            )
        return PartialLabelLoss(
            self._scale_weights(),
            self.config.loss_reduction,
            self.config.loss_smooth,
            self.label_manager.has_ignore_label,
            self.is_ddp,
            self.config.dice_weight,
            self.config.ce_weight,
        )

    def _scale_weights(self) -> list[float]:
        """Return nnU-Net's weights: halved from output to output, the lowest unused."""
        if not self.enable_deep_supervision:
            return [1.0]
        weights = 0.5 ** np.arange(len(self._get_deep_supervision_scales()))
        weights[-1] = 1e-6 if self.is_ddp else 0  # DDP wants every parameter used
        return (weights / weights.sum()).tolist()

    def valid(self, keys: Sequence[str]) -> torch.Tensor:
        """Return what is annotated in these cases, (B, C) bool, on the CPU."""
        return self._pairs([self._annotated(case) for case in keys])

    def in_loss(self, keys: Sequence[str]) -> torch.Tensor:
        """Return what the loss counts in these cases, (B, C) bool, on the CPU: `valid`, and what must be absent."""
        absent = [self.absent[self.pool.cases[str(case)].source] for case in keys]
        return self._pairs([{*self._annotated(case), *also} for case, also in zip(keys, absent, strict=True)])

    def _annotated(self, case: str) -> tuple[str, ...]:
        return self.pool.cases[str(case)].valid or ()

    def _pairs(self, rows: Sequence[Collection[str]]) -> torch.Tensor:
        return torch.tensor([[target in row for target in self.targets] for row in rows])

    def train_step(self, batch: dict) -> dict:
        """Tell the loss what it counts, and take the step."""
        self.loss.set_valid(self.in_loss(batch["keys"]))
        return super().train_step(batch)

    # ---- data

    def get_tr_and_val_datasets(self):
        """Return nnU-Net's data sets, whose cases are drawn as the pool or the config says."""
        datasets = super().get_tr_and_val_datasets()
        scheme = None if self.config.case_sampling == "pool" else self.config.case_sampling
        for dataset, name in zip(datasets, ("training", "validation"), strict=True):
            self._check_preprocessed(dataset)
            probabilities = sampling_probabilities(self.pool.cases, dataset.identifiers, scheme or self.pool.sampling)
            shares: dict[str, float] = dict.fromkeys(self.sources, 0.0)
            for case, p in zip(dataset.identifiers, probabilities, strict=True):
                shares[self.pool.cases[case].source] += float(p)
            said = ", ".join(f"{source} {share:.3f}" for source, share in shares.items())
            self.print_to_log_file(f"{name} cases are drawn from: {said}")
            dataset.identifiers = expand_by_probability(dataset.identifiers, probabilities)
        return datasets

    def _check_preprocessed(self, dataset) -> None:
        """Check that the label maps have the codes of this build: `pool build` renews dataset.json, not these."""
        one_of_each = {self.pool.cases[case].source: case for case in dataset.identifiers if case in self.pool.cases}
        regions = dict(zip(self.targets, self.label_manager.foreground_regions, strict=True))
        for case in one_of_each.values():
            found = dataset.load_case(case)[-1]["class_locations"]
            if missing := [target for target, region in regions.items() if region not in found]:
                raise ConfigError(
                    f"{self.preprocessed_dataset_folder}: {case} was preprocessed with other codes for {missing[0]} "
                    f"than dataset.json has, {regions[missing[0]]}; plan and preprocess again with --clean"
                )

    # ---- validation

    def validation_step(self, batch: dict) -> dict:
        """Return the loss, and voxels (sources, targets, 3) of valid pairs: true positive, predicted and labelled.

        Both stay on the device until the end of the epoch.
        """
        valid = to_device(self.valid(batch["keys"]), self.device)
        source = torch.tensor([self.sources.index(self.pool.cases[str(case)].source) for case in batch["keys"]])
        data = batch["data"].to(self.device, non_blocking=True)
        target = [one.to(self.device, non_blocking=True) for one in _as_list(batch["target"])]
        with self.precision.autocast():
            output = _as_list(self.network(data))
            loss = self.loss(output, target, self.in_loss(batch["keys"]))
        predicted, labelled = output[0] > 0, target[0] > 0  # sigmoid > 0.5
        if self.label_manager.has_ignore_label:
            predicted, labelled = predicted & ~labelled[:, -1:], labelled[:, :-1] & ~labelled[:, -1:]
        counts = torch.stack([(x.flatten(2).sum(2) * valid) for x in (predicted & labelled, predicted, labelled)], -1)
        by_source = counts.new_zeros(len(self.sources), *counts.shape[1:])
        by_source.index_add_(0, to_device(source, self.device), counts)
        self.stop_if_asked()
        return {"loss": loss, "counts": by_source}

    def on_validation_epoch_end(self, val_outputs: list[dict]):
        """Log the loss, and Dice of each source's own targets."""
        loss = float(np.mean(read_scalars(output["loss"] for output in val_outputs)))
        counts = torch.stack([output["counts"] for output in val_outputs]).sum(0).cpu().numpy()
        if self.is_ddp:
            gathered: list = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, (loss, counts))
            loss = float(np.mean([one for one, _ in gathered]))
            counts = np.sum([one for _, one in gathered], axis=0)
        dice = dice_of(counts)  # (sources, targets), NaN where there is nothing
        for source, row in zip(self.sources, dice, strict=True):
            seen = {target: round(float(d), 4) for target, d in zip(self.targets, row, strict=True) if np.isfinite(d)}
            self.print_to_log_file(f"validation Dice of {source}: {seen or 'no case was drawn'}")
        by_target = [_mean(column) for column in dice.T]
        mean_dice = _mean([_mean(row) for row in dice]) or 0.0
        self.log_validation(loss, mean_dice, [math.nan if value is None else value for value in by_target])

    def perform_actual_validation(self, save_probabilities: bool = False):
        """Validate as nnU-Net does, and write summary_by_source.json."""
        super().perform_actual_validation(save_probabilities)
        path = Path(self.output_folder) / "validation" / "summary.json"
        if self.local_rank != 0 or not path.is_file():
            return
        regions = [_region_key(self.dataset_json["labels"][target]) for target in self.targets]
        summary = summary_by_source(read_json(path), self.pool, dict(zip(self.targets, regions, strict=True)))
        write_json(path.with_name("summary_by_source.json"), summary)
        for source, row in summary["sources"].items():
            self.print_to_log_file(f"{source}: Dice {row['mean']} {row['Dice']}")
        self.print_to_log_file(
            f"mean over data sets, annotated targets only: {summary['mean']} (summary_by_source.json; nnU-Net's mean "
            "above also counts targets that nobody annotated)"
        )


def expand_by_probability(cases: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    """Repeat cases such that each is there in proportion to its probability, to within one entry, and at least once.

    nnU-Net's loader draws from its identifiers, all alike, and gives the trainer no way to pass probabilities. As an
    array of references they cost 8 bytes an entry, and a draw does not depend on their number.
    """
    n = max(N_ENTRIES, 20 * len(cases))
    ends = np.rint(np.cumsum(probabilities) * n).astype(int)
    counts = np.maximum(np.diff(ends, prepend=0), 1)
    return np.repeat(np.array(cases, dtype=object), counts)


def dice_of(counts: np.ndarray) -> np.ndarray:
    """Return Dice (...) of counts (..., 3): voxels true positive, predicted, labelled; NaN where nothing is either."""
    both, total = counts[..., 0], counts[..., 1] + counts[..., 2]
    return np.where(total > 0, 2 * both / np.maximum(total, 1), np.nan)


def summary_by_source(summary: Mapping, pool: PoolCases, keys: Mapping[str, str]) -> dict:
    """Sort nnU-Net's summary.json of a validation by data set: mean Dice over cases, of annotated targets only.

    Args:
        summary: content of the file.
        pool: the cases, and what is annotated in each.
        keys: target -> what summary.json calls it.

    Returns:
        sources -> {Dice: {target: mean over its cases}, cases: {target: number}, mean: over targets}, and their mean.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for entry in summary["metric_per_case"]:
        row = pool.cases[Path(entry["prediction_file"]).name.split(".")[0]]
        for target in row.valid or ():
            dice = entry["metrics"][keys[target]]["Dice"]
            found.setdefault(row.source, {}).setdefault(target, []).append(float(dice))
    sources = {}
    for source, targets in sorted(found.items()):
        dice = {target: _mean(values, digits=4) for target, values in targets.items()}
        cases = {target: int(np.isfinite(values).sum()) for target, values in targets.items()}
        sources[source] = {"Dice": dice, "cases": cases, "mean": _mean(list(dice.values()), digits=4)}
    return {"sources": sources, "mean": _mean([row["mean"] for row in sources.values()], digits=4)}


def _mean(values, digits: int = 12) -> float | None:
    """Return the mean of the values that are numbers; None if none is."""
    known = [float(v) for v in values if v is not None and np.isfinite(v)]
    return round(float(np.mean(known)), digits) if known else None


def _as_list(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _region_key(region: int | Sequence[int]) -> str:
    """Write a region as nnU-Net does in summary.json."""
    return str(tuple(region)) if isinstance(region, (list, tuple)) else str(region)
