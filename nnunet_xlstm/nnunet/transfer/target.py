"""The network that weights are transferred to: that of a plans file for a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import CheckpointError, ConfigError, DatasetError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.nnunet.planning.code_names import check_label_manager
from nnunet_xlstm.nnunet.planning.configuration import needed, resolve_configuration
from nnunet_xlstm.nnunet.planning.network import build_seeded, checked_architecture, fitting


@dataclass(frozen=True, kw_only=True)
class Target:
    """A configuration of a plans file with the data set's channels and classes.

    Attributes:
        row: the configuration, resolved; every class that its architecture names may be imported.
        classes: outputs of the network.
        path: of the plans.
    """

    path: Path
    dataset_name: str
    configuration_name: str
    row: dict[str, Any]
    channels: dict[str, str]
    classes: int
    allowed: Sequence[str] = ()

    @classmethod
    def read(cls, dataset: str, plans_name: str, configuration: str, allowed: Sequence[str] = ()) -> Target:
        """Read plans and dataset.json from nnUNet_preprocessed.

        Args:
            dataset: id or name.
            plans_name: of the file, without .json.
            configuration: its name in the plans.
            allowed: packages whose network classes the plans may name, beside ours and nnU-Net's.

        Raises:
            CheckpointError: plans or configuration are not there (says which are), or cannot be used.
            DatasetError: the data set is not there, or its dataset.json cannot be used.
        """
        folder = preprocessed_folder(dataset, "dataset.json", "nnUNetv2_plan_and_preprocess")
        path = folder / f"{plans_name}.json"
        if not path.is_file():
            known = sorted(p.stem for p in folder.glob("*Plans*.json"))
            raise CheckpointError(
                f"-p {plans_name}: {folder} has no such plans; "
                + (f"it has {', '.join(known)}" if known else "plan first, or use `nnunet_xlstm plan_like`")
            )
        plans = read_json(path, dict)
        row = resolve_configuration(plans, configuration, f"-c {configuration}: {path}")
        architecture = checked_architecture(needed(row, "architecture", str(path)), str(path), allowed)
        check_label_manager(plans, str(path))
        file = DatasetFile.read(folder)
        return cls(
            path=path,
            dataset_name=folder.name,
            configuration_name=configuration,
            row=row | {"architecture": architecture},
            channels=file.channel_table(),
            classes=_outputs(plans, file),
            allowed=allowed,
        )

    @property
    def plans_name(self) -> str:
        """Return the name of the plans file, without .json."""
        return self.path.stem

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Return the names of the channels, in order."""
        return tuple(self.channels.values())

    def network(self, seed: int) -> nn.Module:
        """Build the network on the CPU, freshly initialised as nnU-Net does it; the same for the same seed.

        Raises:
            CheckpointError: the arguments do not fit its class.
        """
        architecture, where = self.row["architecture"], str(self.path)
        return build_seeded(seed, architecture, len(self.channels), self.classes, where, self.allowed, True)


def _outputs(plans: dict[str, Any], file: DatasetFile) -> int:
    with fitting(f"{file.path}: nnU-Net cannot use its labels", kind=DatasetError):
        return PlansManager(plans).get_label_manager(dict(file.content)).num_segmentation_heads


def preprocessed_folder(dataset: str, needs: str, made_by: str) -> Path:
    """Return the data set's folder in nnUNet_preprocessed.

    Args:
        dataset: id or name.
        needs: a file in it.
        made_by: the command that makes this file.

    Raises:
        ConfigError: nnUNet_preprocessed is not set.
        DatasetError: data set or file are not there.
    """
    root = os.environ.get("nnUNet_preprocessed")
    if not root:
        raise ConfigError("nnUNet_preprocessed is not set; give it the folder that nnU-Net uses")
    try:
        name = maybe_convert_to_dataset_name(int(dataset) if dataset.isdigit() else dataset)
    except (RuntimeError, ValueError) as error:
        raise DatasetError(f"-d {dataset}: nnU-Net knows no data set of this id or name") from error
    folder = Path(root) / name
    if not (folder / needs).is_file():
        raise DatasetError(f"-d {dataset}: {folder} has no {needs}; run {made_by} -d {dataset}")
    return folder
