"""The base of the pre-training trainers: nnU-Net's loop around a student and a teacher, without labels."""

from __future__ import annotations

import contextlib
import math
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_xlstm.config import to_dict
from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.datasets.case_index import PoolCases, read_pool_cases
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.write import write_json
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.loading.views import local_patch, view_batch, view_loaders
from nnunet_xlstm.nnunet.training.base import BaseTrainer, numbers
from nnunet_xlstm.nnunet.training.collapse_monitor import CollapseMonitor
from nnunet_xlstm.nnunet.training.finite_guard import FiniteGuard
from nnunet_xlstm.nnunet.training.optim import PretrainingSchedule, make_optimizer
from nnunet_xlstm.nnunet.training.random_state import random_state, random_states
from nnunet_xlstm.nnunet.training.run_config import refuse_cascade
from nnunet_xlstm.pretraining import schedules
from nnunet_xlstm.pretraining.collapse.diagnosis import CollapseWarning
from nnunet_xlstm.pretraining.distributed import sum_over_ranks
from nnunet_xlstm.pretraining.student_teacher import StudentTeacher, update_teacher
from nnunet_xlstm.pretraining.views import Views

SLOW_TEACHER = 0.1  # share of its first weights that the last teacher should not exceed
UNTRAINED_BATCHES = 128  # at most so many are looked at before the first step, for comparison


class _Finished(Exception):
    """Raised inside nnU-Net's epoch loop to end the training early and well."""


class PretrainTrainer(BaseTrainer):
    """Trains the encoder of the plans' network from images alone. A subclass sets `recipe` and no more.

    `train_step` is one optimizer step over `gradient_accumulation` batches. Its checkpoint: `checkpoints.pretraining`.
    """

    recipe = PretrainingConfig()
    self_supervised = True
    steps_between_checks = 1  # a step of many batches is long, and waits for the device anyway

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net's signature)
    ):
        refuse_cascade(plans, configuration)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.method: StudentTeacher | None = None
        self.parallel: nn.Module | None = None  # the method, under DDP where there is more than one GPU
        self.monitor: CollapseMonitor | None = None
        self.lineage: list[dict] = []
        self._missing_start = ""
        self._loading = self._resumed = False
        # no measure without labels says which epoch is best: the last one counts
        self._best_ema = math.inf

    # ---- building

    def initialize(self):
        super().initialize()
        if super()._do_i_compile():
            self.print_to_log_file("pre-training runs without torch.compile; nnUNet_compile changes nothing here")
        if self.device.type == "cpu":
            dim = len(self.configuration_manager.patch_size)
            self.method.to(memory_format=torch.channels_last_3d if dim == 3 else torch.channels_last)
        if self.is_ddp:
            self.network = self.network.module  # its forward pass is never used
            self.parallel = DistributedDataParallel(
                self.method,
                device_ids=[self.local_rank] if self.device.type == "cuda" else None,
                broadcast_buffers=False,
            )

    def configure_optimizers(self):
        network = self.bare_network()
        encoder = getattr(network, "encoder", None)
        if encoder is None:
            raise ConfigError(
                f"{type(network).__name__} has no part named `encoder`; pre-training needs a network whose encoder "
                "returns one map per stage, such as those of our planners or nnU-Net's own"
            )
        self.method = self.parallel = StudentTeacher(
            encoder, self.num_input_channels, self.configuration_manager.patch_size, self.config
        ).to(self.device)
        if self.config.init_checkpoint is not None:
            self._start_from(Path(self.config.init_checkpoint))
        self.monitor = CollapseMonitor(self.config, self.pool_cases, Path(self.output_folder))
        optimizer = make_optimizer(self.method, self.config)
        self.guard = FiniteGuard(optimizer, self.config.max_nonfinite_steps)
        # the plans' batch is that of all GPUs together: nnU-Net splits it
        images = self.configuration_manager.batch_size * self.config.gradient_accumulation
        return optimizer, PretrainingSchedule(optimizer, self.config, self.total_steps, images)

    def _do_i_compile(self):
        # student and teacher see views of several sizes, with and without gradients: a graph each, and no gain measured
        return False

    def _build_loss(self):
        return None  # the method has its own

    def set_deep_supervision_enabled(self, enabled: bool):
        """The decoder is not run."""

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the plans' network for training; nnU-Net asks for one without deep supervision in order to predict."""
        if not enable_deep_supervision:
            raise ConfigError(
                "pre-training trains no decoder, so this run cannot predict; fit its encoder to a labelled data set "
                "(nnunet_xlstm adapt), train that, and predict with the result"
            )
        return nnUNetTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )

    @property
    def total_steps(self) -> int:
        return self.num_epochs * self.num_iterations_per_epoch

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.current_epoch * self.num_iterations_per_epoch + self._iteration

    def _start_from(self, path: Path) -> None:
        """Student and teacher begin as the teacher of an earlier stage."""
        if (self.continuing or self._loading) and not path.is_file():
            self._missing_start = str(path)  # the run's own checkpoint is about to be loaded
            return
        content = checkpoints.read(path)
        own = content[checkpoints.KEY]
        try:
            self.method.load_teacher(own["method"], keep_heads=self.config.keep_heads)
        except (RuntimeError, KeyError) as error:
            raise ConfigError(
                f"init_checkpoint {path}: its encoder ({own['architecture']['network_class_name']}, "
                f"{own['dataset']}) does not fit this network: {str(error).splitlines()[0]}; plan both stages with one "
                "planner, and use the plans of the first (nnUNetv2_move_plans_between_datasets)"
            ) from error
        self.lineage = [*own["lineage"], checkpoints.lineage_entry(path, content)]
        self.print_to_log_file(f"starting from the teacher of {path} (stage {self.lineage[-1]['stage']})")

    # ---- data

    def get_dataloaders(self):
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

    @cached_property
    def pool_cases(self) -> PoolCases | None:
        """What the side-car knows of the cases; None without one (every case then counts as a subject)."""
        path = Path(self.preprocessed_dataset_folder_base) / "pool_cases.json"
        return read_pool_cases(path) if path.is_file() else None

    # ---- the loop

    def on_train_start(self):
        super().on_train_start()
        if self.local_rank == 0 and not self.disable_checkpointing:
            checkpoints.content(
                self, [random_state()]
            )  # what cannot be written is said before the first epoch, not after many
        if self._missing_start and not self._resumed:
            raise ConfigError(
                f"init_checkpoint {self._missing_start}: no such file, and this run has no checkpoint to continue from"
            )
        if not self._resumed and not self.lineage:
            # also after -pretrained_weights, which changed the student alone
            update_teacher(self.method.teacher, self.method.student, momentum=0.0)
        self._warn_of_a_slow_teacher()
        if self.config.frames == "pair" and self.config.dense_weight:
            self.print_to_log_file(
                "WARNING: frames = pair with dense_weight: points at one place in two time frames are taken for the "
                "same tissue, which a moving heart is not; set dense_weight to 0"
            )
        if not self.monitor.history:
            self._look_before_training()

    def _warn_of_a_slow_teacher(self) -> None:
        share = schedules.share_of_start(self.total_steps, self.config)
        if self.config.export_branch == "teacher" and share > SLOW_TEACHER:
            self.print_to_log_file(
                f"WARNING: after {self.total_steps} steps the teacher, which the checkpoint offers, will still be "
                f"{share:.0%} the weights it started with; lower teacher_momentum ({self.config.teacher_momentum:g}), "
                "train for longer, or set export_branch to student"
            )

    def on_epoch_start(self):
        patience = self.config.early_stop_epochs
        if patience is not None and self.monitor.at_rest(patience):
            self.print_to_log_file(
                f"the loss has not fallen for {patience} epochs: the training ends (early_stop_epochs)"
            )
            raise _Finished
        super().on_epoch_start()

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        self.method.train()

    def on_validation_epoch_start(self):
        super().on_validation_epoch_start()
        self.method.eval()

    def train_step(self, batch: dict) -> dict:
        step = self.step
        self.lr_scheduler.set(step)
        self.method.set_step(step, self.total_steps, self.num_iterations_per_epoch)
        self.optimizer.zero_grad(set_to_none=True)
        n = self.config.gradient_accumulation
        total, keys = torch.zeros((), device=self.device), []
        for micro in range(n):
            if micro:
                batch = next(self.dataloader_train)
            with self._without_sync(micro < n - 1):
                losses = self._losses(batch)
                loss = losses["loss"] / n
                (self.grad_scaler.scale(loss) if self.grad_scaler is not None else loss).backward()
            total += loss.detach()
            keys += batch["keys"]
            self.monitor.add_losses(losses)
        self.guard.expect(sum_over_ranks(total.clone()))
        if self.grad_scaler is not None:
            self.grad_scaler.unscale_(self.optimizer)
        self.method.freeze_prototypes()
        if self.config.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.method.parameters(), self.config.grad_clip)
        if self.grad_scaler is not None:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        else:
            self.optimizer.step()
        if self.guard.after_step():
            self.monitor.add(self.method.step_statistics(), keys)
            self.method.end_step(step, self.total_steps)
        else:
            self.method.discard_step()
        self._iteration += 1
        self._maybe_stop()
        return {"loss": total}

    def validation_step(self, batch: dict) -> dict:
        losses = self._losses(batch)  # nnU-Net calls this without gradients, and the method is in evaluation mode
        self._maybe_stop()
        return {"loss": losses["loss"]}

    def _losses(self, batch: dict) -> dict[str, torch.Tensor]:
        cuda = self.device.type == "cuda"
        with torch.autocast("cuda", dtype=self._training_dtype()) if cuda else contextlib.nullcontext():
            return self.parallel(view_batch(batch, self.device))

    def _without_sync(self, active: bool):
        return self.parallel.no_sync() if active and self.is_ddp else contextlib.nullcontext()

    def _mean_over_ranks(self, value: float) -> float:
        if not self.is_ddp:
            return value
        mean = torch.tensor(value, device=self.device)
        dist.all_reduce(mean)
        return mean.item() / dist.get_world_size()

    def on_validation_epoch_end(self, val_outputs: list[dict]):
        loss = self._mean_over_ranks(float(np.mean(numbers(output["loss"] for output in val_outputs))))
        # nnU-Net's logger wants each of its keys once per epoch; there is no Dice without labels
        self.logger.log("mean_fg_dice", 0.0, self.current_epoch)
        self.logger.log("dice_per_class_or_region", [], self.current_epoch)
        self.logger.log("val_losses", loss, self.current_epoch)

    def on_epoch_end(self):
        warnings = self._record_epoch()
        super().on_epoch_end()
        if self.local_rank == 0:
            self.monitor.draw()
        # the ranks monitor their own images, and must agree
        if self.config.on_collapse == "stop" and self._mean_over_ranks(float(bool(warnings))) > 0:
            self.current_epoch -= 1  # a checkpoint is of the epoch that has just ended
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
            reason = warnings[0] if warnings else "another rank has found a collapse"
            raise RuntimeError(
                f"pre-training stopped after epoch {self.current_epoch}, because on_collapse is `stop`: {reason} "
                "checkpoint_latest.pth holds this state; set on_collapse to warn to go on with --c"
            )

    def run_training(self):
        try:
            super().run_training()
        except _Finished:
            self.on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False):
        self.print_to_log_file("pre-training has no labels: there is nothing to validate")
        if self.local_rank == 0:  # nnUNetv2_export_model_to_zip does not export a model without this file
            note = "pre-training without labels: nothing was validated"
            write_json(Path(self.output_folder) / "validation" / "summary.json", {"note": note})

    # ---- the collapse monitor

    def _record_epoch(self) -> list[CollapseWarning]:
        """The epoch's measures into log, file and history; a collapse is said, and returned."""
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
        """The measures of the encoder as it starts, as epoch -1: later ones are judged beside them."""
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
            self._maybe_stop()
        row = {"epoch": -1, "step": 0, "train_loss": None, "val_loss": None}
        self.monitor.record(row, self.print_to_log_file, write=self.local_rank == 0)

    # ---- checkpoints

    def write_checkpoint(self, file: str | BinaryIO) -> None:
        if self.disable_checkpointing:
            return
        states = random_states()
        if self.local_rank == 0:
            torch.save(checkpoints.content(self, states), file)

    def load_checkpoint(self, filename_or_checkpoint) -> None:
        """Continue a run exactly: student, teacher, heads, center, optimizer, random states.

        Raises:
            CheckpointError: not a checkpoint of pre-training. ConfigError: its config does not fit this run's.
        """
        chosen = self._choose_checkpoint(Path(filename_or_checkpoint))
        content = checkpoints.read(chosen)
        own = content[checkpoints.KEY]
        self._agree_with(own["config"], content["init_args"]["plans"])
        if not self.was_initialized:
            self._loading = True
            self.initialize()
        self.bare_network().load_state_dict(content["network_weights"])  # the decoder; the encoder follows
        try:
            self.method.load_state_dict(own["method"])
            self.optimizer.load_state_dict(content["optimizer_state"])
        except (RuntimeError, ValueError) as error:
            changed = sorted(k for k, v in to_dict(self.config).items() if own["config"].get(k) != v)
            raise ConfigError(
                f"{chosen}: this run was started with other objectives, targets or heads and cannot go on with these "
                f"keys ({', '.join(changed) or 'none differs'}); set them back, or start anew with init_checkpoint"
            ) from error
        if self.grad_scaler is not None and content["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(content["grad_scaler_state"])
        self.current_epoch = content["current_epoch"]
        self.logger.load_checkpoint(content["logging"])
        self.monitor.history, self.lineage = own["metrics"], own["lineage"]
        self._resume_states = checkpoints.random_states_of(own.get("random_states", ()))
        self._resumed = True
