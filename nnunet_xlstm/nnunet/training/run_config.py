"""The config of a run beside nnU-Net's plans and beside the config of the checkpoint that it goes on from."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import os
from collections.abc import Sequence

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xlstm.config import ENVIRONMENT, override, to_dict
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.networks.geometry import at_patch, check_patch_size, stride_products
from nnunet_xlstm.registry import TRAINERS

# keys of the config that are attributes of nnU-Net's trainer under the same name
STOCK_ATTRIBUTES = (
    "num_epochs",
    "num_iterations_per_epoch",
    "num_val_iterations_per_epoch",
    "initial_lr",
    "weight_decay",
    "oversample_foreground_percent",
    "save_every",
)


def planned(plans: dict, configuration: str) -> ConfigurationManager:
    """Return a configuration of nnU-Net's plans as it is after inheritance."""
    return PlansManager({k: v for k, v in plans.items() if k != "continue_training"}).get_configuration(configuration)


def with_overrides(plans: dict, configuration: str, config) -> dict:
    """Return a copy of the plans with the config's patch and batch size, checked against the network's strides.

    Raises:
        ConfigError: unknown configuration, wrong number of axes, or a patch that the strides do not divide.
    """
    if configuration not in plans["configurations"]:
        raise ConfigError(
            f"configuration '{configuration}' is not in the plans {plans['plans_name']}; "
            f"use one of {', '.join(plans['configurations'])}"
        )
    plans = copy.deepcopy(plans)
    manager = planned(plans, configuration)
    if config.patch_size is not None:
        if len(config.patch_size) != len(manager.patch_size):
            raise ConfigError(
                f"patch_size {config.patch_size}: {len(config.patch_size)} axes for configuration '{configuration}' "
                f"with {len(manager.patch_size)}; give one number per axis, in the order of the plans"
            )
        architecture = at_patch(manager.configuration["architecture"], config.patch_size)
        plans["configurations"][configuration].update(patch_size=list(config.patch_size), architecture=architecture)
    if config.batch_size is not None:
        plans["configurations"][configuration]["batch_size"] = config.batch_size
    check_patch_size(config.patch_size or manager.patch_size, stride_products(manager.pool_op_kernel_sizes))
    return plans


def plans_or_misfit(plans: dict, configuration: str, config) -> tuple[dict, ConfigError | None]:
    """Return the plans with the config's overrides; or a copy of them, and why the recipe does not fit them.

    A recipe may give way to the config of a checkpoint that is loaded later; what a user has asked for must fit.

    Raises:
        ConfigError: as `with_overrides`, where the user names a config, or the configuration is unknown.
    """
    try:
        return with_overrides(plans, configuration, config), None
    except ConfigError as error:
        if os.environ.get(ENVIRONMENT) or configuration not in plans["configurations"]:
            raise
        return copy.deepcopy(plans), error


def changed_keys(stored: dict, config) -> dict[str, tuple]:
    """Return key -> (value in the checkpoint's config, value now) of the keys that both have and that differ."""
    used = to_dict(config)
    return {key: (value, used[key]) for key, value in stored.items() if key in used and used[key] != value}


def stored_config(recipe, stored: dict) -> tuple:
    """Return the config that a checkpoint holds, and the names of its keys that this version does not know.

    Raises:
        ConfigError: a value that this version does not take.
    """
    known = {field.name for field in dataclasses.fields(recipe)}
    values = {name: value for name, value in stored.items() if name in known}
    return override(recipe, values, "the checkpoint's config"), sorted(stored.keys() - known)


def check_same_patch(trained: dict, configuration: str, patch_size: Sequence[int]) -> None:
    """Refuse to go on with another patch than a checkpoint was trained with.

    Args:
        trained: the plans in the checkpoint.
        configuration: its name in them.
        patch_size: of this run.

    Raises:
        ConfigError: it is another one.
    """
    theirs, ours = ([int(n) for n in patch] for patch in (planned(trained, configuration).patch_size, patch_size))
    if theirs != ours:
        raise ConfigError(
            f"the checkpoint was trained with patch_size {theirs}, this run has {ours}, and a model keeps its patch; "
            f"set patch_size to the former in the file that {ENVIRONMENT} names, or train anew in another "
            "nnUNet_results"
        )


def refuse_cascade(plans: dict, configuration: str) -> None:
    """Refuse to learn from images without labels in the second stage of a cascade.

    Raises:
        ConfigError: the configuration is one.
    """
    if configuration not in plans["configurations"]:
        return  # `with_overrides` says so
    previous = planned(plans, configuration).previous_stage_name
    if previous is not None:
        raise ConfigError(
            f"configuration '{configuration}' also takes the segmentation of {previous} as input, which images without "
            "labels do not have; use 3d_fullres or 3d_lowres"
        )


def load_recipe(name: str):
    """Return the recipe, an instance of a config class, of one of our trainers.

    Raises:
        ConfigError: not one of ours.
    """
    if name not in TRAINERS:
        raise ConfigError(f"{name} is not a trainer of this package; use one of {', '.join(TRAINERS)}")
    return getattr(importlib.import_module(TRAINERS[name]), name).recipe


def nnunet_finds(name: str) -> bool:
    """Return whether `nnUNetv2_train -tr` knows a trainer of this name."""
    try:
        recursive_find_trainer_class_by_name(name)
    except RuntimeError:
        return False
    return True
