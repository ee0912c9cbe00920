"""The base of our trainers: nnU-Net's own loop with guards and with what a config asks for.

It overrides hooks and never `build_network_architecture`: the plans alone decide the network, so any plans (also
`nnUNetPlans`) train under our recipes. Each duty beside the loop has a file of its own: config and checkpoints
(`resumable`), precision, steps that are not finite (`finite_guard`), requests to stop (`stop_requests`).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_xlstm.config.augmentation import augmentation_values
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.device import read_scalars, use_channels_last_on_cpu
from nnunet_xlstm.networks.memory import estimate_memory
from nnunet_xlstm.nnunet.checkpoints.resume import read_header
from nnunet_xlstm.nnunet.checkpoints.write import LATEST
from nnunet_xlstm.nnunet.loading import augmentation
from nnunet_xlstm.nnunet.loading.augmentation import ReseedPerWorker
from nnunet_xlstm.nnunet.training.finite_guard import FiniteGuard
from nnunet_xlstm.nnunet.training.optim import IterationSchedule, make_optimizer
from nnunet_xlstm.nnunet.training.precision import Precision
from nnunet_xlstm.nnunet.training.pretrained_weights import check_pretrained_weights
from nnunet_xlstm.nnunet.training.random_state import seed_everything
from nnunet_xlstm.nnunet.training.resumable import ResumableTrainer
from nnunet_xlstm.nnunet.training.splits import check_splits, write_splits
from nnunet_xlstm.nnunet.training.stop_requests import StopRequests


class BaseTrainer(ResumableTrainer):
    """Base of our segmentation trainers. A subclass sets `recipe`, an instance of a config class, and no more.

    Everything that the recipe holds can be overridden by the JSON file named in `nnUNet_xlstm_config`.
    """

    self_supervised = False
    steps_between_checks = 5  # of requests to stop, under DDP
    network: nn.Module  # this and the guard are there from `initialize` on
    guard: FiniteGuard

    def prepare(self) -> None:
        """Set up the state of the loop."""
        self.stops = StopRequests(self.steps_between_checks)
        self._iteration = 0

    @property
    def precision(self) -> Precision:
        """Return the precision that the config asks for, on this trainer's device."""
        return Precision(self.config.precision, self.device)

    # ---- network, optimizer, augmentation

    def initialize(self):
        """Build network, optimizer and loss.

        Raises:
            ConfigError: the recipe's patch does not fit the plans.
        """
        if self._misfit is not None:
            raise self._misfit
        super().initialize()
        if not self.is_ddp:  # DDP has noted the strides of its first step
            use_channels_last_on_cpu(self.network, self.device, len(self.configuration_manager.patch_size))

    def configure_optimizers(self):
        """Make optimizer and schedule, and guard the optimizer's steps."""
        optimizer = self.make_optimizer()
        self.guard = FiniteGuard(optimizer, self.config.max_nonfinite_steps)
        return optimizer, self.make_schedule(optimizer)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Make the optimizer of what learns; a hook."""
        return make_optimizer(self.network, self.config)

    def make_schedule(self, optimizer: torch.optim.Optimizer) -> IterationSchedule | PolyLRScheduler:
        """Make the learning-rate schedule; a hook."""
        if self.config.lr_schedule == "poly":
            return PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)
        return IterationSchedule(optimizer, self.config, self.num_epochs * self.num_iterations_per_epoch)

    def distributed(self, module: nn.Module, **options) -> DistributedDataParallel:
        """Wrap a module for DDP on this rank's device; `options` are those of the wrapper."""
        device_ids = [self.local_rank] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=device_ids, **options)

    def bare_network(self) -> nn.Module:
        """Return the network without the wrappers of DDP and torch.compile."""
        network = getattr(self.network, "module", self.network)
        return getattr(network, "_orig_mod", network)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        """Return nnU-Net's choices, changed by the config."""
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        values, patch = augmentation_values(self.config), self.configuration_manager.patch_size
        rotation = augmentation.rotation_range(values, rotation)
        initial_patch_size = augmentation.loaded_patch_size(patch, rotation, values, dummy_2d, initial_patch_size)
        mirror_axes = augmentation.mirror_axes(values, len(patch), mirror_axes) if self.config.mirroring else None
        self.inference_allowed_mirroring_axes = mirror_axes
        return rotation, dummy_2d, initial_patch_size, mirror_axes

    def get_training_transforms(self, *args, **kwargs):
        """Make nnU-Net's, changed by the config; nnU-Net calls this static method on the trainer."""
        pipeline = super().get_training_transforms(*args, **kwargs)
        return ReseedPerWorker(augmentation.change_transforms(pipeline, augmentation_values(self.config)))

    def _build_loss(self):
        loss = super()._build_loss()
        parts = getattr(loss, "loss", loss)  # within the wrapper of deep supervision
        parts.weight_dice, parts.weight_ce = self.config.dice_weight, self.config.ce_weight
        return loss

    @staticmethod
    def get_validation_transforms(*args, **kwargs):
        """Make nnU-Net's, with generators that each worker seeds anew."""
        return ReseedPerWorker(nnUNetTrainer.get_validation_transforms(*args, **kwargs))

    # ---- the loop

    def on_train_start(self):
        """Prepare precision, loaders and random states, and handle signals from now on."""
        self.stops.begin()
        if not self.was_initialized:
            self.initialize()
        check_pretrained_weights(self.bare_network())
        self.grad_scaler = self.precision.begin(self.grad_scaler)
        if self.device.type == "cuda":
            self.print_to_log_file(self.memory_line())
        super().on_train_start()
        self.dataloader_train, self.dataloader_val = self.stops.watched(self.dataloader_train, self.dataloader_val)
        self.restore_random_states()

    @property
    def images_per_step(self) -> int:
        """Return the images that go through the network in one pass; a hook."""
        return self.batch_size

    def memory_line(self) -> str:
        """Say what a step will hold on the device, for the log."""
        try:
            memory = estimate_memory(
                self.bare_network(),
                self.configuration_manager.patch_size,
                self.images_per_step,
                self.label_manager.num_segmentation_heads,
                precision=self.precision.name,
                optimizer_states=1 if isinstance(self.optimizer, torch.optim.SGD) else 2,
                self_supervised=self.self_supervised,
            )
        except ConfigError as error:  # such as a network of another package
            return f"memory: no estimate, {error}"
        return f"memory, by arithmetic: {memory}"

    def on_epoch_start(self):
        """Keep what a stop within the epoch writes."""
        self.keep_checkpoint()
        super().on_epoch_start()

    def on_train_epoch_start(self):
        """Seed by epoch, so that a resumed run draws what an unbroken one would."""
        if self.config.seed is not None:
            seed_everything(self.config.seed, self.current_epoch, self.local_rank)
        self._iteration = 0
        super().on_train_epoch_start()

    def train_step(self, batch: dict) -> dict:
        """Take nnU-Net's step at the rate of this iteration, and stop if asked."""
        if isinstance(self.lr_scheduler, IterationSchedule):
            self.lr_scheduler.set(self.current_epoch * self.num_iterations_per_epoch + self._iteration)
        result = super().train_step(batch)
        self._iteration += 1
        self.guard.after_step(math.isfinite(float(result["loss"])))
        self.stop_if_asked()
        return result

    def validation_step(self, batch: dict) -> dict:
        """Take nnU-Net's step, and stop if asked."""
        result = super().validation_step(batch)
        self.stop_if_asked()
        return result

    def run_training(self):
        """Train, unless all epochs are done."""
        final = Path(self.output_folder) / "checkpoint_final.pth"
        if self.continuing and self.current_epoch >= self.num_epochs and read_header(final) is not None:
            self.print_to_log_file(f"all {self.num_epochs} epochs of this run are done: there is nothing to train")
            if self.local_rank == 0:
                final.with_name(LATEST).unlink(missing_ok=True)  # as `on_train_end`, which a kill may have cut short
            return
        try:
            super().run_training()
        finally:
            self.stops.end()

    def on_train_epoch_end(self, train_outputs: list[dict]):
        """Log the mean loss of the finite steps."""
        if self.guard.total:
            self.print_to_log_file(f"steps skipped so far because of NaN or infinite values: {self.guard.total}")
        losses = read_scalars(output["loss"] for output in train_outputs)
        finite = [loss for loss in losses if math.isfinite(loss)]
        if finite:  # the number of losses stays: nnU-Net stacks those of all ranks
            mean = sum(finite) / len(finite)
            losses = [loss if math.isfinite(loss) else mean for loss in losses]
        super().on_train_epoch_end([{"loss": np.float32(loss)} for loss in losses])

    def log_validation(self, loss: float, mean_dice: float, dice: list[float]) -> None:
        """Log what nnU-Net's logger wants once per epoch: loss, mean Dice, and Dice by class."""
        self.logger.log("mean_fg_dice", mean_dice, self.current_epoch)
        self.logger.log("dice_per_class_or_region", dice, self.current_epoch)
        self.logger.log("val_losses", loss, self.current_epoch)

    def on_train_end(self):
        """Write the final checkpoint, and end the process if a signal came meanwhile."""
        super().on_train_end()
        request = self.stops.look(self.device)
        self.stops.signals.remove()
        if request is not None and request.signal:  # it came after the last step; checkpoint_final is written
            raise request.end("checkpoint_final.pth written")
        self.precision.end()

    def stop_if_asked(self) -> None:
        """End the run after a step, on all ranks alike, if a signal came or batches failed.

        The checkpoint is that of all whole epochs: this one runs again after the restart, as in an unbroken run.

        Raises:
            SystemExit: a signal came.
            RuntimeError: batches failed.
        """
        request = self.stops.after_step(self.device)
        if request is None:
            return
        self.checkpoints.write_kept(Path(self.output_folder))
        written = "no checkpoint (disabled)" if self.disable_checkpointing else f"{LATEST} written"
        self.print_to_log_file(f"{request.reason}: {written}; continue with --c")
        if self.is_ddp:
            dist.barrier()  # no rank leaves before the file is complete
        self.stops.end_workers()
        raise request.end(written)

    # ---- data

    def do_split(self):
        """Return nnU-Net's split, of a file that is checked or written whole.

        Raises:
            DatasetError: as `check_splits`.
        """
        folder = self.preprocessed_dataset_folder
        cases = (self.dataset_class or infer_dataset_class(folder)).get_identifiers(folder)
        path = Path(self.preprocessed_dataset_folder_base) / "splits_final.json"
        check_splits(path, self.fold, cases)
        if self.fold != "all":
            write_splits(path, cases)
        return super().do_split()
