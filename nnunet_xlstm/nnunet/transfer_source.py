"""Weights to transfer: from our pre-training, from nnU-Net, from nnssl, or a bare state dict."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.nnunet import pretrain_checkpoint as checkpoints

WRAPPERS = ("module.", "_orig_mod.", "backbone.")  # DDP, torch.compile, DINO
BRANCHES = ("teacher", "student")


@dataclass(frozen=True)
class Source:
    """What a file offers.

    Attributes:
        kind: "pre-training", "nnU-Net", "nnssl" or "state dict".
        weights: tensors by the names of the network. plans, configuration: of the training, where the file has them.
        architecture: as in plans. channel_names: of its images, in order; None if unknown.
        origin: file, hash and what else the file says of itself. lineage: of the stages before.
        notes: what the user should know.
    """

    kind: str
    weights: dict[str, Tensor]
    plans: dict[str, Any] | None = None
    configuration: str | None = None
    architecture: dict[str, Any] | None = None
    channel_names: tuple[str, ...] | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    lineage: Sequence[dict[str, Any]] = ()
    notes: Sequence[str] = ()

    @property
    def row(self) -> dict[str, Any] | None:
        """The configuration in the plans of the training."""
        return None if self.plans is None else self.plans["configurations"].get(self.configuration)


def read_source(
    path: Path, branch: str | None = None, trust: bool = False, renames: Mapping[str, str] | None = None
) -> Source:
    """A file of any kind.

    Args:
        branch: teacher or student; None takes what the file offers.
        trust: also unpickle objects, which can run any code.
        renames: prefixes of tensor names -> what stands there in our names, for a bare state dict.

    Raises:
        OSError: no such file. ValueError: it cannot be read, or holds no weights of this kind.
    """
    path = Path(path)
    content = _load(path, trust)
    origin = {"file": path.name, "sha256": checkpoints.sha256(path)}
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; a checkpoint or a state dict is needed")
    try:
        source = _of_kind(path, content, origin, branch)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not complete, or of another version than this package reads ({type(error).__name__}: {error})"
        ) from error
    if branch is not None and source.kind not in ("pre-training", "state dict"):
        raise CheckpointError(f"--weights {branch}: {path} has no teacher and no student; leave the option out")
    weights = _rename(_clean(source.weights), renames or {})
    if not weights:
        raise CheckpointError(f"{path}: holds no tensors")
    return Source(**{**source.__dict__, "weights": weights})


def _of_kind(path: Path, content: Mapping, origin: dict, branch: str | None) -> Source:
    own = content.get(checkpoints.KEY)
    kind = own.get("kind") if isinstance(own, Mapping) else None
    if kind == "pretraining":
        return _of_pretraining(content, origin, branch)
    if kind == "adapted":
        first = own["lineage"][-1]["file"]
        raise CheckpointError(
            f"{path}: was made by `nnunet_xlstm adapt` for another plan; give what it came from, {first}"
        )
    if checkpoints.ADAPTATION in content:
        return _of_nnssl(content, origin)
    if "network_weights" in content and "init_args" in content:
        return _of_nnunet(content, origin)
    return _of_state_dict(path, content, origin, branch)


def _load(path: Path, trust: bool) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a checkpoint (.pth)")
    with contextlib.suppress(pickle.UnpicklingError), torch.serialization.safe_globals(_harmless()):
        return _torch_load(path, weights_only=True)
    if trust:
        return _torch_load(path, weights_only=False)
    raise CheckpointError(
        f"{path}: holds pickled objects besides tensors, and unpickling can run any code; if you know who made the "
        "file, add --trust"
    )


def _torch_load(path: Path, weights_only: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=weights_only)
    except pickle.UnpicklingError as error:
        # torch raises this for a foreign type, and for what is no file of its own
        if weights_only and ("Unsupported global" in str(error) or "Unsupported class" in str(error)):
            raise
        raise _unreadable(path, error) from error
    except Exception as error:  # a damaged or foreign pickle can raise anything
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(f"{path}: not a readable checkpoint ({reason})")


def _harmless() -> list:
    """The types of NumPy numbers and arrays, which nnU-Net's own checkpoints hold."""
    multiarray = getattr(np, "_core", None) or np.core
    kinds = {type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8", "u1", "u4", "?")}
    return [np.dtype, np.ndarray, multiarray.multiarray.scalar, multiarray.multiarray._reconstruct, *kinds]


def _of_pretraining(content: Mapping, origin: dict, branch: str | None) -> Source:
    own = content[checkpoints.KEY]
    weights = dict(content["network_weights"])
    if branch is not None:
        prefix = f"{branch}.encoder."
        chosen = {
            f"encoder.{k.removeprefix(prefix)}": v for k, v in own.get("method", {}).items() if k.startswith(prefix)
        }
        if not chosen:
            raise CheckpointError(
                f"--weights {branch}: {origin['file']} does not hold the {branch}; leave the option out"
            )
        weights = {name: chosen.get(name, tensor) for name, tensor in weights.items()}
    # decoder and heads were never trained
    weights = {k: v for k, v in weights.items() if not k.startswith("decoder.")}
    return Source(
        "pre-training",
        weights,
        _plans(content),
        content["init_args"]["configuration"],
        own["architecture"],
        tuple(own["channel_names"].values()),
        origin
        | {"dataset": own["dataset"], "trainer": content["trainer_name"], "weights": branch or own.get("export")},
        own["lineage"],
    )


def _plans(content: Mapping) -> dict[str, Any]:
    return {k: v for k, v in content["init_args"]["plans"].items() if k != "continue_training"}


def _of_nnunet(content: Mapping, origin: dict) -> Source:
    arguments = content["init_args"]
    plans, configuration = _plans(content), arguments["configuration"]
    channels = arguments["dataset_json"].get("channel_names") or arguments["dataset_json"].get("modality") or {}
    return Source(
        "nnU-Net",
        dict(content["network_weights"]),
        plans,
        configuration,
        plans["configurations"][configuration].get("architecture"),
        tuple(channels.values()),
        origin | {"dataset": plans.get("dataset_name"), "trainer": content.get("trainer_name")},
    )


def _of_nnssl(content: Mapping, origin: dict) -> Source:
    plan = content[checkpoints.ADAPTATION]
    kinds = plan["architecture_plans"]
    architecture = {
        "network_class_name": kinds["arch_class_name"],
        "arch_kwargs": kinds["arch_kwargs"],
        "_kw_requires_import": kinds["arch_kwargs_requiring_import"],
    }
    pretrain = plan["pretrain_plan"]
    (name, row), *_ = pretrain["configurations"].items()
    row = dict(row) | {"architecture": architecture}
    row.setdefault("patch_size", plan.get("recommended_downstream_patchsize"))
    n = int(plan["pretrain_num_input_channels"])
    return Source(
        "nnssl",
        dict(content["network_weights"]),
        dict(pretrain) | {"configurations": {name: row}},
        name,
        architecture,
        tuple(f"channel {i}" for i in range(n)),
        origin | {"dataset": pretrain.get("dataset_name")},
        notes=("nnssl does not name its input channels",),
    )


def _of_state_dict(path: Path, content: Mapping, origin: dict, branch: str | None) -> Source:
    keys = (branch, "network_weights", "state_dict", "model", "teacher")
    inner = next((content[key] for key in keys if key in content), content)
    if isinstance(inner, nn.Module):
        inner = inner.state_dict()
    weights = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)} if isinstance(inner, Mapping) else {}
    if not weights:
        raise CheckpointError(
            f"{path}: not a checkpoint of our pre-training, of nnU-Net or of nnssl, and no state dict of tensors "
            f"either (its keys: {', '.join(map(str, list(content)[:6]))})"
        )
    if branch is not None and any(name.startswith(f"{branch}.") for name in weights):
        weights = {k.removeprefix(f"{branch}."): v for k, v in weights.items() if k.startswith(f"{branch}.")}
    elif any(name.startswith("teacher.") for name in weights):
        weights = {k.removeprefix("teacher."): v for k, v in weights.items() if k.startswith("teacher.")}
    notes = ("the file names neither architecture nor channels: whether kernels, strides and scans agree is unknown",)
    return Source("state dict", weights, origin=origin, notes=notes)


def _clean(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes of wrappers, and without the encoder's second name below the decoder, which may hold older
    tensors and would win over the first when loaded (nnU-Net's load_state_dict keeps the last)."""
    result = {}
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor):
            continue
        while prefix := next((p for p in WRAPPERS if name.startswith(p)), ""):
            name = name.removeprefix(prefix)
        if not name.startswith("decoder.encoder."):
            result[name] = tensor
    return result


def _rename(weights: dict[str, Tensor], renames: Mapping[str, str]) -> dict[str, Tensor]:
    """Longest prefix first.

    Raises:
        ValueError: a prefix that no name has, or two tensors of one new name.
    """
    if unused := [old for old in renames if not any(name.startswith(old) for name in weights)]:
        raise CheckpointError(
            f"--map {unused[0]}={renames[unused[0]]}: no tensor's name starts so; the first are "
            f"{', '.join(list(weights)[:4])}"
        )
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        old = max((p for p in renames if name.startswith(p)), key=len, default=None)
        new = name if old is None else renames[old] + name.removeprefix(old)
        if new in result:
            raise CheckpointError(f"--map: two tensors would be named {new}; give longer prefixes")
        result[new] = tensor
    return result
