"""Views of an image for student and teacher: parameters are drawn first, then applied.

All views of an image are cut from one parent crop. A view is a box of whole voxels, resampled to the view's size, then
mirrored, then changed in intensity. Boxes and flips stay known, so a point can be followed from one view to another.
Crops after DINO (Caron et al. 2021) and 3DINO; the single changes of intensity are batchgeneratorsv2's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from torch import Tensor
from torch.nn.functional import interpolate

from nnunet_xlstm.config.pretraining import ViewKeys
from nnunet_xlstm.errors import ConfigError

THICK = 3.0  # an axis whose spacing is this many times the finest is one of thick slices
ASPECT = (0.9, 1.11)  # of the edges of a box
OVERLAP_TRIES = 20
MODES = {2: "bilinear", 3: "trilinear"}


class Uniform(Protocol):
    """Generator of random numbers, NumPy's global one too."""

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw a number."""


class Solarize(ImageOnlyTransform):
    """Reflects the intensities above a random quantile: x -> 2q - x (BYOL, DINO; for images without a fixed range)."""

    def __init__(self, quantiles: tuple[float, float] = (0.5, 0.95)):
        super().__init__()
        self.quantiles = quantiles

    def get_parameters(self, **data_dict) -> dict:
        """Draw the quantile."""
        return {"quantile": float(np.random.uniform(*self.quantiles))}

    def _apply_to_image(self, image: Tensor, quantile: float) -> Tensor:
        values = image.reshape(-1)[:: max(1, image.numel() // 4096)]  # torch limits quantiles to 16 M values
        threshold = torch.quantile(values, quantile)
        return torch.where(image > threshold, 2 * threshold - image, image)


_noise = partial(GaussianNoiseTransform, noise_variance=(0, 0.1), synchronize_channels=True)
_blur = partial(GaussianBlurTransform, blur_sigma=(0.5, 1.5), synchronize_channels=False, synchronize_axes=False)
_brightness = partial(MultiplicativeBrightnessTransform, BGContrast((0.75, 1.25)), synchronize_channels=False)
_contrast = partial(ContrastTransform, BGContrast((0.75, 1.25)), preserve_range=True, synchronize_channels=False)
_low_resolution = partial(SimulateLowResolutionTransform, (0.5, 1), False, synchronize_axes=True, ignore_axes=None)
_gamma = partial(
    GammaTransform, BGContrast((0.7, 1.5)), p_invert_image=0, synchronize_channels=False, p_per_channel=1,
    p_retain_stats=1,
)  # fmt: skip

# preset -> (transform, probability, the one global view it is used on, counted from 0; None: all views)
INTENSITY = {
    "standard": (
        (_noise, 0.15, None),
        (_blur, 0.25, None),
        (_brightness, 0.3, None),
        (_contrast, 0.3, None),
        (_low_resolution, 0.25, None),
        (_gamma, 0.3, None),
        (Solarize, 0.2, 1),
    ),
    "heartseg": ((_noise, 0.2, None), (_blur, 0.3, None), (_brightness, 0.5, None), (_contrast, 0.5, None)),
    "segsync": (
        (_brightness, 0.5, None),
        (_contrast, 0.5, None),
        (_gamma, 0.3, None),
        (_blur, 0.3, None),
        (Solarize, 0.2, 1),
    ),
    "none": (),
}


@dataclass
class View:
    """One view, drawn but not yet made.

    Attributes:
        start: the box in voxels of the parent crop, one number per axis.
        size: the box in voxels of the parent crop, one number per axis.
        flip: per axis, whether the view is mirrored.
        intensity: (transform, its parameters) in order; filled by `Views.draw_intensity`.
    """

    start: np.ndarray
    size: np.ndarray
    flip: np.ndarray
    intensity: list[tuple[ImageOnlyTransform, dict]] = field(default_factory=list)


class Views:
    """Draws and makes the views of an image.

    Args:
        patch_size: voxels of a global view (2 or 3 axes).
        spacing: of those axes, in mm; an axis at least `THICK` times the finest has its own range of scales, and its
            parent crop is no longer than the patch, so that thick slices are hardly resampled.
        config: ViewKeys.
        mirroring: allow flips.
        local_patch_size: voxels of a local view.

    Raises:
        ConfigError: a range of scales that is empty, or an overlap that no two boxes can have.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        spacing: Sequence[float],
        config: ViewKeys,
        mirroring: bool,
        local_patch_size: Sequence[int] | None = None,
    ):
        for name, low in (
            ("crop_scale_min", config.crop_scale_min),
            ("through_plane_scale_min", config.through_plane_scale_min),
        ):
            if low > config.crop_scale_max or config.crop_scale_max > 1:
                raise ConfigError(
                    f"{name} = {low:g}, crop_scale_max = {config.crop_scale_max:g}: give 0 < {name} <= crop_scale_max "
                    "<= 1, shares of the parent crop's edge"
                )
        if config.min_overlap > 1:
            raise ConfigError(f"min_overlap = {config.min_overlap:g}: it is a share of a view's volume; give 0 to 1")
        self.patch_size = np.array(patch_size, int)
        self.local_patch_size = np.array(patch_size if local_patch_size is None else local_patch_size, int)
        self.config, self.mirroring = config, mirroring
        finest = min(spacing)
        self.thick = np.array([s / finest >= THICK for s in spacing])
        self.parent_size = np.where(self.thick, self.patch_size, np.ceil(self.patch_size * config.parent_scale)).astype(
            int
        )
        self.changes = [(make(), probability, only) for make, probability, only in INTENSITY[config.intensity]]

    # ---- drawing

    def draw(self, parent_size: Sequence[int], rng: Uniform = np.random) -> tuple[list[View], list[View]]:
        """Draw two global views and `n_local_crops` local ones of a crop of `parent_size` voxels, without intensity."""
        parent = np.array(parent_size, int)
        c = self.config
        first = self._box(parent, c.crop_scale_min, c.crop_scale_max, rng)
        second = None
        for _ in range(OVERLAP_TRIES):
            box = self._box(parent, c.crop_scale_min, c.crop_scale_max, rng)
            if overlap(first, box) >= c.min_overlap:
                second = box
                break
        boxes = [first, second or first]
        local = [self._box(parent, c.crop_scale_min / 2, c.crop_scale_min, rng) for _ in range(c.n_local_crops)]
        views = [View(start, size, self._flip(rng)) for start, size in boxes + local]
        return views[:2], views[2:]

    def _box(self, parent: np.ndarray, low: float, high: float, rng: Uniform) -> tuple[np.ndarray, np.ndarray]:
        """Draw one scale for all axes times a small aspect; axes of thick slices have their own scale."""
        scale = rng.uniform(low, high) * np.array([rng.uniform(*ASPECT) for _ in parent])
        through = rng.uniform(min(self.config.through_plane_scale_min, high), high)
        share = np.clip(np.where(self.thick, through, scale), low, high)
        size = np.clip(np.rint(parent * share), 1, parent).astype(int)
        start = np.array([int(rng.uniform(0, room + 1)) for room in parent - size])
        return np.minimum(start, parent - size), size

    def _flip(self, rng: Uniform) -> np.ndarray:
        return np.array([self.mirroring and rng.uniform() < 0.5 for _ in self.patch_size])

    def draw_intensity(self, view: View, index: int, image: Tensor) -> None:
        """Draw the changes of intensity of view `index` (0 and 1 are the global ones) from the global generators."""
        for transform, probability, only in self.changes:
            if only in (None, index) and np.random.uniform() < probability:
                view.intensity.append((transform, transform.get_parameters(image=image)))

    # ---- making

    @staticmethod
    def cut(parent: Tensor, view: View, size: Sequence[int] | np.ndarray) -> Tensor:
        """Cut the view's box from `parent` (C, *parent_size), resample it to `size` voxels and mirror it."""
        box = (slice(None), *(slice(a, a + n) for a, n in zip(view.start, view.size, strict=True)))
        image = parent[box]
        if tuple(image.shape[1:]) != tuple(size):
            mode = MODES[len(size)]
            image = interpolate(image[None], [int(n) for n in size], mode=mode, align_corners=False)[0]
        axes = [1 + int(axis) for axis in np.flatnonzero(view.flip)]
        return image.flip(axes) if axes else image.clone()

    @staticmethod
    def change(image: Tensor, view: View) -> Tensor:
        """Apply the view's changes of intensity; `image` may be overwritten."""
        for transform, parameters in view.intensity:
            image = transform.apply({"image": image}, **parameters)["image"]
        return image

    def make(self, parents: Sequence[Tensor], rng: Uniform = np.random) -> dict[str, Tensor]:
        """Draw and make all views of one image.

        Args:
            parents: the parent crop (C, *parent_size) of the first view, and optionally another one of the same box
                (another time frame) for the second view.
            rng: for the boxes; intensities use the global generators.

        Returns:
            `global_views` (2, C, *patch), `boxes` (2, D, 2), `flips` (2, D), and, if there are any, `local_views`
            (n, C, *local_patch): the fields of ViewBatch for one image.
        """
        size = parents[0].shape[1:]
        global_views, local_views = self.draw(size, rng)
        made = []
        for i, view in enumerate(global_views + local_views):
            is_global = i < 2
            target = self.patch_size if is_global else self.local_patch_size
            image = self.cut(parents[i if is_global and len(parents) > 1 else 0], view, target)
            self.draw_intensity(view, i, image)
            made.append(self.change(image, view))
        shares = np.stack([np.stack((v.start, v.size), -1) / np.array(size)[:, None] for v in global_views])
        fields = {
            "global_views": torch.stack(made[:2]),
            "boxes": torch.from_numpy(shares).float(),
            "flips": torch.from_numpy(np.stack([v.flip for v in global_views])),
        }
        return fields | ({"local_views": torch.stack(made[2:])} if local_views else {})


def overlap(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the common volume of two boxes (start, size) as a share of the smaller one's."""
    low = np.maximum(one[0], other[0])
    high = np.minimum(one[0] + one[1], other[0] + other[1])
    common = np.prod(np.maximum(high - low, 0))
    return float(common / min(np.prod(one[1]), np.prod(other[1])))


@dataclass
class ViewBatch:
    """Views of B images and where in their parent crops they come from (D axes, 2 or 3; C channels).

    Attributes:
        global_views: (B, 2, C, *patch).
        boxes: (B, 2, D, 2), start and size of each global view as a share of the parent crop's edge.
        flips: (B, 2, D) bool, whether the view was mirrored along the axis after it was cut out.
        local_views: (B, n_local_crops, C, *local_patch), or None.
        subjects: (B,) numbers, the same for images of one subject; None: every image is of somebody else.
    """

    global_views: Tensor
    boxes: Tensor
    flips: Tensor
    local_views: Tensor | None = None
    subjects: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ViewBatch:
        """Return the batch on `device`."""
        tensors = {name: value for name, value in vars(self).items() if value is not None}
        return ViewBatch(**{name: value.to(device, non_blocking=non_blocking) for name, value in tensors.items()})
