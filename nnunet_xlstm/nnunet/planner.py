"""Planning: nnU-Net's own planner with our network, features and memory estimate."""

from __future__ import annotations

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_xlstm.networks.presets import Preset, arch_kwargs_for, get_preset
from nnunet_xlstm.nnunet.foreground_intensities import leave_out_ignored


def _plans_name(planner_name: str) -> str:
    """nnUNetPlannerXLSTMUNetSmall -> nnUNetXLSTMUNetSmallPlans."""
    return "nnUNet" + planner_name.removeprefix("nnUNetPlanner") + "Plans"


class XLSTMPlanner(ExperimentPlanner):
    """Base of our planners. A subclass sets `preset` (a name in `nnunet_xlstm.networks.presets`), and no more.

    Patch, batch and topology come from the preset, or from the preset it is the control of, whose memory estimate
    counts the tokens; then the network is changed. So a preset and its controls differ in the network only.
    """

    preset = "heartseg_30m"

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing: list[float] | tuple[float, ...] | None = None,
        suppress_transpose: bool = False,
    ):
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name or _plans_name(type(self).__name__),
            overwrite_target_spacing,
            suppress_transpose,
        )
        self.target = get_preset(self.preset)
        self.planned: Preset = get_preset(self.target.control_of) if self.target.control_of else self.target
        # nnU-Net's reference for residual encoders: elements of all feature maps that fit 8 GB
        self.UNet_reference_val_3d = 680_000_000
        self.UNet_reference_val_2d = 135_000_000

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Name of the preprocessed data. 2d and 3d_fullres share stock nnU-Net's where they are equal; data at an
        overwritten spacing or of another preprocessor have that in their name, and are shared among our planners."""
        if configuration_name not in ("2d", "3d_fullres"):
            return f"{self.plans_identifier}_{configuration_name}"
        parts = ["nnUNetPlans"]
        if self.overwrite_target_spacing is not None:
            parts.append("x".join(f"{s:g}" for s in self.overwrite_target_spacing))
        if self.preprocessor_name != "DefaultPreprocessor":
            parts.append(self.preprocessor_name)
        return "_".join([*parts, configuration_name])

    def static_estimate_VRAM_usage(
        self, patch_size, input_channels, output_channels, arch_class_name, arch_kwargs, arch_kwargs_req_import
    ):
        """Elements written per image by convolutions and token layers of the planned preset; allocates nothing."""
        kwargs = arch_kwargs_for(self.planned, arch_kwargs, patch_size)
        with torch.device("meta"):
            network = get_network_from_plans(
                self.planned.network_class, kwargs, arch_kwargs_req_import, input_channels, output_channels, False
            )
        return network.compute_conv_feature_map_size(patch_size)

    def plan_experiment(self) -> dict:
        leave_out_ignored(self.dataset_fingerprint, self.dataset, self.dataset_json)
        return super().plan_experiment()

    def get_plans_for_configuration(self, *args, **kwargs) -> dict:
        plan = super().get_plans_for_configuration(*args, **kwargs)
        architecture = plan["architecture"]
        architecture["network_class_name"] = self.target.network_class
        architecture["arch_kwargs"] = arch_kwargs_for(self.target, architecture["arch_kwargs"], plan["patch_size"])
        return plan
