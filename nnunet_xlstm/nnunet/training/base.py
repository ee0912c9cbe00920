"""The base of our trainers: nnU-Net's own loop with a config, atomic checkpoints, guards and exact resume.

It overrides hooks and never `build_network_architecture`: the plans alone decide the network, so any plans (also
`nnUNetPlans`) train under our recipes.
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import distributed as dist
from torch import nn

from nnunet_xlstm import __version__
from nnunet_xlstm.config import ENVIRONMENT, SegmentationConfig, resolve, to_dict
from nnunet_xlstm.config.augmentation import augmentation_values
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.write import remove_leftovers, replacing, write_bytes
from nnunet_xlstm.networks.memory import estimate_memory
from nnunet_xlstm.nnunet.checkpoints.resume import read_header, readable_checkpoint
from nnunet_xlstm.nnunet.loading import augmentation
from nnunet_xlstm.nnunet.loading.augmentation import ReseedPerWorker
from nnunet_xlstm.nnunet.loading.workers import SteadyBatches, kill_at_exit
from nnunet_xlstm.nnunet.training.finite_guard import FiniteGuard
from nnunet_xlstm.nnunet.training.optim import IterationSchedule, make_optimizer
from nnunet_xlstm.nnunet.training.pretrained_weights import check_pretrained_weights
from nnunet_xlstm.nnunet.training.random_state import random_states, restore_random_states, seed_everything
from nnunet_xlstm.nnunet.training.run_config import STOCK_ATTRIBUTES, check_same_patch, stored_config, with_overrides
from nnunet_xlstm.nnunet.training.splits import check_splits, write_splits
from nnunet_xlstm.nnunet.training.stop_signals import StopSignals

EXTRAS = "nnunet_xlstm"
LATEST = "checkpoint_latest.pth"


def numbers(scalars: Iterable) -> list[float]:
    """Scalars (numbers, arrays or tensors of one device) as numbers, waiting for the device once."""
    return torch.stack([torch.as_tensor(scalar) for scalar in scalars]).cpu().double().tolist()


class BaseTrainer(nnUNetTrainer):
    """Base of our segmentation trainers. A subclass sets `recipe`, an instance of a config class, and no more.

    Everything that the recipe holds can be overridden by the JSON file named in `nnUNet_xlstm_config`.
    """

    recipe = SegmentationConfig()
    self_supervised = False
    steps_between_checks = 5  # under DDP: asking all ranks whether one of them must stop waits for the device

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
        self.config = resolve(self.recipe)
        self.continuing = bool(plans.get("continue_training"))
        if self.config.seed is not None:
            seed_everything(self.config.seed)
        self._plans_of_dataset = plans
        self._misfit: ConfigError | None = None
        try:
            plans = with_overrides(plans, configuration, self.config)
        except ConfigError as error:
            if os.environ.get(ENVIRONMENT) or configuration not in plans["configurations"]:
                raise
            self._misfit = error  # the recipe's patch does not fit these plans; that of a checkpoint to come may
            plans = copy.deepcopy(plans)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.guard: FiniteGuard | None = None
        self.stop_signals = StopSignals()
        self._iteration = 0
        self._checks = 0
        self._resume_states: list[dict] | None = None
        self._epochs_on_disk: int | None = None  # how many epochs checkpoint_latest.pth of this run holds
        self._kept = io.BytesIO()  # of rank 0: the checkpoint of all whole epochs, where the disk holds an older one
        self._apply_config()

    def _apply_config(self) -> None:
        for name in STOCK_ATTRIBUTES:
            setattr(self, name, getattr(self.config, name))
        self.print_to_log_file(f"{type(self).__name__} uses: {json.dumps(to_dict(self.config))}")

    # ---- network, optimizer, precision, augmentation

    def initialize(self):
        if self._misfit is not None:
            raise self._misfit
        super().initialize()
        if self.device.type == "cpu" and not self.is_ddp:
            # faster convolutions on a CPU; values change by rounding only. DDP has noted the strides of its first step
            dim = len(self.configuration_manager.patch_size)
            self.network.to(memory_format=torch.channels_last_3d if dim == 3 else torch.channels_last)

    def configure_optimizers(self):
        optimizer = make_optimizer(self.network, self.config)
        self.guard = FiniteGuard(optimizer, self.config.max_nonfinite_steps)
        return optimizer, self._make_schedule(optimizer)

    def _make_schedule(self, optimizer: torch.optim.Optimizer):
        if self.config.lr_schedule == "poly":
            return PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)
        return IterationSchedule(optimizer, self.config, self.num_epochs * self.num_iterations_per_epoch)

    def bare_network(self) -> nn.Module:
        """The network without the wrappers of DDP and torch.compile."""
        network = getattr(self.network, "module", self.network)
        return getattr(network, "_orig_mod", network)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
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
        """nnU-Net's, changed by the config (nnU-Net calls this static method on the trainer)."""
        pipeline = super().get_training_transforms(*args, **kwargs)
        return ReseedPerWorker(augmentation.change_transforms(pipeline, augmentation_values(self.config)))

    def _build_loss(self):
        loss = super()._build_loss()
        parts = getattr(loss, "loss", loss)  # within the wrapper of deep supervision
        parts.weight_dice, parts.weight_ce = self.config.dice_weight, self.config.ce_weight
        return loss

    @staticmethod
    def get_validation_transforms(*args, **kwargs):
        return ReseedPerWorker(nnUNetTrainer.get_validation_transforms(*args, **kwargs))

    def _training_dtype(self) -> torch.dtype:
        """The type of autocast on CUDA; nnU-Net runs without autocast elsewhere."""
        if self.config.precision == "auto":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[self.config.precision]

    # ---- the loop

    def on_train_start(self):
        check_pretrained_weights(self.bare_network())
        if self.device.type == "cuda":
            torch.set_autocast_dtype("cuda", self._training_dtype())
            if self._training_dtype() != torch.float16:
                self.grad_scaler = None  # only fp16 needs loss scaling
            self.print_to_log_file(self.memory_line())
        self.stop_signals.install(interrupts=self.is_ddp)
        kill_at_exit()
        super().on_train_start()
        self.dataloader_train = SteadyBatches(self.dataloader_train)
        self.dataloader_val = SteadyBatches(self.dataloader_val)
        restore_random_states(self._resume_states or [], self.local_rank)
        self._resume_states = None

    def on_epoch_start(self):
        self.keep_checkpoint()
        super().on_epoch_start()

    def on_train_epoch_start(self):
        if self.config.seed is not None:
            # by epoch, so that a resumed run draws what an unbroken one would
            seed_everything(self.config.seed, self.current_epoch, self.local_rank)
        self._iteration = 0
        super().on_train_epoch_start()

    def memory_line(self) -> str:
        """What a step will hold on the device, for the log."""
        precision = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[self._training_dtype()]
        try:
            memory = estimate_memory(
                self.bare_network(),
                self.configuration_manager.patch_size,
                self.batch_size,
                self.label_manager.num_segmentation_heads,
                precision=precision,
                optimizer_states=1 if isinstance(self.optimizer, torch.optim.SGD) else 2,
                self_supervised=self.self_supervised,
            )
        except ConfigError as error:  # such as a network of another package
            return f"memory: no estimate, {error}"
        return f"memory, by arithmetic: {memory}"

    def train_step(self, batch: dict) -> dict:
        if isinstance(self.lr_scheduler, IterationSchedule):
            self.lr_scheduler.set(self.current_epoch * self.num_iterations_per_epoch + self._iteration)
        result = super().train_step(batch)
        self._iteration += 1
        self.guard.after_step(math.isfinite(float(result["loss"])))
        self._maybe_stop()
        return result

    def validation_step(self, batch: dict) -> dict:
        result = super().validation_step(batch)
        self._maybe_stop()
        return result

    def run_training(self):
        final = Path(self.output_folder) / "checkpoint_final.pth"
        if self.continuing and self.current_epoch >= self.num_epochs and read_header(final) is not None:
            self.print_to_log_file(f"all {self.num_epochs} epochs of this run are done: there is nothing to train")
            if self.local_rank == 0:
                final.with_name(LATEST).unlink(missing_ok=True)  # as `on_train_end`, which a kill may have cut short
            return
        try:
            super().run_training()
        finally:
            self._end_workers()
            self.stop_signals.remove()

    def on_train_epoch_end(self, train_outputs: list[dict]):
        if self.guard.total:
            self.print_to_log_file(f"steps skipped so far because of NaN or infinite values: {self.guard.total}")
        losses = numbers(output["loss"] for output in train_outputs)
        finite = [loss for loss in losses if math.isfinite(loss)]
        if finite:  # the number of losses stays: nnU-Net stacks those of all ranks
            mean = sum(finite) / len(finite)
            losses = [loss if math.isfinite(loss) else mean for loss in losses]
        super().on_train_epoch_end([{"loss": np.float32(loss)} for loss in losses])

    def on_train_end(self):
        super().on_train_end()
        received, _ = self._stop_requests()
        self.stop_signals.remove()
        if received:  # it came after the last step; checkpoint_final is written
            raise SystemExit(128 + received)
        if self.device.type == "cuda":
            torch.set_autocast_dtype("cuda", torch.float16)  # torch's default, which stock prediction runs in

    def _maybe_stop(self) -> None:
        """After a step: end the run with a checkpoint, on all ranks alike, if a signal came or batches failed.

        The checkpoint is that of all whole epochs: this one runs again after the restart, as in an unbroken run.
        """
        self._checks += 1
        if self.is_ddp and self._checks % self.steps_between_checks:
            return
        received, failed = self._stop_requests()
        if not received and not failed:
            return
        self._write_kept()
        written = "no checkpoint (disabled)" if self.disable_checkpointing else f"{LATEST} written"
        reason = f"signal {received}" if received else "no more batches"
        self.print_to_log_file(f"{reason}: {written}; continue with --c")
        if self.is_ddp:
            dist.barrier()  # no rank leaves before the file is complete
        failure = self._loading_failure()
        self._end_workers()
        if received:
            raise SystemExit(128 + received)
        raise RuntimeError(
            f"the augmentation of {'this' if failure else 'another'} rank failed; see the messages above for the cause "
            f"(workers that vanish without one were often killed for memory: lower nnUNet_n_proc_DA); {written}, "
            "continue with --c"
        ) from failure

    def _stop_requests(self) -> tuple[int, bool]:
        """The signal that came, or 0, and whether batches failed; under DDP on any rank."""
        received, failed = self.stop_signals.received or 0, self._loading_failure() is not None
        if self.is_ddp:
            # all ranks must agree on the step, or the others wait for ever
            flags = torch.tensor([received, int(failed)], device=self.device)
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
            received, failed = flags.tolist()
        return received, bool(failed)

    def _loading_failure(self) -> Exception | None:
        failures = [getattr(loader, "failure", None) for loader in (self.dataloader_train, self.dataloader_val)]
        return next((failure for failure in failures if failure is not None), None)

    def _end_workers(self) -> None:
        for loader in (self.dataloader_train, self.dataloader_val):
            if isinstance(loader, SteadyBatches):
                loader.finish()

    # ---- data

    def do_split(self):
        folder = self.preprocessed_dataset_folder
        cases = (self.dataset_class or infer_dataset_class(folder)).get_identifiers(folder)
        path = Path(self.preprocessed_dataset_folder_base) / "splits_final.json"
        check_splits(path, self.fold, cases)
        if self.fold != "all":
            write_splits(path, cases)
        return super().do_split()

    # ---- checkpoints

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint, whole or not at all; nnU-Net calls this on all ranks, and rank 0 writes."""
        if Path(filename).name == LATEST:
            self._save_if_best()
        if self.local_rank != 0 or self.disable_checkpointing:
            self.write_checkpoint(filename)
        else:
            remove_leftovers(Path(filename).parent)
            with replacing(Path(filename)) as temporary:
                self.write_checkpoint(str(temporary))
        if Path(filename).name == LATEST:
            self._epochs_on_disk = self.current_epoch + 1

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
        states = None if self.disable_checkpointing else random_states()
        # nnU-Net stores init_args as they are and reads only the names it knows
        arguments = self.my_init_kwargs
        self.my_init_kwargs = arguments | {
            EXTRAS: {"version": __version__, "config": to_dict(self.config), "random_states": states}
        }
        try:
            super().save_checkpoint(file)
        finally:
            self.my_init_kwargs = arguments

    def keep_checkpoint(self) -> None:
        """Keep what a stop within the coming epoch writes: its steps cannot be taken back, and it will run again.

        In memory (weights and the optimizer's state once more, on the host), unless checkpoint_latest.pth is the same.
        """
        self._kept = io.BytesIO()
        if not self.disable_checkpointing and self._epochs_on_disk != self.current_epoch:
            self.current_epoch -= 1  # a checkpoint is of the epoch that has just ended
            self.write_checkpoint(self._kept)
            self.current_epoch += 1

    def _write_kept(self) -> None:
        if self._kept.getbuffer().nbytes:
            latest = Path(self.output_folder) / LATEST
            remove_leftovers(latest.parent)
            write_bytes(latest, self._kept.getbuffer())

    def load_checkpoint(self, filename_or_checkpoint) -> None:
        if isinstance(filename_or_checkpoint, (str, Path)):
            filename_or_checkpoint = str(self._choose_checkpoint(Path(filename_or_checkpoint)))
            arguments = read_header(Path(filename_or_checkpoint))["init_args"]
            self._agree_with(arguments.get(EXTRAS, {}).get("config"), arguments["plans"])
        super().load_checkpoint(filename_or_checkpoint)
        extras = self.my_init_kwargs.pop(EXTRAS, None)
        if extras is not None:
            self._resume_states = extras.get("random_states")

    def _choose_checkpoint(self, requested: Path) -> Path:
        # only a continued training may go on from another file: validation must score what was asked for
        chosen = readable_checkpoint(requested, fall_back=self.continuing)
        if chosen != requested:
            self.print_to_log_file(f"WARNING: {requested.name} cannot be read; continuing from {chosen.name}")
        return chosen

    def _agree_with(self, stored: dict | None, plans: dict) -> None:
        """Before a checkpoint is loaded: take over its config where the user names none, and refuse another patch.

        Args:
            stored: its config; None in a checkpoint of nnU-Net's own. plans: those it was trained with.
        """
        if stored is not None and not os.environ.get(ENVIRONMENT) and not self.was_initialized:
            self._take_over(stored)
        check_same_patch(plans, self.configuration_name, self.configuration_manager.patch_size)
        used = to_dict(self.config)
        changed = {k: (v, used[k]) for k, v in (stored or {}).items() if k in used and used[k] != v}
        if changed:
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
