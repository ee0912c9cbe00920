"""The network that weights are transferred to: that of a plans file for a data set."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.io.files import read_json


@dataclass(frozen=True)
class Target:
    """A configuration of a plans file with the data set's channels and classes."""

    plans: PlansManager
    configuration_name: str
    dataset_json: dict[str, Any]

    @classmethod
    def read(cls, dataset: str, plans_name: str, configuration: str) -> Target:
        """From nnUNet_preprocessed.

        Args:
            dataset: id or name.

        Raises:
            ValueError: data set, plans or configuration are not there; says which are.
        """
        folder = preprocessed_folder(dataset, "dataset.json", "nnUNetv2_plan_and_preprocess")
        path = folder / f"{plans_name}.json"
        if not path.is_file():
            known = sorted(p.stem for p in folder.glob("*Plans*.json"))
            raise CheckpointError(
                f"-p {plans_name}: {folder} has no such plans; "
                + (f"it has {', '.join(known)}" if known else "plan first, or use `nnunet_xlstm plan_like`")
            )
        plans = PlansManager(read_json(path))
        if configuration not in plans.available_configurations:
            raise CheckpointError(
                f"-c {configuration}: {plans_name} has {', '.join(plans.available_configurations)} and no other"
            )
        target = cls(plans, configuration, read_json(folder / "dataset.json"))
        try:
            _ = target.row["architecture"]
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"-p {plans_name}: {configuration} names no network ({error}); plan anew") from error
        return target

    @property
    def configuration(self) -> ConfigurationManager:
        return self.plans.get_configuration(self.configuration_name)

    @property
    def row(self) -> dict[str, Any]:
        return self.configuration.configuration

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple((self.dataset_json.get("channel_names") or self.dataset_json.get("modality")).values())

    @property
    def classes(self) -> int:
        return self.plans.get_label_manager(self.dataset_json).num_segmentation_heads

    def network(self, seed: int) -> nn.Module:
        """On the CPU, freshly initialised as nnU-Net does it; the same for the same seed.

        Raises:
            ValueError: its class cannot be imported.
        """
        row = self.configuration
        with torch.random.fork_rng(devices=[]), _importable(row.network_arch_class_name):
            torch.manual_seed(seed)
            return get_network_from_plans(
                row.network_arch_class_name,
                row.network_arch_init_kwargs,
                row.network_arch_init_kwargs_req_import,
                len(self.channel_names),
                self.classes,
                deep_supervision=True,
            )


@contextlib.contextmanager
def _importable(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise CheckpointError(f"the network {name} cannot be imported ({error}); install its package") from error


def preprocessed_folder(dataset: str, needs: str, made_by: str) -> Path:
    """The data set's folder in nnUNet_preprocessed.

    Args:
        needs: a file in it. made_by: the command that makes this file.

    Raises:
        ValueError: nnUNet_preprocessed is not set, or data set or file are not there.
    """
    root = os.environ.get("nnUNet_preprocessed")
    if not root:
        raise CheckpointError("nnUNet_preprocessed is not set; give it the folder that nnU-Net uses")
    try:
        name = maybe_convert_to_dataset_name(int(dataset) if dataset.isdigit() else dataset)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"-d {dataset}: nnU-Net knows no data set of this id or name") from error
    folder = Path(root) / name
    if not (folder / needs).is_file():
        raise CheckpointError(f"-d {dataset}: {folder} has no {needs}; run {made_by} -d {dataset}")
    return folder
