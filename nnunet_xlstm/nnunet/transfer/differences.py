"""Differences by which the same weights compute something else: other networks, other images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_xlstm.nnunet.transfer.source import Source
from nnunet_xlstm.nnunet.transfer.target import Target

# arguments of a network that do not change what its encoder computes, or that the shapes of tensors tell
NOT_COMPARED = frozenset(
    "n_stages features_per_stage n_conv_per_stage_decoder deep_supervision input_shape num_classes "
    "input_channels vit_grid recompute".split()
)
BLOCKS = ("n_conv_per_stage", "n_blocks_per_stage")  # two names of one thing
PER_STAGE = ("strides", "kernel_sizes", "blocks")
PREPROCESSING = ("spacing", "normalization_schemes")


def architecture_differences(source: Mapping[str, Any] | None, target: Mapping[str, Any] | None) -> list[str]:
    """List what makes the same weights compute something else; nothing where one of the two is unknown."""
    if source is None or target is None:
        return []
    found, first = [], []
    names = [architecture["network_class_name"].rpartition(".")[2] for architecture in (source, target)]
    there, here = (_arguments(architecture["arch_kwargs"]) for architecture in (source, target))
    keys = there.keys() | here.keys()
    if names[0] != names[1]:
        first = [f"network {names[0]} there, {names[1]} here"]
        keys = there.keys() & here.keys()  # what one class alone knows says nothing more
    for key in keys - NOT_COMPARED:
        a, b = there.get(key), here.get(key)
        if isinstance(a, list) and isinstance(b, list) and key in PER_STAGE:
            n = min(len(a), len(b))
            found += [f"{key} of stage {i}: {a[i]} there, {b[i]} here" for i in range(n) if a[i] != b[i]]
            if len(a) != len(b):
                found.append(f"{len(a)} stages there, {len(b)} here") if key == "strides" else None
        elif a != b:
            found.append(f"{key}: {a} there, {b} here")
    return first + sorted(found)


def _arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments in plain types, with one name and one form for the blocks of a stage."""
    plain = {key: _plain(value) for key, value in arguments.items()}
    blocks = next((plain[key] for key in BLOCKS if plain.get(key) is not None), None)
    if isinstance(blocks, int) and isinstance(plain.get("strides"), list):
        blocks = [blocks] * len(plain["strides"])
    return {key: value for key, value in plain.items() if key not in BLOCKS} | {"blocks": blocks}


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def preprocessing_remarks(source: Source, target: Target) -> list[str]:
    """List where the images will look otherwise than those that the source was trained on."""
    row = source.row
    if row is None:
        return []
    remarks = []
    for key in PREPROCESSING:
        there, here = _plain(row.get(key)), _plain(target.row.get(key))
        if key == "normalization_schemes":
            there, here = sorted(set(there or [])), sorted(set(here or []))
        if there and there != here:
            remarks.append(f"{key.replace('_', ' ')}: {there} in the source's training, {here} in these plans")
    return remarks
