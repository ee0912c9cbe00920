"""Planning: nnU-Net's own planner with our network, features and memory estimate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from tqdm import tqdm

from nnunet_xlstm.datasets.dataset_json import NAME, DatasetFile
from nnunet_xlstm.networks.cost import count_parameters
from nnunet_xlstm.networks.geometry import default_strides
from nnunet_xlstm.networks.memory import estimate_memory, recomputes
from nnunet_xlstm.networks.presets import Preset, arch_kwargs_for, get_preset
from nnunet_xlstm.nnunet.planning.foreground_intensities import leave_out_ignored

SHARE_OF_PARAMETERS = 0.5  # of the memory, at most, goes to weights, gradients and momentum: else no patch is left


class PresetPlanner(ExperimentPlanner):
    """Base of our planners. A subclass sets `preset` (a name in `nnunet_xlstm.networks.presets`), and no more.

    Patch, batch and topology come from the preset, or from the preset it is the control of, whose memory estimate
    counts the tokens; then the network is changed. So a preset and its controls differ in the network only.
    """

    preset = "heartseg_30m"

    def __init__(self, dataset_name_or_id: str | int, *, plans_name: str | None = None, **options: Any):
        # nnUNetPlannerXLSTMUNetSmall -> nnUNetXLSTMUNetSmallPlans
        own = f"nnUNet{type(self).__name__.removeprefix('nnUNetPlanner')}Plans"
        super().__init__(dataset_name_or_id, plans_name=plans_name or own, **options)
        self.target = get_preset(self.preset)
        self.planned: Preset = get_preset(self.target.control_of) if self.target.control_of else self.target
        # nnU-Net's reference for residual encoders: elements of all feature maps that fit 8 GB
        self.UNet_reference_val_3d = 680_000_000
        self.UNet_reference_val_2d = 135_000_000

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Name the preprocessed data.

        2d and 3d_fullres share stock nnU-Net's where they are equal; data at an overwritten spacing or of another
        preprocessor have that in their name, and are shared among our planners.
        """
        if configuration_name not in ("2d", "3d_fullres"):
            return f"{self.plans_identifier}_{configuration_name}"
        parts = ["nnUNetPlans"]
        if self.overwrite_target_spacing is not None:
            parts.append("x".join(f"{s:g}" for s in self.overwrite_target_spacing))
        if self.preprocessor_name != "DefaultPreprocessor":
            parts.append(self.preprocessor_name)
        return "_".join([*parts, configuration_name])

    def static_estimate_VRAM_usage(
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> int:
        """Count elements written per image by convolutions and token layers of the planned preset; allocate nothing.

        nnU-Net's reference fits networks that keep all of them and whose weights are small beside them. For presets
        with activation checkpointing, as many as take the memory that the preset takes.
        """
        if self._pinned_patch(patch_size):
            return 1  # nothing to search for
        kwargs = arch_kwargs_for(self.planned, arch_kwargs, patch_size)
        network = _on_meta(self.planned.network_class, kwargs, arch_kwargs_req_import, input_channels, output_channels)
        if not recomputes(network):
            # torch's stub takes every attribute of a module for a tensor or a module
            return network.compute_conv_feature_map_size(patch_size)  # type: ignore[operator]
        batch = self.UNet_min_batch_size
        memory = estimate_memory(network, patch_size, batch, output_channels)
        target = self.UNet_vram_target_GB * 1e9
        fixed = min(memory.parameters, SHARE_OF_PARAMETERS * target)
        return round((memory.total - memory.parameters + fixed) / batch / self._bytes_per_element(len(patch_size)))

    def _bytes_per_element(self, dim: int) -> float:
        """Return the memory in bytes by nnU-Net's reference, per element and image."""
        value = self.UNet_reference_val_2d if dim == 2 else self.UNet_reference_val_3d
        batch = self.UNet_reference_val_corresp_bs_2d if dim == 2 else self.UNet_reference_val_corresp_bs_3d
        return self.UNet_reference_val_corresp_GB * 1e9 / (value * batch)

    def _pinned_patch(self, patch_size: Sequence[int]) -> tuple[int, ...] | None:
        """Return the patch that the preset fixes for volumes; None where nnU-Net searches for one."""
        return self.planned.patch_3d if self.planned.pinned_batch is not None and len(patch_size) == 3 else None

    def plan_experiment(self) -> dict[str, Any]:
        """Plan as nnU-Net does, with intensities of CT channels that leave out ignored voxels."""
        leave_out_ignored(self.dataset_fingerprint, self.dataset, self.dataset_json)
        return super().plan_experiment()

    def get_plans_for_configuration(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Plan a configuration as nnU-Net does, then put our network into it; a preset may fix patch and batch."""
        plan = super().get_plans_for_configuration(*args, **kwargs)
        architecture = plan["architecture"]
        architecture["network_class_name"] = self.target.network_class
        if patch := self._pinned_patch(plan["patch_size"]):
            strides = default_strides(patch)[: self.planned.max_stages]
            plan.update(patch_size=list(patch), batch_size=self.planned.pinned_batch)
            architecture["arch_kwargs"].update(strides=strides, kernel_sizes=[(3, 3, 3)] * len(strides))
        architecture["arch_kwargs"] = arch_kwargs_for(self.target, architecture["arch_kwargs"], plan["patch_size"])
        return plan

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the plans, and say what was planned."""
        super().save_plans(plans)
        manager = PlansManager(plans)
        classes = manager.get_label_manager(self.dataset_json).num_segmentation_heads
        channels = len(DatasetFile(Path(NAME), self.dataset_json).channels())
        for name in ("2d", "3d_lowres", "3d_fullres"):
            if name in plans["configurations"]:
                tqdm.write(f"{name}: {self._summary(manager.get_configuration(name), channels, classes)}")

    def _summary(self, row: ConfigurationManager, channels: int, classes: int) -> str:
        """Say what was planned, in one line."""
        kwargs = row.network_arch_init_kwargs
        network = _on_meta(
            row.network_arch_class_name, kwargs, row.network_arch_init_kwargs_req_import, channels, classes
        )
        stages = f"{kwargs['n_stages']} stages"
        if self.target.max_stages and kwargs["n_stages"] < self.target.max_stages:
            stages = f"{kwargs['n_stages']} of {self.target.max_stages} stages (the patch has room for no more)"
        text = (
            f"{self.preset}, {count_parameters(network) / 1e6:.1f} M parameters, {stages}, "
            f"patch {'x'.join(str(n) for n in row.patch_size)}, batch {row.batch_size}"
        )
        if kwargs.get("vit_grid"):
            text += f", transformer on {'x'.join(str(n) for n in kwargs['vit_grid'])} tokens"
        if not hasattr(network, "largest_block_elements"):
            return text
        memory = estimate_memory(network, row.patch_size, row.batch_size, classes)
        text += f"; {memory}"
        if memory.total > self.UNet_vram_target_GB * 1e9:
            text += f": more than -gpu_memory_target {self.UNet_vram_target_GB:g}"
        return text


def _on_meta(
    network_class: str, kwargs: dict[str, Any], kwargs_req_import: Sequence[str], channels: int, classes: int
) -> nn.Module:
    """Build a planned network that takes no memory."""
    with torch.device("meta"):
        return get_network_from_plans(network_class, kwargs, kwargs_req_import, channels, classes, False)
