"""A cheap mask of the body: the label that stock planning and preprocessing need where nobody drew one."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

CT_THRESHOLD_HU = -500.0  # between air (-1000) and fat (-100)
MAX_EDGE = 160  # voxels; larger images are masked on a coarser grid
KEPT_SHARE = 0.1  # components at least this large, relative to the largest, stay: both legs, both variants
N_BINS = 256


def body_mask(image: np.ndarray, modality: str) -> np.ndarray:
    """Find the body: above a threshold, the largest component and those of at least a tenth of it, holes filled.

    CT in Hounsfield units is cut at -500 HU, everything else by Otsu's threshold (IEEE Trans. SMC 9, 1979) of the
    square root of the intensity: air and body part better there, since bright fat, contrast agent or uptake count less.

    Args:
        image: (z, y, x), finite.
        modality: "CT", "MR" or "PET".

    Returns:
        (z, y, x) uint8 of 0 and 1. Never empty: falls back to all voxels above the minimum, then to all.
    """
    steps = tuple(slice(None, None, -(-n // MAX_EDGE)) for n in image.shape)
    coarse = np.asarray(image[steps], dtype=np.float32)
    mask = _connected(coarse > threshold(coarse, modality))
    if not mask.any():
        mask = coarse > coarse.min()
    if not mask.any():
        mask[:] = True
    mask = mask.astype(np.uint8)
    for axis, step in enumerate(s.step for s in steps):
        mask = np.repeat(mask, step, axis=axis)
    return np.ascontiguousarray(mask[tuple(slice(n) for n in image.shape)])


def threshold(image: np.ndarray, modality: str) -> float:
    """Choose a threshold between air and body, in the image's unit.

    A CT without negative values is not in Hounsfield units; one that ends above -500 HU shows the body alone.
    """
    low, high = float(image.min()), float(image.max())
    if modality == "CT" and low < 0 and high > CT_THRESHOLD_HU:
        return CT_THRESHOLD_HU
    low, high = (float(v) for v in np.percentile(image, (0.5, 99.5)))
    root = np.sqrt(np.clip(image, low, high) - low)
    return low + otsu(root) ** 2


def otsu(values: np.ndarray) -> float:
    """Find the threshold of most variance between the two classes, from a histogram of 256 bins (Otsu 1979)."""
    counts, edges = np.histogram(values, N_BINS)
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    best = np.nan_to_num(between)
    # between two separate peaks every cut is as good: take the middle of the plateau
    return float(edges[1:-1][best >= best.max() * (1 - 1e-9)].mean())


def _connected(mask: np.ndarray) -> np.ndarray:
    """Keep the large components, and fill their holes in 3D and then slice by slice along every axis.

    Lungs that the field of view opens are closed in some slices at least.
    """
    labels, n = ndimage.label(mask)
    if n == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    mask = ndimage.binary_fill_holes((sizes >= KEPT_SHARE * sizes.max())[labels])
    for axis in range(mask.ndim):
        for plane in np.moveaxis(mask, axis, 0):  # views: filled in place
            plane |= ndimage.binary_fill_holes(plane)
    return mask
