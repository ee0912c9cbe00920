"""Keys of our trainers: each behaviour declares its own once, and one JSON file overrides them.

The file is named by the environment variable `nnUNet_xlstm_config`. A trainer's recipe is an instance of its config
class (data, not code). `docs/reference/configuration.md` is generated from this module.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nnunet_xlstm.config.augmentation import AugmentationKeys
from nnunet_xlstm.config.keys import constraint_of, key
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.validate import Record, check, optional

ENVIRONMENT = "nnUNet_xlstm_config"
C = TypeVar("C", bound="ScheduleKeys")  # a config: every trainer has a schedule


@dataclass(frozen=True)
class ScheduleKeys:
    """How long a run is and what it draws from."""

    num_epochs: int = key(1000, "epochs of the run", at_least=1)
    num_iterations_per_epoch: int = key(250, "training steps per epoch", at_least=1)
    num_val_iterations_per_epoch: int = key(50, "validation steps per epoch", at_least=1)
    batch_size: int | None = key(None, "overrides the plans; null keeps them", at_least=1)
    patch_size: list[int] | None = key(None, "overrides the plans (voxels, axes as in the plans); null keeps them")
    oversample_foreground_percent: float = key(
        0.33, "share of patches centred on a foreground class", at_least=0, at_most=1
    )
    mirroring: bool = key(True, "mirror in training and in prediction (8 passes per 3D patch)")
    seed: int | None = key(
        None, "seeds weights, patches and augmentation; exact repetition needs nnUNet_n_proc_DA=0", at_least=0
    )


@dataclass(frozen=True)
class OptimizerKeys:
    """The optimizer and its learning rate."""

    optimizer: str = key("sgd", "sgd (Nesterov, momentum 0.99), adam or adamw", ("sgd", "adam", "adamw"))
    initial_lr: float = key(1e-2, "peak learning rate", at_least=0)
    weight_decay: float = key(3e-5, "weight decay; with adam and adamw on weight matrices only", at_least=0)
    lr_schedule: str = key(
        "poly",
        "poly: nnU-Net's, a step per epoch; warmup_poly, warmup_cosine: linear warm-up, then poly or cosine, a step "
        "per iteration; constant",
        ("poly", "warmup_poly", "warmup_cosine", "constant"),
    )
    warmup_fraction: float = key(0.05, "share of all iterations that warm up (warmup_* only)", at_least=0, at_most=1)


@dataclass(frozen=True)
class SafetyKeys:
    """Precision, checkpoints and what to do about NaN."""

    precision: str = key(
        "auto",
        "on CUDA: auto (bf16 where the GPU has it, else fp16), bf16, fp16 or fp32",
        ("auto", "bf16", "fp16", "fp32"),
    )
    save_every: int = key(10, "epochs between checkpoints", at_least=1)
    max_nonfinite_steps: int = key(
        50, "steps in a row with a NaN or infinite loss or gradient before the run stops", at_least=1
    )


@dataclass(frozen=True)
class LossKeys:
    """The weights of the loss's two parts."""

    dice_weight: float = key(1.0, "of Dice", at_least=0)
    ce_weight: float = key(1.0, "of cross-entropy (binary where targets are regions)", at_least=0)

    def __post_init__(self):
        if self.dice_weight == self.ce_weight == 0:
            raise ConfigError("dice_weight and ce_weight are both 0, so there is no loss; give one of them more than 0")


@dataclass(frozen=True)
class SegmentationConfig(AugmentationKeys, LossKeys, ScheduleKeys, OptimizerKeys, SafetyKeys):
    """Keys of the supervised segmentation trainers."""


@dataclass(frozen=True)
class PoolKeys:
    """What is drawn from a pool, and the loss over the targets that are annotated in a case."""

    case_sampling: str = key(
        "pool",
        "how often a case is drawn: as pool_cases.json says (pool), or sqrt, modality or uniform in its place",
        ("pool", "sqrt", "modality", "uniform"),
    )
    loss_reduction: str = key("sum", "over annotated (case, target) pairs: sum, or mean", ("sum", "mean"))
    loss_smooth: float = key(0.0, "added to numerator and denominator of Dice", at_least=0)
    out_of_scope_targets: str = key(
        "ignored",
        "targets that a scan's modality or field of view cannot contain: ignored like all that nobody annotated, or "
        "known to be absent",
        ("ignored", "absent"),
    )


@dataclass(frozen=True)
class PoolConfig(SegmentationConfig, PoolKeys):
    """Keys of the trainers for pools with labels."""


def key_groups(config_class: type) -> list[type]:
    """Return the dataclasses that declare the keys of `config_class`, in the order of declaration."""
    return [c for c in config_class.__mro__ if dataclasses.is_dataclass(c) and c.__dict__.get("__annotations__")]


def schema(config_class: type) -> Record:
    """Return the keys of a config class as constraints, in the order of declaration; none must be there."""
    annotations = typing.get_type_hints(config_class)
    fields = dataclasses.fields(config_class)
    return Record({f.name: optional(constraint_of(annotations[f.name], f.metadata)) for f in fields})


def override(recipe: C, values: Mapping[str, Any], source: str) -> C:
    """Return a copy of the config `recipe` with `values`; `source` names their origin in errors.

    Raises:
        ConfigError: a key the config does not declare (the message lists the valid ones), a wrong type or value.
    """
    check(values, schema(type(recipe)), source, ConfigError)
    return dataclasses.replace(recipe, **values)


def load_overrides() -> tuple[dict[str, Any], str]:
    """Read the file named by `nnUNet_xlstm_config`: its content and its path; empty if the variable is not set.

    Raises:
        ValueError: the file is missing, is not JSON, or does not hold an object.
    """
    name = os.environ.get(ENVIRONMENT, "")
    if not name:
        return {}, ""
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"{ENVIRONMENT}={name}: no such file; name a JSON file, or unset the variable")
    return read_json(path, dict), str(path)


def resolve(recipe: C) -> C:
    """Return the recipe with the user's overrides: what the running trainer uses."""
    values, source = load_overrides()
    return override(recipe, values, source)


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON types, for logs and checkpoints."""
    return dataclasses.asdict(config)
