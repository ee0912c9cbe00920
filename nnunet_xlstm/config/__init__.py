"""Keys of our trainers: each behaviour declares its own once, and one JSON file overrides them.

The file is named by the environment variable `nnUNet_xlstm_config`. A trainer's recipe is an instance of its config
class (data, not code). `docs/reference/configuration.md` is generated from this module.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.config.augmentation import AugmentationKeys
from nnunet_xlstm.config.keys import key
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.read import read_json

ENVIRONMENT = "nnUNet_xlstm_config"


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
    """The dataclasses that declare the keys of `config_class`, in the order of declaration."""
    return [c for c in config_class.__mro__ if dataclasses.is_dataclass(c) and c.__dict__.get("__annotations__")]


def _type_name(annotation) -> str:
    if isinstance(annotation, types.UnionType):
        return " or ".join(_type_name(option) for option in typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        return f"list of {_type_name(typing.get_args(annotation)[0])}"
    return {type(None): "null", str: "text", bool: "true/false"}.get(annotation, annotation.__name__)


def _matches(value, annotation) -> bool:
    if isinstance(annotation, types.UnionType):
        return any(_matches(value, option) for option in typing.get_args(annotation))
    if annotation is type(None):
        return value is None
    if typing.get_origin(annotation) is list:
        (item,) = typing.get_args(annotation)
        return isinstance(value, list) and all(_matches(v, item) for v in value)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, annotation)


def override(recipe, values: dict, source: str):
    """A copy of the config `recipe` with `values`; `source` names their origin in errors.

    Raises:
        ValueError: a key the config does not declare (the message lists the valid ones), a wrong type or value.
    """
    fields = {f.name: f for f in dataclasses.fields(recipe)}
    annotations = typing.get_type_hints(type(recipe))
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError(
                f"{source}: key '{name}' is unknown to this trainer{hint}; valid keys: {', '.join(fields)}"
            )
        if not _matches(value, annotations[name]):
            raise ConfigError(f"{source}: {name} = {value!r} is a wrong type; give {_type_name(annotations[name])}")
        if value is not None:
            _check_rules(name, value, fields[name].metadata, source)
    return dataclasses.replace(recipe, **values)


def _check_rules(name: str, value, rules: Mapping, source: str) -> None:
    """Compare a value of the right type with the rules of its key.

    Raises:
        ConfigError: a rule is broken.
    """
    said = f"{source}: {name} = {value!r}"
    if rules["choices"] and value not in rules["choices"]:
        raise ConfigError(f"{said} is unknown; use one of {', '.join(rules['choices'])}")
    for number in value if isinstance(value, list) else [value]:
        if rules["at_least"] is not None and number < rules["at_least"]:
            raise ConfigError(f"{said} is too small; use at least {rules['at_least']:g}")
        if rules["at_most"] is not None and number > rules["at_most"]:
            raise ConfigError(f"{said} is too large; use at most {rules['at_most']:g}")
    if rules["interval"] and not (len(value) == 2 and value[0] <= value[1]):
        raise ConfigError(f"{said} is no range; give [least, greatest]")
    inside = rules["contains"]
    if inside is not None and not value[0] <= inside <= value[1]:
        raise ConfigError(f"{said} leaves out {inside:g}, which changes nothing; give a range around {inside:g}")


def load_overrides() -> tuple[dict, str]:
    """The content of the file named by `nnUNet_xlstm_config` and its path; empty if the variable is not set.

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


def resolve(recipe):
    """The recipe with the user's overrides: what the running trainer uses."""
    values, source = load_overrides()
    return override(recipe, values, source)


def to_dict(config) -> dict:
    """Plain JSON types, for logs and checkpoints."""
    return dataclasses.asdict(config)


@dataclass(frozen=True)
class Row:
    """One key, as text for people."""

    name: str
    type: str
    default: str
    text: str


def rows(config_class: type) -> list[Row]:
    """The keys of a config class, in the order of declaration."""
    annotations = typing.get_type_hints(config_class)
    return [
        Row(f.name, _type_name(annotations[f.name]), json.dumps(f.default), f.metadata["text"])
        for f in dataclasses.fields(config_class)
    ]
