"""The base of the semi-supervised trainers: an averaged teacher, pseudo-labels, copy-paste and consistency."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from nnunet_xlstm.config.semi import SemiConfig
from nnunet_xlstm.datasets.case_index import NAME, read_pool_cases
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.loading.unlabelled import UnlabelledCases, unlabelled_batches
from nnunet_xlstm.nnunet.training.base import BaseTrainer
from nnunet_xlstm.nnunet.training.run_config import refuse_cascade
from nnunet_xlstm.nnunet.training.unlabelled import Preprocessed, find_unlabelled
from nnunet_xlstm.pretraining.student_teacher import update_teacher
from nnunet_xlstm.semi.consistency import consistency_loss, strong_view
from nnunet_xlstm.semi.copy_paste import downsample_targets, random_box, swap_box
from nnunet_xlstm.semi.loss import Outputs, SemiLoss, Term, as_list, full_resolution
from nnunet_xlstm.semi.pseudo_labels import (
    PseudoLabelMonitor,
    TargetCoding,
    keep_largest_components,
    pseudo_labels,
)
from nnunet_xlstm.semi.schedules import SemiSchedule

TEACHER = "teacher"  # key of the other branch's weights among what we add to a checkpoint


class SemiTrainer(BaseTrainer):
    """Trains on labelled and unlabelled images together: L(labelled) + w(t) (L(mixed) + consistency).

    The labelled and the other images go through the network in one pass of nnU-Net's own step. Unlike BCP, labelled
    images are also seen whole, and labelled and pseudo-labelled voxels of a mixed image count alike.

    Attributes:
        teacher: moving average of the network, `network` being the student.
        coding: of the data set's targets.
        monitor: what this epoch's pseudo-labels showed.
    """

    recipe = SemiConfig()
    config: SemiConfig
    teacher: nn.Module
    dataloader_unlabelled: Iterator[dict]

    def check_plans(self, plans: dict, configuration: str) -> None:
        refuse_cascade(plans, configuration)

    def prepare(self) -> None:
        super().prepare()
        self.monitor = PseudoLabelMonitor()
        self._resumed = False
        self.coding = TargetCoding(self.label_manager.has_regions, self.label_manager.ignore_label)
        self._refuse_partial_labels()

    def _refuse_partial_labels(self) -> None:
        path = Path(self.preprocessed_dataset_folder_base) / NAME
        if path.is_file() and any(record.valid is not None for record in read_pool_cases(path).cases.values()):
            raise ConfigError(
                f"{self.plans_manager.dataset_name} is a pool with labels, and {type(self).__name__} takes a target "
                "that nobody annotated for absent; train on one data set, or use nnUNetTrainerPool"
            )

    def initialize(self) -> None:
        super().initialize()
        if self.config.copy_paste != "none" and self.batch_size < 2:
            raise ConfigError(
                f"batch_size {self.batch_size} per GPU: copy-paste among the labelled images needs two; raise "
                "batch_size, or use fewer GPUs"
            )
        self.teacher = copy.deepcopy(self.bare_network()).requires_grad_(False).eval()

    def _build_loss(self) -> SemiLoss:
        loss = super()._build_loss()
        self.ignoring_loss = super()._build_loss()  # the same, for targets with ignored voxels
        parts = getattr(self.ignoring_loss, "loss", self.ignoring_loss)
        if self.coding.regions:
            parts.use_ignore_label, parts.ce.reduction = True, "none"
        else:
            parts.ignore_label = parts.ce.ignore_index = self.coding.ignored
        return SemiLoss(loss)

    @cached_property
    def schedule(self) -> SemiSchedule:
        """Return weights and momenta of the run."""
        return SemiSchedule(self.config, self.num_epochs * self.num_iterations_per_epoch)

    # ---- data

    def get_dataloaders(self) -> tuple:
        loaders = super().get_dataloaders()
        if self.config.needs_unlabelled:
            training, validation = self.do_split()
            fold = Preprocessed(
                Path(self.preprocessed_dataset_folder_base),
                self.plans_manager.plans,
                self.configuration_name,
                list(map(str, training)),
                list(map(str, validation)),
            )
            cases = find_unlabelled(self.config.unlabelled, fold)
            self.print_to_log_file(f"unlabelled cases: {len(cases.identifiers)} of {cases.source_folder}")
            augmenter = unlabelled_batches(
                loaders[0],
                UnlabelledCases(cases),
                self.config.unlabelled_batch_size or self.batch_size,
                any(self.configuration_manager.use_mask_for_norm),
                self.device.type == "cuda",
            )
            (self.dataloader_unlabelled,) = self.stops.watched(augmenter)
        return loaders

    # ---- the step

    @property
    def images_per_step(self) -> int:
        """Return the most images of a pass: labelled, two per pair, and unlabelled ones for consistency."""
        labelled, config = self.batch_size, self.config
        unlabelled = (config.unlabelled_batch_size or labelled) if config.needs_unlabelled else 0
        pairs = {"none": 0, "labelled_only": labelled, "bidirectional": max(labelled, unlabelled)}[config.copy_paste]
        return labelled + 2 * pairs + (unlabelled if config.consistency != "none" else 0)

    def on_train_start(self) -> None:
        super().on_train_start()
        if not self._resumed:  # -pretrained_weights changed the student alone
            update_teacher(self.teacher, self.bare_network(), momentum=0.0)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.monitor = PseudoLabelMonitor()

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end(train_outputs)
        if line := self.monitor.line():
            self.print_to_log_file(line)

    def train_step(self, batch: dict) -> dict:
        step = self.current_epoch * self.num_iterations_per_epoch + self._iteration
        data = batch["data"].to(self.device, non_blocking=True)
        targets = [one.to(self.device, non_blocking=True) for one in as_list(batch["target"])]
        groups = self._groups(step, data, targets)
        self.loss.set_terms([term for _, term in groups])
        images = torch.cat([data, *(images for images, _ in groups)])
        result = super().train_step(batch | {"data": images, "target": self._as_outputs(targets)})
        if self.guard.in_a_row == 0:  # the optimizer has made the step
            update_teacher(self.teacher, self.bare_network(), self.schedule.momentum(step))
        return result

    def _as_outputs(self, targets: list[Tensor]) -> Outputs:
        """Return targets in the form of the network's outputs: a list in deep supervision."""
        return targets if self.enable_deep_supervision else targets[0]

    @torch.no_grad()
    def _groups(self, step: int, data: Tensor, targets: list[Tensor]) -> list[tuple[Tensor, Term]]:
        """Return what goes through the network beside the labelled images: images, and what the loss makes of them."""
        config, weight = self.config, self.schedule.weight(step)
        labelled = self.coding.with_ignore(targets[0])
        sizes = [one.shape[2:] for one in targets]
        if not self.schedule.uses_unlabelled(step):
            if config.copy_paste == "none":
                return []
            return [self._mixed(data, labelled, data.roll(1, 0), labelled.roll(1, 0), sizes, config.unlabelled_weight)]
        images = next(self.dataloader_unlabelled)["data"].to(self.device, non_blocking=True)
        with self.precision.autocast():
            logits = full_resolution(self.teacher(images)).float()
        labels, sure = pseudo_labels(logits, self.coding.regions, config.confidence)
        self.monitor.add(labels, sure, self.coding.foreground(labelled))
        student_view = strong_view(images, config.strong_intensity)
        groups = []
        if config.copy_paste == "bidirectional":
            if config.largest_component:
                labels = keep_largest_components(labels, self.coding.regions)
            pseudo = self.coding.encode(labels, sure).to(labelled.dtype)
            partner = torch.arange(len(images), device=self.device) % len(data)
            groups.append(self._mixed(data[partner], labelled[partner], student_view, pseudo, sizes, weight))
        if config.consistency != "none":
            criterion = partial(self._consistency, teacher=logits)
            groups.append((student_view, Term(len(images), weight, criterion)))
        return groups

    def _mixed(
        self,
        first: Tensor,
        first_target: Tensor,
        second: Tensor,
        second_target: Tensor,
        sizes: Sequence[Sequence[int]],
        weight: float,
    ) -> tuple[Tensor, Term]:
        """Return images with a box exchanged, and the term of their targets, which are brought to `sizes`."""
        box = random_box(first.shape[2:], self.config.box_share)
        images = swap_box(first, second, box)
        targets = downsample_targets(swap_box(first_target, second_target, box), sizes)
        return images, Term(len(images), weight, partial(self._ignoring, targets=self._as_outputs(targets)))

    def _ignoring(self, outputs: Outputs, targets: Outputs) -> Tensor:
        return self.ignoring_loss(outputs, targets)  # deep supervision takes no keywords

    def _consistency(self, outputs: Outputs, teacher: Tensor) -> Tensor:
        return consistency_loss(full_resolution(outputs), teacher, self.coding.regions, self.config.consistency)

    # ---- the exported branch

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Hold the weights that are exported in the network: with export_branch = teacher both branches change places.

        Only data is exchanged, so optimizer, DDP and compiled code keep their parameters.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        if self.config.export_branch == "student":
            return
        for named in (nn.Module.named_parameters, nn.Module.named_buffers):  # each tensor once, shared ones too
            of_teacher = dict(named(self.teacher))
            for name, tensor in named(self.bare_network()):
                tensor.data, of_teacher[name].data = of_teacher[name].data, tensor.data

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._exchange()

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        self._exchange()
        super().on_validation_epoch_end(val_outputs)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        with self.exporting():
            super().perform_actual_validation(save_probabilities)

    def write_checkpoint(self, file: str | BinaryIO) -> None:
        """Write the exported branch as the network of nnU-Net's checkpoint, the other one beside it."""
        with self.exporting():
            super().write_checkpoint(file)

    def extras(self) -> dict:
        return super().extras() | {TEACHER: self.teacher.state_dict()}

    def load_extras(self, extras: dict) -> None:
        super().load_extras(extras)
        if TEACHER in extras:
            self.teacher.load_state_dict(extras[TEACHER])
            self._exchange()
            self._resumed = True
