"""The network of a plans file, outside training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xlstm.errors import CheckpointError


@dataclass(frozen=True)
class PlannedNetwork:
    """A configuration of a plans file: its name, its patch and batch size, and how to build its network."""

    name: str
    patch_size: tuple[int, ...]
    batch_size: int
    build: Callable[[], nn.Module]


def planned_network(path: Path, configuration: str, channels: int, classes: int) -> PlannedNetwork:
    """From a plans file of nnU-Net, of any network class that can be imported.

    Args:
        channels, classes: of the image and of the output; plans do not hold them.

    Raises:
        ValueError: not a plans file, or no such configuration.
    """
    try:
        plans = json.loads(Path(path).read_text(encoding="utf-8"))
        known = plans["configurations"]
        manager = PlansManager(plans)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a plans file of nnU-Net ({type(error).__name__}: {error})") from error
    if configuration not in known:
        raise CheckpointError(f"{path}: has no configuration '{configuration}'; use -c with one of {', '.join(known)}")
    row = manager.get_configuration(configuration)

    def build() -> nn.Module:
        return get_network_from_plans(
            row.network_arch_class_name,
            row.network_arch_init_kwargs,
            row.network_arch_init_kwargs_req_import,
            channels,
            classes,
            deep_supervision=False,
        )

    return PlannedNetwork(
        f"{plans.get('plans_name', Path(path).stem)}/{configuration}", tuple(row.patch_size), row.batch_size, build
    )
