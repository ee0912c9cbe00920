"""Build a preset without plans: for counts, timings, tests and use outside nnU-Net."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from torch import nn

from nnunet_xlstm.layers.vil import CONVS, NORMS
from nnunet_xlstm.networks.geometry import check_patch_size, default_strides, stride_products
from nnunet_xlstm.networks.presets import arch_kwargs_for, get_preset


def build_network(
    preset: str,
    patch_size: Sequence[int],
    input_channels: int = 1,
    num_classes: int = 8,
    deep_supervision: bool = False,
    strides: Sequence[Sequence[int]] | None = None,
) -> nn.Module:
    """Build a preset's network for a patch of `patch_size` voxels per axis (2 or 3), initialized as nnU-Net does.

    Raises:
        ConfigError: unknown preset, or strides that do not divide the patch.
    """
    dim = len(patch_size)
    row = get_preset(preset)
    strides = [tuple(s) for s in (strides or default_strides(patch_size))][: row.max_stages]
    check_patch_size(patch_size, stride_products(strides))
    kwargs = {
        "n_stages": len(strides),
        "conv_op": CONVS[dim],
        "kernel_sizes": [(3,) * dim] * len(strides),
        "strides": strides,
        "conv_bias": True,
        "norm_op": NORMS[dim],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    module, name = row.network_class.rsplit(".", 1)
    network = getattr(importlib.import_module(module), name)(
        input_channels=input_channels,
        num_classes=num_classes,
        deep_supervision=deep_supervision,
        **arch_kwargs_for(row, kwargs, patch_size),
    )
    network.apply(network.initialize)
    return network
