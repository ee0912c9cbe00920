"""Weights to transfer: from our pre-training, from nnU-Net, from nnssl, or a bare state dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nnunet_xlstm.errors import CheckpointError, UserError
from nnunet_xlstm.io.read import sha256
from nnunet_xlstm.io.validate import check, null_or
from nnunet_xlstm.nnunet.checkpoints import pretraining
from nnunet_xlstm.nnunet.checkpoints.load import load_checkpoint
from nnunet_xlstm.nnunet.planning.configuration import PATCH_SIZE, needed, resolve_configuration
from nnunet_xlstm.nnunet.planning.network import checked_architecture
from nnunet_xlstm.nnunet.transfer.nnssl import nnssl_architecture

WRAPPERS = ("module.", "_orig_mod.", "backbone.")  # DDP, torch.compile, DINO
ALLOW_PICKLE = "; if you trust who made the file, add --allow-pickle"
MOST_CHANNELS = 1000  # of an image


@dataclass(frozen=True, kw_only=True)
class Source:
    """The weights that a file offers, and what it says of them.

    Attributes:
        kind: "pre-training", "nnU-Net", "nnssl" or "state dict".
        weights: tensors by the names of the network.
        plans: of the training, where the file has them.
        row: their configuration, resolved.
        architecture: as in plans; every class in it may be imported.
        channel_names: of its images, in order; None if unknown.
        recommended_patch: for a later training, where the file names one.
        origin: file, hash and what else the file says of itself.
        lineage: of the stages before.
        notes: what the user should know.
    """

    kind: str
    weights: dict[str, Tensor]
    plans: dict[str, Any] | None = None
    row: dict[str, Any] | None = None
    architecture: dict[str, Any] | None = None
    channel_names: tuple[str, ...] | None = None
    recommended_patch: tuple[int, ...] | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    lineage: Sequence[dict[str, Any]] = ()
    notes: Sequence[str] = ()


def read_source(
    path: Path,
    branch: str | None = None,
    allow_pickle: bool = False,
    renames: Mapping[str, str] | None = None,
    allowed: Sequence[str] = (),
) -> Source:
    """Read a file of any kind.

    Args:
        path: of the file.
        branch: teacher or student; None takes what the file offers.
        allow_pickle: also unpickle objects, which can run any code.
        renames: prefixes of tensor names -> what stands there in our names, for a bare state dict.
        allowed: packages whose network classes the file may name, beside ours and nnU-Net's.

    Raises:
        CheckpointError: no such file, it cannot be read, holds no weights of this kind, or names what may not be
            imported.
    """
    path = Path(path)
    content = load_checkpoint(path, allow_pickle=allow_pickle, fix=ALLOW_PICKLE)
    origin = {"file": path.name, "sha256": sha256(path)}
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; a checkpoint or a state dict is needed")
    with complete(path):
        source = _of_kind(path, content, origin, branch)
    if branch is not None and source.kind not in ("pre-training", "state dict"):
        raise CheckpointError(f"--weights {branch}: {path} has no teacher and no student; leave the option out")
    weights = _rename(_clean(source.weights), renames or {})
    if not weights:
        raise CheckpointError(f"{path}: holds no tensors")
    architecture = source.architecture
    if architecture is not None:
        architecture = checked_architecture(architecture, str(path), allowed)
    return replace(source, weights=weights, architecture=architecture)


@contextmanager
def complete(path: Path) -> Iterator[None]:
    """Turn what the body raises for a missing or odd part of a file's content into a CheckpointError."""
    try:
        yield
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not complete, or of another version than this package reads ({type(error).__name__}: {error})"
        ) from error


def _of_kind(path: Path, content: Mapping[str, Any], origin: dict[str, Any], branch: str | None) -> Source:
    own = content.get(pretraining.KEY)
    own = own if isinstance(own, Mapping) else {}
    kind = own.get("kind")
    if kind == "pretraining":
        return _of_pretraining(path, content, origin, branch)
    if kind == "adapted":
        first = own["lineage"][-1]["file"]
        raise CheckpointError(
            f"{path}: was made by `nnunet_xlstm adapt` for another plan; give what it came from, {first}"
        )
    if pretraining.ADAPTATION in content:
        return _of_nnssl(path, content, origin)
    if "network_weights" in content and "init_args" in content:
        return _of_nnunet(path, content, origin)
    return _of_state_dict(path, content, origin, branch)


def _of_pretraining(path: Path, content: Mapping[str, Any], origin: dict[str, Any], branch: str | None) -> Source:
    own = content[pretraining.KEY]
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
    plans = pretraining.plans_of(content)
    return Source(
        kind="pre-training",
        weights={k: v for k, v in weights.items() if not k.startswith("decoder.")},  # it was never trained
        plans=plans,
        row=resolve_configuration(plans, content["init_args"]["configuration"], str(path)),
        architecture=own["architecture"],
        channel_names=tuple(map(str, own["channel_names"].values())),
        origin=origin
        | {
            "dataset": own["dataset"],
            "trainer": content["trainer_name"],
            "weights": branch or own.get("export_branch"),
        },
        lineage=own["lineage"],
    )


def _of_nnunet(path: Path, content: Mapping[str, Any], origin: dict[str, Any]) -> Source:
    arguments = content["init_args"]
    plans = pretraining.plans_of(content)
    row = resolve_configuration(plans, arguments["configuration"], str(path))
    dataset = arguments["dataset_json"]
    return Source(
        kind="nnU-Net",
        weights=dict(content["network_weights"]),
        plans=plans,
        row=row,
        architecture=row.get("architecture"),
        channel_names=tuple(map(str, (dataset.get("channel_names") or dataset.get("modality") or {}).values())),
        origin=origin | {"dataset": plans.get("dataset_name"), "trainer": content.get("trainer_name")},
    )


def _of_nnssl(path: Path, content: Mapping[str, Any], origin: dict[str, Any]) -> Source:
    plan = pretraining.plain(content[pretraining.ADAPTATION])
    pretrain, channels = plan["pretrain_plan"], plan["pretrain_num_input_channels"]
    if type(channels) is not int or not 0 < channels <= MOST_CHANNELS:
        raise CheckpointError(f"{path}: pretrain_num_input_channels {channels!r:.60}: must be a whole number")
    name = content.get("init_args", {}).get("configuration_name")
    if name not in pretrain["configurations"]:  # nnssl stores the one that it used
        name = list(pretrain["configurations"])[0]
    row = dict(pretrain["configurations"][name])
    recommended = plan.get("recommended_downstream_patchsize")
    row["patch_size"] = plan.get("pretrain_patch_size") or row.get("patch_size") or recommended
    for key in ("normalization_schemes", "use_mask_for_norm"):
        row[key] = _per_channel(row.get(key), channels)
    row["architecture"] = None  # it stands elsewhere, in another form
    row = resolve_configuration({"configurations": {name: row}}, name, str(path))
    check(recommended, null_or(PATCH_SIZE), str(path), CheckpointError, path="recommended_downstream_patchsize")
    weights = _without_owner(_clean(content["network_weights"]), plan["key_to_encoder"])
    patch = needed(row, "patch_size", str(path))
    architecture, assumed = nnssl_architecture(plan["architecture_plans"], weights, patch)
    return Source(
        kind="nnssl",
        weights=weights,
        plans=pretrain,
        row=row,
        architecture=architecture,
        channel_names=tuple(f"channel {i}" for i in range(channels)),
        recommended_patch=recommended,
        origin=origin | {"dataset": pretrain.get("dataset_name")},
        notes=("nnssl does not name its input channels", *([assumed] if assumed else [])),
    )


def _per_channel(value: Any, channels: int) -> Any:
    """Repeat one value, or a list of one, for all channels."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    return value if isinstance(value, list) or value is None else [value] * channels


def _without_owner(weights: Mapping[str, Tensor], key_to_encoder: str) -> dict[str, Tensor]:
    """Move the tensors of a Primus to the top: SimCLR, VoCo and SwinUNETR of nnssl keep it below `encoder.`."""
    owner = key_to_encoder.removesuffix("eva")
    return {name if owner == key_to_encoder else name.removeprefix(owner): tensor for name, tensor in weights.items()}


def _of_state_dict(path: Path, content: Mapping[str, Any], origin: dict[str, Any], branch: str | None) -> Source:
    keys = (*([branch] if branch else []), "network_weights", "state_dict", "model", "teacher")
    inner = next((content[key] for key in keys if key in content), content)
    if isinstance(inner, nn.Module):
        inner = inner.state_dict()
    weights = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)} if isinstance(inner, Mapping) else {}
    if not weights:
        raise CheckpointError(
            f"{path}: not a checkpoint of our pre-training, of nnU-Net or of nnssl, and no state dict of tensors "
            f"either (its keys: {', '.join(map(str, list(content)[:6]))})"
        )
    for prefix in (*([f"{branch}."] if branch else []), "teacher."):
        if any(name.startswith(prefix) for name in weights):
            weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            break
    notes = ("the file names neither architecture nor channels: whether kernels, strides and scans agree is unknown",)
    return Source(kind="state dict", weights=weights, origin=origin, notes=notes)


def _clean(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefixes of wrappers, and the encoder's second name below the decoder.

    Tensors under the latter may be older, and would win when loaded (nnU-Net's load_state_dict keeps the last).
    """
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
    """Rename by the longest prefix that fits.

    Raises:
        CheckpointError: a prefix that no name has, or two tensors of one new name.
    """
    if unused := [old for old in renames if not any(name.startswith(old) for name in weights)]:
        raise CheckpointError(
            f"--rename {unused[0]}={renames[unused[0]]}: no tensor's name starts so; the first are "
            f"{', '.join(list(weights)[:4])}"
        )
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        old = max((p for p in renames if name.startswith(p)), key=len, default=None)
        new = name if old is None else renames[old] + name.removeprefix(old)
        if new in result:
            raise CheckpointError(f"--rename: two tensors would be named {new}; give longer prefixes")
        result[new] = tensor
    return result
