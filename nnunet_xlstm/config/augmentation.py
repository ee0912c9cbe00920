"""Keys of the supervised augmentation, and the named augmentations of the papers.

Sources: nnU-Net 2.8.1 (all values in brackets); 3D-Heart_Seg and 3D-SegSync, which list what they do without numbers:
probabilities and ranges are nnU-Net's where it has them, else ours.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from nnunet_xlstm.config.keys import interval, key, share

# Names of `augmentation` -> the keys of AugmentationKeys that it sets; what it leaves out is nnU-Net's.
_OFF: dict[str, Any] = {
    f"{change}_probability": 0.0
    for change in ("rotation", "scaling", "elastic", "mirroring", "noise", "blur", "brightness", "contrast", "shift")
} | {"low_resolution_probability": 0.0, "gamma_probability": 0.0, "inverted_gamma_probability": 0.0}
AUGMENTATIONS: dict[str, dict[str, float | list[float]]] = {
    "nnunet": {},
    # 3D-Heart_Seg names rotation and elastic deformation, and no probability
    "heartseg": _OFF | {"rotation_probability": 0.2, "elastic_probability": 0.2},
    # 3D-SegSync names flips, scaling and zoom, rotation, noise, smoothing, brightness and contrast, AdjustContrast
    # (MONAI's gamma), ShiftIntensity, and crops; again without numbers
    "segsync": {"low_resolution_probability": 0.0, "inverted_gamma_probability": 0.0, "shift_probability": 0.15},
    "none": _OFF,
}
# nnU-Net has no value of its own for these
_OWN_RANGES: dict[str, float | list[float]] = {
    "elastic_sigma": [0.1, 0.2],
    "elastic_magnitude": [0.0, 0.05],
    "shift_sd": 0.1,
}


@dataclass(frozen=True)
class AugmentationKeys:
    """Random changes of training patches.

    `null` keeps what `augmentation` says, and where it is silent, nnU-Net's own value (in brackets). Probabilities are
    per patch; a range is [least, greatest], drawn uniformly.
    """

    augmentation: str = key(
        "nnunet",
        "nnunet: all as nnU-Net does it; heartseg: rotation and elastic deformation alone; segsync: nnU-Net's with an "
        "intensity shift, without low resolution and inverted gamma; none: patches as they are",
        tuple(AUGMENTATIONS),
    )
    rotation_probability: float | None = share("rotation (0.2)")
    rotation_degrees: list[float] | None = interval(
        "angle about each axis; in 2D and with thick slices in the plane ([-30, 30] in 3D; [-180, 180] in 2D and with "
        "thick slices, [-15, 15] for elongated 2D patches)",
        at_least=-180,
        at_most=180,
    )
    scaling_probability: float | None = share("scaling (0.2)")
    scaling_range: list[float] | None = interval("above 1 structures shrink ([0.7, 1.4])", at_least=0.1, at_most=10)
    elastic_probability: float | None = share("elastic deformation (0)")
    elastic_sigma: list[float] | None = interval(
        "smoothness of the displacements, a share of the patch's edge ([0.1, 0.2])", at_least=0.01, at_most=1
    )
    elastic_magnitude: list[float] | None = interval(
        "greatest displacement along an axis, a share of the patch's edge ([0, 0.05])", at_least=0, at_most=0.5
    )
    mirroring_probability: float | None = share(
        "patches that may be mirrored, then along each axis with 1/2 (1); 0 is as mirroring = false"
    )
    mirroring_axes: list[int] | None = key(
        None, "axes that are mirrored in training and prediction, counted as in the plans (all)", at_least=0, at_most=2
    )
    noise_probability: float | None = share("Gaussian noise (0.1)")
    noise_sd: list[float] | None = interval("its standard deviation; images have about 1 ([0, 0.1])", at_least=0)
    blur_probability: float | None = share("Gaussian blur, each channel with 1/2 (0.2)")
    blur_sigma: list[float] | None = interval("voxels ([0.5, 1])", at_least=0.1)
    brightness_probability: float | None = share("all values times a factor (0.15)")
    brightness_factor: list[float] | None = interval("as often below 1 as above ([0.75, 1.25])", at_least=0, contains=1)
    contrast_probability: float | None = share("distance of all values from their mean times a factor (0.15)")
    contrast_factor: list[float] | None = interval("as often below 1 as above ([0.75, 1.25])", at_least=0, contains=1)
    shift_probability: float | None = share("a number added to all values of a channel (0)")
    shift_sd: float | None = key(None, "standard deviation of that number, whose mean is 0 (0.1)", at_least=0)
    low_resolution_probability: float | None = share("down and up again, each channel with 1/2 (0.25)")
    low_resolution_scale: list[float] | None = interval("size in between ([0.5, 1])", at_least=0.05, at_most=1)
    gamma_probability: float | None = share("values to the power of gamma (0.3)")
    inverted_gamma_probability: float | None = share("the same on the inverted image (0.1)")
    gamma_range: list[float] | None = interval("of both; as often below 1 as above ([0.7, 1.5])", 0.05, contains=1)


def augmentation_values(config: AugmentationKeys) -> dict[str, float | list[float] | None]:
    """Return every key of AugmentationKeys but `augmentation`, as the config sets it.

    That is its own value, else the value of its named augmentation, else None, which is nnU-Net's.
    """
    named = AUGMENTATIONS[config.augmentation]
    values: dict[str, float | list[float] | None] = {}
    for name in (f.name for f in dataclasses.fields(AugmentationKeys) if f.name != "augmentation"):
        own = getattr(config, name)
        values[name] = named.get(name, _OWN_RANGES.get(name)) if own is None else own
    return values
