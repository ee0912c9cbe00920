"""Plans for a data set after a checkpoint: its network, patch, spacing policy and normalisation."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import CheckpointError, ConfigError, DatasetError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.write import write_text
from nnunet_xlstm.nnunet.planning.code_names import check_normalization, check_reader
from nnunet_xlstm.nnunet.planning.configuration import check_per_channel, divisors, needed
from nnunet_xlstm.nnunet.planning.network import fitting
from nnunet_xlstm.nnunet.transfer.source import Source
from nnunet_xlstm.nnunet.transfer.target import preprocessed_folder
from nnunet_xlstm.nnunet.transfer.tensors import channel_map

NAME = re.compile(r"[A-Za-z0-9_-]+")
SHARE_OF_DATASET = 0.05  # nnU-Net: a batch holds at most so much of the data set
LEAST_BATCH = 2
PROPERTIES = "foreground_intensity_properties_per_channel"


@dataclass(frozen=True, kw_only=True)
class _Pretraining:
    """The training of a source with plans and a network.

    Attributes:
        where: the file, for messages.
        origin: of the source.
        row: its configuration, resolved and checked.
        architecture: as in plans.
        patch: recommended for a later training, else its own; voxels per axis.
        channel_names: in order; numbers where they are unknown.
        intensities: properties per channel, for CT.
    """

    where: str
    origin: dict[str, Any]
    row: dict[str, Any]
    architecture: dict[str, Any]
    patch: Sequence[int]
    channel_names: Sequence[str]
    intensities: Mapping[str, Any]


class LikePlanner(ExperimentPlanner):
    """nnU-Net's planner for everything that follows from the data set; the pre-training decides the rest."""

    def __init__(self, dataset: str, there: _Pretraining, mode: str, spacing: Sequence[float] | None, file: Path):
        super().__init__(int(dataset) if dataset.isdigit() else dataset, plans_name=file.stem)
        self.there, self.mode, self.file = there, mode, file
        self.lowres_creation_threshold = 0
        self._transpose: list[list[int]] | None = None
        self.configuration = "2d" if len(there.row["patch_size"]) == 2 else "3d_fullres"
        self.remarks: list[str] = []
        chosen = there.row["spacing"] if mode == "like_pretrained" else spacing
        if chosen is not None:
            # in the order of plans, thick slices first (2D: the axes within a slice); nnU-Net wants that of the images
            transpose = self.determine_transpose()
            wanted = self.determine_fullres_target_spacing()
            wanted[transpose[0][-len(chosen) :]] = chosen
            self.overwrite_target_spacing = wanted.tolist()
            if len(chosen) == 2 or chosen[0] < max(chosen):  # nnU-Net would take another axis for that of the slices
                self._transpose = transpose

    def determine_transpose(self) -> list[list[int]]:
        """Return the order of the axes and the way back: nnU-Net's, but for slices that stay the first axis."""
        return self._transpose or super().determine_transpose()

    @staticmethod
    def static_estimate_VRAM_usage(*args: Any, **kwargs: Any) -> int:
        """Return 1: patch and batch come from the source, so there is nothing to estimate."""
        return 1

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Fit the configuration to the pre-training, and write the plans with it alone.

        Raises:
            CheckpointError: images too small at its spacing, or strides that leave one cell of them.
            WriteError: the file cannot be written.
        """
        row = plans["configurations"].get(self.configuration)
        if row is None or min(row["median_image_size_in_voxels"]) < 1:
            raise CheckpointError(
                f"{self.there.where}: at its spacing {self.there.row['spacing']} these images have less than two "
                "slices or no voxel at all; choose another one (--spacing default)"
            )
        if self.mode == "no_resample":
            sizes = np.median(self.dataset_fingerprint["shapes_after_crop"], 0)[plans["transpose_forward"]]
            row["median_image_size_in_voxels"] = sizes[-len(self.there.row["patch_size"]) :].tolist()
        shape = [int(n) for n in row["median_image_size_in_voxels"]]
        row["patch_size"] = self._patch(shape)
        row["architecture"] = self._architecture(row["patch_size"])
        row["batch_size"] = self._batch(row["patch_size"], shape)
        self._normalize_alike(plans, row)
        if self.mode == "no_resample":
            row |= {f"resampling_fn_{kind}": no_resampling_hack.__name__ for kind in ("data", "seg", "probabilities")}
            row |= {f"resampling_fn_{kind}_kwargs": {} for kind in ("data", "seg", "probabilities")}
        plans["configurations"] = {self.configuration: row}
        plans["pretrained"] = self.there.origin | {"spacing_mode": self.mode}
        recursive_fix_for_json_export(plans)
        write_text(self.file, json.dumps(plans, indent=4) + "\n")  # nnU-Net would mix old and new configurations

    def _patch(self, shape: Sequence[int]) -> list[int]:
        """Return the source's patch, no larger than the median image rounded up to what the strides divide.

        Raises:
            CheckpointError: strides that leave one cell of it: normalisation needs two.
        """
        most = self.there.patch
        each = divisors(self.there.architecture, most, self.there.where)
        patch = [int(min(p, math.ceil(n / d) * d)) for p, n, d in zip(most, shape, each, strict=True)]
        if tuple(patch) == each:
            raise CheckpointError(
                f"{self.there.where}: its strides divide by {list(each)}, which leaves a single cell of these images "
                f"({shape} voxels at the planned spacing), and normalisation needs two; choose a finer spacing "
                "(--spacing fixed --target-spacing), or a checkpoint with fewer stages"
            )
        return patch

    def _architecture(self, patch: Sequence[int]) -> dict[str, Any]:
        """Return the source's network, with what depends on the patch fitted to the new one."""
        architecture = self.there.architecture
        kwargs = dict(architecture["arch_kwargs"])
        if kwargs.get("input_shape") is not None:
            kwargs["input_shape"] = list(patch)
        if kwargs.get("vit_grid") is not None:
            kwargs["vit_grid"] = [
                p // d for p, d in zip(patch, divisors(architecture, patch, self.there.where), strict=True)
            ]
        return architecture | {"arch_kwargs": kwargs}

    def _batch(self, patch: Sequence[int], shape: Sequence[int]) -> int:
        """Return the batch with as many voxels as one of the source, within nnU-Net's bounds."""
        voxels = int(self.there.row.get("batch_size") or LEAST_BATCH) * math.prod(self.there.patch)
        n = self.dataset_json["numTraining"]
        most = round(SHARE_OF_DATASET * n * math.prod(shape) / math.prod(patch))
        return max(LEAST_BATCH, min(voxels // math.prod(patch), most))

    def _normalize_alike(self, plans: dict[str, Any], row: dict[str, Any]) -> None:
        names = DatasetFile(self.file.parent / "dataset.json", self.dataset_json).channels()
        schemes = self.there.row["normalization_schemes"]
        mapping = channel_map(self.there.channel_names, names)
        for j, sources in enumerate(mapping):
            wanted = {schemes[i] for i in sources}
            if len(wanted) > 1:
                self.remarks.append(f"channel {names[j]}: the source's channels are normalised in different ways; "
                                    f"nnU-Net's choice {row['normalization_schemes'][j]} is kept")  # fmt: skip
                continue
            (scheme,) = wanted
            if scheme == "CTNormalization":
                properties = self.there.intensities.get(str(sources[0]))
                if properties is None:
                    self.remarks.append(
                        f"channel {names[j]}: CT, but the source does not say its intensities; those of this data set "
                        "are used"
                    )
                else:
                    plans[PROPERTIES] = plans[PROPERTIES] | {str(j): properties}
            row["normalization_schemes"][j] = scheme
            row["use_mask_for_norm"][j] = bool(self.there.row["use_mask_for_norm"][sources[0]])


def plan_like(
    dataset: str, source: Source, mode: str, spacing: Sequence[float] | None, plans_name: str
) -> tuple[dict[str, Any], list[str]]:
    """Write the plans into nnUNet_preprocessed; returns them, and remarks.

    Args:
        dataset: id or name.
        source: with plans and a network.
        mode: of choices.SPACING_MODES.
        spacing: in mm, in the order of plans (thick slices first), for "fixed".
        plans_name: of the new file; of older plans only those that were made here are replaced.

    Raises:
        CheckpointError: the source has no plans or lacks something in them, is of other dimensions than the images, or
            would leave a single cell of them; the data set has no fingerprint.
        ConfigError: spacing and mode do not fit, or the name is none or that of other plans.
        DatasetError: there is no such data set, or nnU-Net cannot use it.
    """
    if not NAME.fullmatch(plans_name):
        raise ConfigError(f"-p {plans_name}: becomes a file's name; use letters, digits, _ and -")
    there = _checked(source)
    _check_spacing(mode, spacing, len(there.row["patch_size"]))
    folder = preprocessed_folder(dataset, "dataset_fingerprint.json", "nnUNetv2_extract_fingerprint")
    _check_dimensions(there, folder)
    path = folder / f"{plans_name}.json"
    if path.is_file() and "pretrained" not in read_json(path):
        raise ConfigError(f"-p {plans_name}: {path} was not made by plan_like and would be lost; give another name")
    remarks = []
    if mode == "like_pretrained" and there.row.get("spacing") is None:
        mode = "default"
        remarks.append(
            "the pre-training resampled nothing: images get the spacing that nnU-Net plans (--spacing default); "
            "--spacing no_resample leaves them as they are"
        )
    with fitting(f"-d {dataset}: nnU-Net cannot use its raw data set", kind=DatasetError):  # it reads that here
        planner = LikePlanner(dataset, there, mode, spacing, path)
    check_reader(planner.dataset_json, f"{planner.raw_dataset_folder}/dataset.json")
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints the plans that it would have made
        planner.plan_experiment()
    return read_json(path), [*source.notes, *planner.remarks, *remarks]


def _checked(source: Source) -> _Pretraining:
    """Return what plans need of a source, after checks that it is there."""
    where, row = source.origin["file"], source.row
    if row is None or source.plans is None or source.architecture is None:
        raise CheckpointError(
            f"{where}: holds no plans with a network; plan_like needs a checkpoint of nnU-Net, of nnssl or of ours"
        )
    schemes = needed(row, "normalization_schemes", where)
    needed(row, "patch_size", where)
    n = len(source.channel_names or schemes)
    check_per_channel(row, n, where)
    check_normalization(schemes, where)
    properties = source.plans.get(PROPERTIES)
    if not isinstance(properties, (dict, type(None))):
        raise CheckpointError(f"{where}: {PROPERTIES} {properties!r:.60}: must be an object")
    if source.recommended_patch and len(source.recommended_patch) != len(row["patch_size"]):
        raise CheckpointError(f"{where}: the recommended patch {source.recommended_patch} has other axes than its own")
    return _Pretraining(
        where=where,
        origin=source.origin,
        row=row,
        architecture=source.architecture,
        patch=source.recommended_patch or row["patch_size"],
        channel_names=source.channel_names or [f"channel {i}" for i in range(n)],
        intensities=properties or {},
    )


def _check_spacing(mode: str, spacing: Sequence[float] | None, dim: int) -> None:
    if (mode == "fixed") != (spacing is not None):
        raise ConfigError("--spacing fixed needs --target-spacing with a number per axis, and no other mode takes it")
    if spacing is None:
        return
    given = f"--target-spacing {' '.join(f'{s:g}' for s in spacing)}"
    if len(spacing) != dim or not all(0 < s < math.inf for s in spacing):
        raise ConfigError(f"{given}: give {dim} positive numbers in mm")
    if dim == 3 and spacing[0] < max(spacing):
        raise ConfigError(f"{given}: the distance of slices, the largest, comes first; see `spacing` in plans")


def _check_dimensions(there: _Pretraining, folder: Path) -> None:
    """Check that a network for volumes gets volumes: nnU-Net gives slices a distance of 999 mm, and would resample."""
    path = folder / "dataset_fingerprint.json"
    shapes = read_json(path, dict).get("shapes_after_crop")
    if not isinstance(shapes, list) or not shapes:
        raise CheckpointError(f"{path}: holds no shapes_after_crop; run nnUNetv2_extract_fingerprint again")
    median = [int(n) for n in np.median(shapes, 0)]
    if len(there.row["patch_size"]) == 3 and min(median) == 1:
        raise CheckpointError(
            f"{there.where}: is of a network for volumes, and the images of {folder.name} are single slices "
            f"({' x '.join(map(str, median))} voxels); take the checkpoint of a 2D network"
        )
