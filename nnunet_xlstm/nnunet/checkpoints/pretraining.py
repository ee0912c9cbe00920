"""Checkpoints of pre-training: they describe themselves and hold tensors and plain JSON types only.

One file serves four readers: nnU-Net's own `--c` (resume), its `-pretrained_weights` (`network_weights` is the full
network), the fine-tuning commands of the next nnU-Net (`nnssl_adaptation_plan`, the schema of nnssl), and ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_xlstm import __version__
from nnunet_xlstm.config import to_dict
from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.datasets.case_index import PoolCases
from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.io.read import sha256
from nnunet_xlstm.nnunet.checkpoints.load import load_checkpoint

KEY = "nnunet_xlstm"
ADAPTATION = "nnssl_adaptation_plan"
FORMAT = 1
WANTED = "give the checkpoint_final.pth of an nnUNetTrainerDINO* or ..Masked run"
# nnU-Net's own fine-tuning for checkpoints of nnssl knows a network by the end of its name
NAMES_FOR_NNUNET = {"nnunet_xlstm.networks.XLSTMUNet": "nnunet_xlstm.networks.XLSTMResidualEncoderUNet"}
PREPROCESSING = ("spacing", "normalization_schemes", "use_mask_for_norm", "patch_size")


@dataclass(frozen=True, kw_only=True)
class PretrainingState:
    """A run of pre-training as its checkpoint records it.

    Attributes:
        stock: what nnU-Net's own checkpoints hold besides the weights (`optimizer_state`, `logging`, `init_args` ...).
        config: of the run.
        network: of the plans; the student's encoder is part of it.
        student_encoder: that part.
        exported_encoder: what the checkpoint offers in its place; of equal structure.
        method: state dict of student, teacher, heads, centers and queues.
        plans: of the run.
        foreground_intensities: per channel, under the name of today's plans.
        configuration_name: of the plans.
        configuration: the same, resolved (`ConfigurationManager.configuration`).
        channel_names: number -> name.
        pool: what the side-car knows of the cases; None without one.
        step: optimizer steps done.
        lineage: of the stages before.
        metrics: of every epoch, oldest first.
        random_states: of every rank.
    """

    stock: dict[str, Any]
    config: PretrainingConfig
    network: nn.Module
    student_encoder: nn.Module
    exported_encoder: nn.Module
    method: dict[str, Any]
    plans: dict[str, Any]
    foreground_intensities: dict[str, Any]
    configuration_name: str
    configuration: dict[str, Any]
    channel_names: dict[str, str]
    pool: PoolCases | None
    step: int
    lineage: Sequence[dict[str, Any]]
    metrics: Sequence[dict[str, Any]]
    random_states: Sequence[dict[str, Any]]


def content(state: PretrainingState) -> dict[str, Any]:
    """Return everything that a checkpoint holds, in plain types."""
    row = state.configuration
    preprocessing = {key: row[key] for key in PREPROCESSING}
    own = {
        "format": FORMAT,
        "kind": "pretraining",
        "version": __version__,
        "config": to_dict(state.config),
        "dataset": state.plans["dataset_name"],
        "pool": _sources(state.pool),
        "architecture": row["architecture"],
        "preprocessing": preprocessing | {"foreground_intensity_properties_per_channel": state.foreground_intensities},
        "channel_names": state.channel_names,
        "export_branch": state.config.export_branch,
        "method": state.method,
        "step": state.step,
        "lineage": state.lineage,
        "metrics": state.metrics,
        "random_states": state.random_states,
    }
    weights = exported_weights(state.network, state.student_encoder, state.exported_encoder)
    plan = adaptation_plan(state.plans, state.configuration_name, row, state.network, len(state.channel_names))
    return plain(state.stock | {"network_weights": weights, KEY: own, ADAPTATION: plan})


def _sources(pool: PoolCases | None) -> dict[str, int] | None:
    """Return source -> number of its subjects; None where the data set has no side-car."""
    if pool is None:
        return None
    return dict(sorted(Counter(source for source, _ in {(r.source, r.subject) for r in pool.cases.values()}).items()))


def plain(value):
    """Return the same content in tensors and JSON types: what `torch.load(..., weights_only=True)` accepts.

    Raises:
        TypeError: a type without a plain form.
    """
    if value is None or isinstance(value, (bool, int, float, str)) and type(value).__module__ == "builtins":
        return value
    if isinstance(value, Tensor):
        # nnU-Net's -pretrained_weights loads to the device that a tensor was saved from
        return value.detach().cpu()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy()) if value.dtype.kind in "biuf" else plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (torch.device, Path)):
        return str(value)
    if isinstance(value, Mapping):
        return {k if isinstance(k, (str, int)) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    raise TypeError(f"a checkpoint holds tensors and JSON types, not {type(value).__name__}: {value!r}")


def exported_weights(network: nn.Module, own: nn.Module, replacement: nn.Module) -> dict[str, Tensor]:
    """Return the full network's state, with the tensors of its part `own` taken from its equal `replacement`.

    Networks of dynamic_network_architectures list the encoder twice; both names get the new tensors.
    """
    new = {id(mine): other for mine, other in zip(_tensors(own).values(), _tensors(replacement).values(), strict=True)}
    moved: dict[int, Tensor] = {}  # two names of one tensor stay one on the way from a GPU
    for tensor in _tensors(network).values():
        if id(tensor) not in moved:
            moved[id(tensor)] = new.get(id(tensor), tensor).detach().cpu()
    return {name: moved[id(tensor)] for name, tensor in _tensors(network).items()}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers under all their names, as objects (state_dict makes new ones)."""
    return module.state_dict(keep_vars=True)


def adaptation_plan(plans: dict, name: str, row: dict, network: nn.Module, channels: int) -> dict:
    """Return what nnU-Net's fine-tuning commands for nnssl need to know, in the schema of nnssl's AdaptationPlan.

    Args:
        plans: of the run.
        name: of the configuration.
        row: the configuration, resolved (`ConfigurationManager.configuration`).
        network: of the plans.
        channels: of its input.
    """
    architecture = row["architecture"]
    patch_size = [int(n) for n in row["patch_size"]]
    kept = (
        "data_identifier preprocessor_name normalization_schemes use_mask_for_norm resampling_fn_data "
        "resampling_fn_data_kwargs spacing"
    ).split()
    return {
        "architecture_plans": {
            "arch_class_name": NAMES_FOR_NNUNET.get(
                architecture["network_class_name"], architecture["network_class_name"]
            ),
            "arch_kwargs": architecture["arch_kwargs"],
            "arch_kwargs_requiring_import": architecture["_kw_requires_import"],
        },
        "architecture_kwargs": architecture["arch_kwargs"],
        "pretrain_plan": {
            "dataset_name": plans["dataset_name"],
            "plans_name": plans["plans_name"],
            "original_median_spacing_after_transp": plans["original_median_spacing_after_transp"],
            "image_reader_writer": plans["image_reader_writer"],
            "transpose_forward": plans["transpose_forward"],
            "transpose_backward": plans["transpose_backward"],
            "configurations": {
                name: {key: row[key] for key in kept}
                | {
                    "spacing_style": "median",
                    "patch_size": patch_size,
                    "resampling_fn_mask": row["resampling_fn_seg"],
                    "resampling_fn_mask_kwargs": row["resampling_fn_seg_kwargs"],
                }
            },
            "experiment_planner_used": plans["experiment_planner_used"],
        },
        "pretrain_num_input_channels": channels,
        "recommended_downstream_patchsize": patch_size,
        "key_to_encoder": getattr(network, "key_to_encoder", "encoder.stages"),
        "key_to_stem": getattr(network, "key_to_stem", "encoder.stem"),
        "keys_to_in_proj": list(getattr(network, "keys_to_in_proj", ())),
        "key_to_lpe": getattr(network, "key_to_lpe", None),
    }


def read(path: Path) -> dict:
    """Read a pre-training checkpoint, on the CPU, without unpickling code.

    Raises:
        CheckpointError: no such file, damaged, or not a checkpoint of pre-training.
    """
    content = load_checkpoint(path, fix=f"; {WANTED}")
    own = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(own, dict) or own.get("kind") != "pretraining":
        raise CheckpointError(f"{path}: not a checkpoint of pre-training; {WANTED}")
    if own.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: was written by nnunet_xlstm {own.get('version')} in format {own.get('format')}; this version "
            f"reads format {FORMAT}"
        )
    return content


def plans_of(content: Mapping) -> dict:
    """Return the plans of the training that wrote a checkpoint (of ours or of nnU-Net), in plain types."""
    return plain({k: v for k, v in content["init_args"]["plans"].items() if k != "continue_training"})


def lineage_entry(path: Path, content: dict) -> dict:
    """Return what a later stage records of the stage that it started from."""
    own = content[KEY]
    return {
        "file": Path(path).name,
        "sha256": sha256(path),
        "stage": len(own["lineage"]) + 1,
        "dataset": own["dataset"],
        "pool": own.get("pool"),
        "trainer": content["trainer_name"],
        "epochs": int(content["current_epoch"]),
    }
