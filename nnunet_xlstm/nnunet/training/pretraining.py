"""The base of the pre-training trainers: nnU-Net's loop around a student and a teacher, without labels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.write import write_json
from nnunet_xlstm.layers.device import read_scalars
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.checkpoints.write import LATEST
from nnunet_xlstm.nnunet.loading.views import local_patch, view_batch, view_loaders
from nnunet_xlstm.nnunet.training.random_state import random_state
from nnunet_xlstm.nnunet.training.student_teacher import StudentTeacherTrainer
from nnunet_xlstm.pretraining.collapse.diagnosis import CollapseWarning
from nnunet_xlstm.pretraining.distributed import mean_over_ranks, sum_over_ranks
from nnunet_xlstm.pretraining.setting_warnings import setting_warnings
from nnunet_xlstm.pretraining.student_teacher import update_teacher
from nnunet_xlstm.pretraining.views import Views

UNTRAINED_BATCHES = 128  # at most so many are looked at before the first step, for comparison
NO_SCALING = torch.amp.GradScaler("cuda", enabled=False)


class _Finished(Exception):
    """Raised inside nnU-Net's epoch loop to end the training early and well."""


class PretrainTrainer(StudentTeacherTrainer):
    """Trains the encoder of the plans' network from images alone. A subclass sets `recipe` and no more.

    `train_step` is one optimizer step over `gradient_accumulation` batches. Its checkpoint: `checkpoints.pretraining`.
    """

    def get_dataloaders(self):
        """Return endless batches of views, for training and validation."""
        row = self.configuration_manager
        patch = [int(n) for n in row.patch_size]
        strides = np.prod(np.array(row.pool_op_kernel_sizes), axis=0)
        local = local_patch(patch, strides, self.config.local_patch_size) if self.config.n_local_crops else None
        spacing = [float(s) for s in row.spacing][-len(patch) :]  # in 2D, of the slice
        views = Views(patch, spacing, self.config, self.config.mirroring, local)
        return view_loaders(
            self.get_tr_and_val_datasets(),
            self.batch_size,
            views,
            self.oversample_foreground_percent,
            self.pool_cases,
            pairs=self.config.frames == "pair",
            pin_memory=self.device.type == "cuda",
        )

    def on_train_start(self):
        """Check that a checkpoint can be written, align the teacher, and measure the encoder as it starts.

        Raises:
            ConfigError: neither the init_checkpoint nor a checkpoint of this run is there.
        """
        super().on_train_start()
        if self.local_rank == 0 and not self.disable_checkpointing:
            checkpoints.content(self.state([random_state()]))  # what cannot be written is said now, not after epochs
        if self._missing_start and not self._resumed:
            raise ConfigError(
                f"init_checkpoint {self._missing_start}: no such file, and this run has no checkpoint to continue from"
            )
        if not self._resumed and not self.lineage:
            # also after -pretrained_weights, which changed the student alone
            update_teacher(self.method.teacher, self.method.student, momentum=0.0)
        for warning in setting_warnings(self.config, self.total_steps):
            self.print_to_log_file(f"WARNING: {warning}")
        if not self.monitor.history:
            self._look_before_training()

    def on_epoch_start(self):
        """End the run if the loss has come to rest."""
        patience = self.config.early_stop_epochs
        if patience is not None and self.monitor.at_rest(patience):
            self.print_to_log_file(
                f"the loss has not fallen for {patience} epochs: the training ends (early_stop_epochs)"
            )
            raise _Finished
        super().on_epoch_start()

    @property
    def step(self) -> int:
        """Count the optimizer steps done."""
        return self.current_epoch * self.num_iterations_per_epoch + self._iteration

    def on_train_epoch_start(self):
        """Set the method to training."""
        super().on_train_epoch_start()
        self.method.train()

    def on_validation_epoch_start(self):
        """Set the method to evaluation."""
        super().on_validation_epoch_start()
        self.method.eval()

    def train_step(self, batch: dict) -> dict:
        """Take one optimizer step over `gradient_accumulation` batches, and return its loss, a scalar on the device."""
        step = self.step
        self.lr_scheduler.set(step)
        self.method.set_step(step, self.total_steps, self.num_iterations_per_epoch)
        self.optimizer.zero_grad(set_to_none=True)
        n, scaler = self.config.gradient_accumulation, self.grad_scaler or NO_SCALING
        total, keys = torch.zeros((), device=self.device), []
        for micro in range(n):
            if micro:
                batch = next(self.dataloader_train)
            with self._without_sync(micro < n - 1):
                losses = self._losses(batch)
                loss = losses["loss"] / n
                scaler.scale(loss).backward()
            total += loss.detach()
            keys += batch["keys"]
            self.monitor.add_losses(losses)
        self.guard.expect(sum_over_ranks(total.clone()))
        scaler.unscale_(self.optimizer)
        self.method.freeze_prototypes()
        if self.config.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.method.parameters(), self.config.grad_clip)
        scaler.step(self.optimizer)
        scaler.update()
        if self.guard.after_step():
            self.monitor.add(self.method.step_statistics(), keys)
            self.method.end_step(step, self.total_steps)
        else:
            self.method.discard_step()
        self._iteration += 1
        self.stop_if_asked()
        return {"loss": total}

    def validation_step(self, batch: dict) -> dict:
        """Return the loss of a batch; nnU-Net calls this without gradients."""
        losses = self._losses(batch)  # nnU-Net calls this without gradients, and the method is in evaluation mode
        self.stop_if_asked()
        return {"loss": losses["loss"]}

    def _losses(self, batch: dict) -> dict[str, torch.Tensor]:
        with self.precision.autocast():
            return self.parallel(view_batch(batch, self.device))

    def _without_sync(self, active: bool) -> AbstractContextManager:
        return (
            self.parallel.no_sync() if active and isinstance(self.parallel, DistributedDataParallel) else nullcontext()
        )

    def on_validation_epoch_end(self, val_outputs: list[dict]):
        """Log the mean loss of all ranks."""
        loss = float(np.mean(read_scalars(output["loss"] for output in val_outputs)))
        self.log_validation(mean_over_ranks(loss, self.device), mean_dice=0.0, dice=[])  # no labels, no Dice

    def on_epoch_end(self):
        """Record the epoch, and stop the run where a collapse has to.

        Raises:
            RuntimeError: a collapse, and `on_collapse` is stop.
        """
        warnings = self._record_epoch()
        super().on_epoch_end()
        if self.local_rank == 0:
            self.monitor.draw()
        # the ranks monitor their own images, and must agree
        if self.config.on_collapse == "stop" and mean_over_ranks(float(bool(warnings)), self.device) > 0:
            with self.last_epoch():
                self.save_checkpoint(str(Path(self.output_folder) / LATEST))
            reason = warnings[0] if warnings else "another rank has found a collapse"
            raise RuntimeError(
                f"pre-training stopped after epoch {self.current_epoch - 1}, because on_collapse is `stop`: {reason} "
                "checkpoint_latest.pth holds this state; set on_collapse to warn to go on with --c"
            )

    def run_training(self):
        """Train to the last epoch, or to an early stop."""
        try:
            super().run_training()
        except _Finished:
            self.on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False):
        """Validate nothing: there are no labels."""
        self.print_to_log_file("pre-training has no labels: there is nothing to validate")
        if self.local_rank == 0:  # nnUNetv2_export_model_to_zip does not export a model without this file
            note = "pre-training without labels: nothing was validated"
            write_json(Path(self.output_folder) / "validation" / "summary.json", {"note": note})

    # ---- the collapse monitor

    def _record_epoch(self) -> list[CollapseWarning]:
        """Put the epoch's measures into log, file and history, and return the warnings of a collapse."""
        row = {
            "epoch": self.current_epoch,
            "step": self.step,
            "train_loss": float(self.logger.get_value("train_losses", step=-1)),
            "val_loss": float(self.logger.get_value("val_losses", step=-1)),
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "ema_distance": self.method.ema_distance(),
        }
        return self.monitor.record(row, self.print_to_log_file, write=self.local_rank == 0)

    def _look_before_training(self) -> None:
        """Measure the encoder as it starts, as epoch -1: later epochs are judged beside it."""
        # by the batch of all ranks together, so that each makes as many calls
        batches = -(-self.config.monitor_vectors // (2 * self.configuration_manager.batch_size))
        per_epoch = self.num_iterations_per_epoch * self.config.gradient_accumulation
        self.keep_checkpoint()
        self.method.train()
        for _ in range(min(batches, per_epoch, UNTRAINED_BATCHES)):
            batch = next(self.dataloader_train)
            with torch.no_grad():
                self._losses(batch)
            self.monitor.add(self.method.step_statistics(), batch["keys"])
            self.method.discard_step()
            self.stop_if_asked()
        row = {"epoch": -1, "step": 0, "train_loss": None, "val_loss": None}
        self.monitor.record(row, self.print_to_log_file, write=self.local_rank == 0)
