"""Architectures that checkpoints of nnssl name in one word, as arguments of networks.

nnssl's trainers write `arch_class_name` "ResEncL" or "PrimusM" and no arguments. Sizes are read from the weights. What
weights do not tell is in the rows below, after github.com/MIC-DKFZ/nnssl (commit 7044864):
`architectures/architecture_registry.py` (ResEncL, NoSkipResEncL), `architectures/get_network_by_name.py` (Primus), and
`architectures/primus.py` of dynamic_network_architectures 0.4.4 (heads).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.networks.geometry import token_strides

RESIDUAL_UNET = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
PLAIN_UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
PRIMUS = "nnunet_xlstm.networks.Primus"
# the words of nnssl for a class; the last five come without arguments
CLASSES = {
    "ResidualEncoderUNet": RESIDUAL_UNET,
    "PlainConvUNet": PLAIN_UNET,
    "Primus": PRIMUS,
    "PrimusX": PRIMUS,
    "ResEncL": RESIDUAL_UNET,
    "NoSkipResEncL": RESIDUAL_UNET,
    "PrimusS": PRIMUS,
    "PrimusB": PRIMUS,
    "PrimusM": PRIMUS,
    "PrimusL": PRIMUS,
}
HEADS = {"PrimusS": 6, "PrimusB": 12, "PrimusM": 12, "PrimusL": 16}
# ResEncL: every stage but the first halves the map; a decoder of one convolution per stage
LAYERS = {
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
LAYER_CLASSES = ["conv_op", "norm_op", "dropout_op", "nonlin"]
INIT_VALUES = 0.1  # layer scale of Primus, where the weights have it
BLOCK = re.compile(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1\.conv\.weight")
DEPTH = re.compile(r"eva\.blocks\.(\d+)\.")
# PrimusX with arguments: their names in nnssl -> in dynamic_network_architectures
PRIMUS_ARGUMENTS = {"encoder_eva_depth": "eva_depth", "encoder_eva_numheads": "eva_numheads"}


def nnssl_architecture(
    names: Mapping[str, Any], weights: Mapping[str, Tensor], patch_size: Sequence[int]
) -> tuple[dict[str, Any], str]:
    """Return the `architecture` of plans for what a checkpoint of nnssl names, and what was assumed, in words.

    Args:
        names: `architecture_plans` of the checkpoint: `arch_class_name`, `arch_kwargs` (or None) and
            `arch_kwargs_requiring_import` (or None).
        weights: by the names of the network.
        patch_size: of the pre-training, in voxels.

    Raises:
        CheckpointError: an unknown name without arguments, or weights that are not of this network.
    """
    name, arguments = names["arch_class_name"], names.get("arch_kwargs")
    if not isinstance(name, str) or not isinstance(arguments, (Mapping, type(None))):
        raise CheckpointError(
            f"arch_class_name {name!r:.60}, arch_kwargs {arguments!r:.60}: a name and an object needed"
        )
    if arguments is not None and CLASSES.get(name) == PRIMUS:
        return _primus(_primus_arguments(arguments), patch_size), ""
    if arguments is not None:
        architecture = _architecture(CLASSES.get(name, name), arguments, names.get("arch_kwargs_requiring_import"))
        return architecture, ""
    if name in HEADS:
        sizes = _primus_sizes(name, weights)
        assumed = f"{HEADS[name]} heads (of {name})"
        said = (
            f"{sizes['eva_depth']} blocks of width {sizes['embed_dim']}, tokens of {sizes['patch_embed_size']} voxels"
        )
        architecture = _primus(sizes | {"eva_numheads": HEADS[name]}, patch_size)
    elif CLASSES.get(name) == RESIDUAL_UNET:
        sizes = _residual_sizes(name, weights)
        assumed = "strides of 2, a decoder of one convolution per stage"
        assumed += " with skip connections" if name == "NoSkipResEncL" else ""
        said = f"features {sizes['features_per_stage']}, blocks {sizes['n_blocks_per_stage']}"
        architecture = _architecture(RESIDUAL_UNET, sizes | LAYERS, LAYER_CLASSES)
    else:
        known = [*HEADS, "ResEncL", "NoSkipResEncL"]
        raise CheckpointError(f"arch_class_name '{name}' without arch_kwargs is unknown; known are {', '.join(known)}")
    return architecture, f"nnssl names {name} without sizes: read from the weights: {said}; assumed: {assumed}"


def _residual_sizes(name: str, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    found: dict[int, dict[int, Tensor]] = {}
    for key, tensor in weights.items():
        if match := BLOCK.fullmatch(key):
            found.setdefault(int(match[1]), {})[int(match[2])] = tensor
    n = len(found)
    stages = [found.get(s, {}) for s in range(n)]
    whole = all(sorted(stage) == list(range(len(stage))) and stage for stage in stages)
    if n < 2 or not whole or any(tensor.ndim != 5 for stage in stages for tensor in stage.values()):
        raise CheckpointError(
            f"arch_class_name {name}: the weights are not those of a 3D residual encoder (encoder.stages.S.blocks.B."
            f"conv1.conv.weight); the first are {', '.join(list(weights)[:3])}"
        )
    return {
        "n_stages": n,
        "features_per_stage": [stage[0].shape[0] for stage in stages],
        "kernel_sizes": [list(stage[0].shape[2:]) for stage in stages],
        "strides": [[1, 1, 1], *([2, 2, 2] for _ in range(n - 1))],
        "n_blocks_per_stage": [len(stage) for stage in stages],
        "n_conv_per_stage_decoder": [1] * (n - 1),
    }


def _primus_sizes(name: str, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    projection = weights.get("down_projection.proj.weight")
    blocks = {int(match[1]) for key in weights if (match := DEPTH.match(key))}
    if projection is None or projection.ndim != 5 or blocks != set(range(len(blocks))) or not blocks:
        raise CheckpointError(
            f"arch_class_name {name}: the weights are not those of a Primus (down_projection.proj.weight, eva.blocks.N."
            f"...); the first are {', '.join(list(weights)[:3])}"
        )
    return {
        "embed_dim": projection.shape[0],
        "patch_embed_size": list(projection.shape[2:]),
        "eva_depth": len(blocks),
        "use_abs_pos_embed": "eva.pos_embed" in weights,
        "scale_attn_inner": "eva.blocks.0.attn.norm.weight" in weights,
        "init_values": INIT_VALUES if "eva.blocks.0.gamma_1" in weights else None,
    }


def _primus_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {PRIMUS_ARGUMENTS.get(key, key): value for key, value in given.items()}
    if isinstance(arguments.get("init_values"), (list, tuple)):
        arguments["init_values"] = next(iter(arguments["init_values"]), None)
    return arguments


def _primus(arguments: Mapping[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    token = arguments.get("patch_embed_size")
    if not isinstance(token, (list, tuple)) or not all(type(n) is int and n > 0 for n in token):
        raise CheckpointError(
            f"arch_kwargs of a Primus: patch_embed_size {token!r:.60}: must be a list of whole numbers"
        )
    own = {"input_shape": list(patch_size), "strides": token_strides(token)}
    return _architecture(PRIMUS, dict(arguments) | own, [])


def _architecture(class_name: str, arguments: Mapping[str, Any], classes: Sequence[str] | None) -> dict[str, Any]:
    return {
        "network_class_name": class_name,
        "arch_kwargs": dict(arguments),
        "_kw_requires_import": [] if classes is None else classes,
    }
