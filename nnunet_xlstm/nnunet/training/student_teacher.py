"""A trainer of student and teacher in place of the plans' network: how both are built, saved and resumed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_xlstm.config import to_dict
from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.datasets.case_index import NAME, PoolCases, read_pool_cases
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.device import use_channels_last_on_cpu
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.training.base import BaseTrainer
from nnunet_xlstm.nnunet.training.collapse_monitor import CollapseMonitor
from nnunet_xlstm.nnunet.training.optim import PretrainingSchedule, make_optimizer
from nnunet_xlstm.nnunet.training.random_state import random_states
from nnunet_xlstm.nnunet.training.run_config import refuse_cascade
from nnunet_xlstm.pretraining.student_teacher import StudentTeacher


class StudentTeacherTrainer(BaseTrainer):
    """Holds student and teacher (`method`) around the encoder of the plans' network, and what their checkpoint records.

    Attributes:
        method: student, teacher and objectives; this and the next two are there from `initialize` on.
        parallel: the method, under DDP where there is more than one GPU.
        monitor: what the epochs showed.
        lineage: of the stages before.
    """

    method: StudentTeacher
    parallel: nn.Module
    monitor: CollapseMonitor

    # keys of its own, in place of those of a segmentation
    recipe = PretrainingConfig()  # type: ignore[assignment]
    config: PretrainingConfig  # type: ignore[assignment]
    self_supervised = True
    steps_between_checks = 1  # a step of many batches is long, and waits for the device anyway

    def check_plans(self, plans: dict, configuration: str) -> None:
        """Refuse the second stage of a cascade."""
        refuse_cascade(plans, configuration)

    def prepare(self) -> None:
        """Set up what is built later."""
        super().prepare()
        self.lineage: list[dict] = []
        self._missing_start = ""
        self._loading = self._resumed = False
        # no measure without labels says which epoch is best: the last one counts
        self._best_ema = math.inf

    def initialize(self):
        """Build the method, and wrap it for DDP."""
        super().initialize()
        if super()._do_i_compile():
            self.print_to_log_file("pre-training runs without torch.compile; nnUNet_compile changes nothing here")
        use_channels_last_on_cpu(self.method, self.device, len(self.configuration_manager.patch_size))
        if self.is_ddp:
            self.network = self.network.module  # its forward pass is never used
            self.parallel = self.distributed(self.method, broadcast_buffers=False)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Build student and teacher around the encoder, and make the student's optimizer.

        Raises:
            ConfigError: a network without encoder, or an init_checkpoint of another network.
        """
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
        return make_optimizer(self.method, self.config)

    def make_schedule(self, optimizer: torch.optim.Optimizer) -> PretrainingSchedule:
        """Make the schedule by optimizer step."""
        # the plans' batch is that of all GPUs together: nnU-Net splits it
        images = self.configuration_manager.batch_size * self.config.gradient_accumulation
        return PretrainingSchedule(optimizer, self.config, self.total_steps, images)

    def _do_i_compile(self):
        # student and teacher see views of several sizes, with and without gradients: a graph each, and no gain measured
        return False

    def _build_loss(self):
        return None  # the method has its own

    def set_deep_supervision_enabled(self, enabled: bool):
        """Do nothing: the decoder is not run."""

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

    def _start_from(self, path: Path) -> None:
        """Let student and teacher begin as the teacher of an earlier stage."""
        if (self.continuing or self._loading) and not path.is_file():
            self._missing_start = str(path)  # the run's own checkpoint is about to be loaded
            return
        content = checkpoints.read(path)
        own = content[checkpoints.KEY]
        try:
            self.method.load_teacher(own["method"], keep_heads=self.config.keep_heads)
        except (RuntimeError, KeyError) as error:
            raise ConfigError(
                f"init_checkpoint {path}: its encoder ({own['architecture']['network_class_name']}, {own['dataset']}) "
                f"does not fit this network: {str(error).splitlines()[0]}; plan both stages with one planner, and use "
                "the plans of the first (nnUNetv2_move_plans_between_datasets)"
            ) from error
        self.lineage = [*own["lineage"], checkpoints.lineage_entry(path, content)]
        self.print_to_log_file(f"starting from the teacher of {path} (stage {self.lineage[-1]['stage']})")

    @cached_property
    def pool_cases(self) -> PoolCases | None:
        """Read what the side-car knows of the cases; None without one: every case then counts as a subject."""
        path = Path(self.preprocessed_dataset_folder_base) / NAME
        return read_pool_cases(path) if path.is_file() else None

    @property
    def total_steps(self) -> int:
        """Count the optimizer steps of the whole run."""
        return self.num_epochs * self.num_iterations_per_epoch

    # ---- checkpoints

    def write_checkpoint(self, file: str | BinaryIO) -> None:
        """Write the method's checkpoint into a file, on rank 0; all ranks must call this."""
        if self.disable_checkpointing:
            return
        generators = random_states()
        if self.local_rank == 0:
            torch.save(checkpoints.content(self.state(generators)), file)

    def state(self, generators: Sequence[dict]) -> checkpoints.PretrainingState:
        """Gather what a checkpoint is made from.

        Args:
            generators: random states of all ranks.
        """
        plans, row, epochs = self.plans_manager, self.configuration_manager.configuration, self.current_epoch + 1
        stock = {
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": epochs,
            "init_args": self.my_init_kwargs,
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }
        return checkpoints.PretrainingState(
            stock=stock,
            config=self.config,
            network=self.bare_network(),
            student_encoder=self.method.student.encoder,
            exported_encoder=getattr(self.method, self.config.export_branch).encoder,
            method=self.method.state_dict(),
            plans=plans.plans,
            foreground_intensities=plans.foreground_intensity_properties_per_channel,  # older plans name them otherwise
            configuration_name=self.configuration_name,
            configuration=row,
            channel_names=self.dataset_json.get("channel_names") or self.dataset_json["modality"],
            pool=self.pool_cases,
            step=epochs * self.num_iterations_per_epoch,
            lineage=self.lineage,
            metrics=self.monitor.history,
            random_states=generators,
        )

    def load_checkpoint(self, filename_or_checkpoint) -> None:
        """Continue a run exactly: student, teacher, heads, center, optimizer, random states.

        Raises:
            CheckpointError: not a checkpoint of pre-training.
            ConfigError: its config does not fit this run's.
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
        self._resume_states = own.get("random_states")
        self._resumed = True
