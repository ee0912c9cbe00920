"""nnU-Net's augmentation with the changes that a config asks for, and the random numbers of its workers.

nnU-Net builds the pipeline; here its transforms get other probabilities and ranges, or are left as they are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import (
    BrightnessAdditiveTransform,
    MultiplicativeBrightnessTransform,
)
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.loading.workers import enter_worker

STOCK_SCALES = (0.85, 1.25)  # what nnU-Net enlarges the loaded patch for

# transform -> (prefix of its probability, its attribute, the key of that)
_INTENSITY: dict[type, tuple[str, str, str]] = {
    GaussianNoiseTransform: ("noise", "noise_variance", "noise_sd"),  # the attribute is used as standard deviation
    GaussianBlurTransform: ("blur", "blur_sigma", "blur_sigma"),
    MultiplicativeBrightnessTransform: ("brightness", "multiplier_range", "brightness_factor"),
    ContrastTransform: ("contrast", "contrast_range", "contrast_factor"),
    SimulateLowResolutionTransform: ("low_resolution", "scale", "low_resolution_scale"),
    GammaTransform: ("gamma", "gamma", "gamma_range"),
}


@dataclass(frozen=True)
class ShareOfEdge:
    """Draw a length in voxels as a share of the patch's edge, where a transform takes a function for a number."""

    least: float
    greatest: float

    def __call__(self, *_, patch_size: Sequence[int], dim: int, **__) -> float:
        """Draw a length along axis `dim` of a patch, in voxels."""
        return float(np.random.uniform(self.least, self.greatest) * patch_size[dim])


def change_transforms(pipeline: ComposeTransforms, values: Mapping) -> ComposeTransforms:
    """Give nnU-Net's training transforms the probabilities and ranges of a config, in place.

    Angles and axes of mirroring are not among them: nnU-Net's `get_training_transforms` takes them as arguments.

    Args:
        pipeline: nnU-Net's.
        values: as `config.augmentation.augmentation_values` returns them; None leaves nnU-Net's own.

    Raises:
        RuntimeError: nnU-Net's pipeline lacks a transform that the values change.
    """
    found, transforms = set(), []
    for transform in pipeline.transforms:
        inner = transform.transform if isinstance(transform, RandomTransform) else transform
        found.add(type(inner))
        if isinstance(inner, SpatialTransform):
            _change_spatial(inner, values)
        elif isinstance(inner, MirrorTransform) and values["mirroring_probability"] is not None:
            transform = RandomTransform(inner, values["mirroring_probability"])
        elif type(inner) in _INTENSITY:
            _change_intensity(transform, inner, values)
        transforms.append(transform)
        if isinstance(inner, ContrastTransform) and values["shift_probability"]:
            # channels apart: synchronized, that transform would draw uniformly from [mean, deviation]
            shift = BrightnessAdditiveTransform(0.0, values["shift_sd"], synchronize_channels=False)
            transforms.append(RandomTransform(shift, values["shift_probability"]))
    if missing := {SpatialTransform, *_INTENSITY} - found:
        names = ", ".join(sorted(kind.__name__ for kind in missing))
        raise RuntimeError(f"nnU-Net's training transforms hold no {names}: this nnU-Net differs from 2.8.1")
    pipeline.transforms = transforms
    return pipeline


def _change_spatial(transform: SpatialTransform, values: Mapping) -> None:
    if values["rotation_probability"] is not None:
        transform.p_rotation = values["rotation_probability"]
    if values["scaling_probability"] is not None:
        transform.p_scaling = values["scaling_probability"]
    if values["scaling_range"] is not None:
        transform.scaling = tuple(values["scaling_range"])
    if values["elastic_probability"]:
        transform.p_elastic_deform = values["elastic_probability"]
        transform.elastic_deform_scale = tuple(values["elastic_sigma"])
        transform.elastic_deform_magnitude = ShareOfEdge(*values["elastic_magnitude"])


def _change_intensity(random: RandomTransform, inner: BasicTransform, values: Mapping) -> None:
    prefix, attribute, key = _INTENSITY[type(inner)]
    if isinstance(inner, GammaTransform) and inner.p_invert_image:
        prefix = "inverted_gamma"
    if (probability := values[f"{prefix}_probability"]) is not None:
        random.apply_probability = probability
    if (limits := values[key]) is not None:
        stock = getattr(inner, attribute)
        setattr(inner, attribute, BGContrast(tuple(limits)) if isinstance(stock, BGContrast) else tuple(limits))


def rotation_range(values: Mapping, stock: tuple[float, float]) -> tuple[float, float]:
    """Return the angles to draw from, in radians."""
    degrees = values["rotation_degrees"]
    return stock if degrees is None else (math.radians(degrees[0]), math.radians(degrees[1]))


def loaded_patch_size(
    patch: Sequence[int], rotation: tuple[float, float], values: Mapping, planar: bool, stock: np.ndarray
) -> np.ndarray:
    """Return the size of the patch that is cut from the image before it is rotated and deformed, in voxels.

    Args:
        patch: what the network gets.
        rotation: angles to draw from, in radians.
        values: as `config.augmentation.augmentation_values` returns them.
        planar: slices are rotated and deformed one like the other (axis 0 stays).
        stock: nnU-Net's answer, which holds where the config changes neither rotation nor elastic deformation.
    """
    size = np.array(stock)
    if values["rotation_degrees"] is not None:
        size = np.array(get_patch_size(patch, rotation, rotation, rotation, STOCK_SCALES))
    if values["elastic_probability"]:
        size = size + 2 * np.ceil(values["elastic_magnitude"][1] * np.array(patch)).astype(int)
    if planar:
        size[0] = patch[0]
    return size


def mirror_axes(values: Mapping, n_axes: int, stock: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axes that training and prediction mirror; None where neither does.

    Raises:
        ConfigError: the patch lacks one of the axes.
    """
    axes = stock if values["mirroring_axes"] is None else tuple(values["mirroring_axes"])
    if beyond := [axis for axis in axes if axis >= n_axes]:
        raise ConfigError(
            f"mirroring_axes {list(axes)}: the patch has no axis {beyond[0]}; give axes from 0 to {n_axes - 1}, in the "
            "order of the plans"
        )
    return None if values["mirroring_probability"] == 0 or not axes else axes


class ReseedPerWorker:
    """A transform that prepares a new process, an augmentation worker, at its first call there (`enter_worker`)."""

    def __init__(self, transform: Callable[..., dict]):
        self.transform = transform
        self._pid = os.getpid()

    def __call__(self, **data) -> dict:
        """Transform a sample; prepare the process before the first one."""
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            enter_worker()
        return self.transform(**data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "transform":
            raise AttributeError(name)
        return getattr(self.transform, name)
