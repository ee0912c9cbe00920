"""nnU-Net's trainer with a config, checkpoints that are whole, and exact resume."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xlstm import __version__
from nnunet_xlstm.config import ENVIRONMENT, SegmentationConfig, resolve, to_dict
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.checkpoints.resume import read_header, readable_checkpoint
from nnunet_xlstm.nnunet.checkpoints.write import LATEST, RunCheckpoints
from nnunet_xlstm.nnunet.training.random_state import random_states, restore_random_states, seed_everything
from nnunet_xlstm.nnunet.training.run_config import (
    STOCK_ATTRIBUTES,
    changed_keys,
    check_same_patch,
    plans_or_misfit,
    stored_config,
    with_overrides,
)

EXTRAS = "nnunet_xlstm"  # key of what we add to nnU-Net's checkpoints


class ResumableTrainer(nnUNetTrainer):
    """A trainer whose runs go on from their checkpoints as if they had never stopped.

    What a checkpoint holds is a hook (`write_checkpoint`, `load_checkpoint`); how it is written, `RunCheckpoints`.
    """

    recipe = SegmentationConfig()
    my_init_kwargs: dict  # of nnU-Net, as is the next
    _best_ema: float | None

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net's signature)
    ):
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "-device cuda: torch finds no CUDA GPU here; use -device cpu, or see `nnunet_xlstm status`"
            )
        if device.type == "cpu" and hasattr(os, "sched_getaffinity"):
            # nnU-Net takes all cores of the machine; keep to those that this process may use
            torch.set_num_threads(min(torch.get_num_threads(), len(os.sched_getaffinity(0))))
        self.check_plans(plans, configuration)
        self.config = resolve(self.recipe)
        self.continuing = bool(plans.get("continue_training"))
        if self.config.seed is not None:
            seed_everything(self.config.seed)
        self._plans_of_dataset = plans
        plans, self._misfit = plans_or_misfit(plans, configuration, self.config)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.checkpoints = RunCheckpoints(self.write_checkpoint)
        self._resume_states: list[dict] | None = None
        self._apply_config()
        self.prepare()

    def check_plans(self, plans: dict, configuration: str) -> None:
        """Refuse plans before anything is written; a hook."""

    def prepare(self) -> None:
        """Set up what a subclass needs, when nnU-Net's part and the config are there; a hook."""

    def _apply_config(self) -> None:
        for name in STOCK_ATTRIBUTES:
            setattr(self, name, getattr(self.config, name))
        self.print_to_log_file(f"{type(self).__name__} uses: {json.dumps(to_dict(self.config))}")

    # ---- writing

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint, whole or not at all; nnU-Net calls this on all ranks, and rank 0 writes."""
        path = Path(filename)
        if path.name == LATEST:
            self._save_if_best()
        to_disk = self.local_rank == 0 and not self.disable_checkpointing
        self.checkpoints.save(path, self.current_epoch + 1, to_disk)

    def _save_if_best(self) -> None:
        """Write the best checkpoint before the latest one.

        nnU-Net writes it afterwards, and the latest one then holds an old best score: a run that goes on from it would
        replace the best checkpoint by a worse one or, killed between the two, never write it.
        """
        scores = self.logger.get_value("ema_fg_dice", step=None)
        if scores and (self._best_ema is None or scores[-1] > self._best_ema):
            self._best_ema = scores[-1]
            self.print_to_log_file(f"new best EMA pseudo Dice: {self._best_ema:.4f}")
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_best.pth"))

    def write_checkpoint(self, file: str | BinaryIO) -> None:
        """Write a checkpoint into a file, on rank 0; all ranks must call this."""
        # nnU-Net stores init_args as they are and reads only the names it knows
        arguments = self.my_init_kwargs
        self.my_init_kwargs = arguments | {EXTRAS: self.extras()}
        try:
            super().save_checkpoint(file)
        finally:
            self.my_init_kwargs = arguments

    def extras(self) -> dict[str, Any]:
        """Gather what we add to nnU-Net's checkpoint; a hook that all ranks call."""
        states = None if self.disable_checkpointing else random_states()
        return {"version": __version__, "config": to_dict(self.config), "random_states": states}

    @contextmanager
    def last_epoch(self) -> Iterator[None]:
        """Take the state for that of the epoch that has just ended, as nnU-Net's checkpoints are meant."""
        self.current_epoch -= 1
        try:
            yield
        finally:
            self.current_epoch += 1

    def keep_checkpoint(self) -> None:
        """Keep what a stop within the coming epoch writes; see `RunCheckpoints.keep`."""
        if not self.disable_checkpointing:
            with self.last_epoch():
                self.checkpoints.keep(self.current_epoch + 1)

    # ---- going on

    def load_checkpoint(self, filename_or_checkpoint) -> None:
        """Continue a run exactly, or load what is to be validated.

        Raises:
            CheckpointError: it cannot be read.
            ConfigError: it was trained with another patch.
        """
        if isinstance(filename_or_checkpoint, (str, Path)):
            filename_or_checkpoint = str(self._choose_checkpoint(Path(filename_or_checkpoint)))
            arguments = (read_header(Path(filename_or_checkpoint)) or {})["init_args"]
            self._agree_with(arguments.get(EXTRAS, {}).get("config"), arguments["plans"])
        super().load_checkpoint(filename_or_checkpoint)
        self.load_extras(self.my_init_kwargs.pop(EXTRAS, {}))

    def load_extras(self, extras: dict[str, Any]) -> None:
        """Take over what `extras` had gathered; empty for a checkpoint of nnU-Net's own; a hook."""
        self._resume_states = extras.get("random_states")

    def _choose_checkpoint(self, requested: Path) -> Path:
        # only a continued training may go on from another file: validation must score what was asked for
        chosen = readable_checkpoint(requested, fall_back=self.continuing)
        if chosen != requested:
            self.print_to_log_file(f"WARNING: {requested.name} cannot be read; continuing from {chosen.name}")
        return chosen

    def _agree_with(self, stored: dict | None, plans: dict) -> None:
        """Take over the config of a checkpoint where the user names none, and refuse another patch.

        Args:
            stored: the config; None in a checkpoint of nnU-Net's own.
            plans: that it was trained with.

        Raises:
            ConfigError: another patch.
        """
        if stored is not None and not os.environ.get(ENVIRONMENT) and not self.was_initialized:
            self._take_over(stored)
        check_same_patch(plans, self.configuration_name, self.configuration_manager.patch_size)
        if changed := changed_keys(stored or {}, self.config):
            self.print_to_log_file(f"WARNING: the config differs from the checkpoint's (was, is): {changed}")

    def _take_over(self, stored: dict) -> None:
        self.config, unknown = stored_config(self.recipe, stored)
        if unknown:
            self.print_to_log_file(f"WARNING: keys of the checkpoint that this version does not know: {unknown}")
        plans = with_overrides(self._plans_of_dataset, self.configuration_name, self.config)
        plans.pop("continue_training", None)
        self._misfit = None
        self.my_init_kwargs["plans"] = plans
        self.plans_manager = PlansManager(plans)
        self.configuration_manager = self.plans_manager.get_configuration(self.configuration_name)
        self._apply_config()

    def restore_random_states(self) -> None:
        """Go on drawing where the checkpoint stopped; once, when all that draws at the start of a run has done so."""
        restore_random_states(self._resume_states or [], self.local_rank)
        self._resume_states = None
