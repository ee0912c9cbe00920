"""One picture per case: the image in three planes with the reference and the prediction on it."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

# Labels 1 to 12, told apart also in print and on grey; later ids get hues a golden angle apart.
PALETTE = (
    "#e6443a", "#3aa0ff", "#37c837", "#ffb000", "#c061ff", "#00cfc8",
    "#ff7fd0", "#b8e600", "#a5672a", "#8f9bff", "#ff8a3d", "#0f9d73",
)  # fmt: skip
MAX_IN_LEGEND = 24
WIDTH_INCH, MAX_HEIGHT_INCH = 10.0, 16.0
PLANES = ("axial", "coronal", "sagittal")


def label_colour(label: int) -> str:
    """The colour of a label id, the same in every picture, as "#rrggbb"."""
    if 1 <= label <= len(PALETTE):
        return PALETTE[label - 1]
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618033988749895 % 1, 0.55 + 0.45 * (label % 2), 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def draw_overlay(
    path: Path,
    image: sitk.Image,
    reference: sitk.Image | None = None,
    prediction: sitk.Image | None = None,
    *,
    names: Mapping[int, str] | None = None,
    title: str = "",
    ct_window: tuple[float, float] | None = None,
    style: Literal["outline", "filled"] = "outline",
) -> Path:
    """Write a PNG and return its path.

    The planes cross in the centre of mass of the reference, or of the prediction if that is empty, or of the image.
    Volumes are shown in patient axes (radiological view) with true proportions.

    Args:
        image: 2D or 3D; the channels of a colour image are averaged.
        reference, prediction: label maps on the image's grid, or None.
        names: label id -> name, for the legend.
        ct_window: (centre, width) in HU; default: the 1st to 99th percentile of the image.
        style: "outline" (reference solid, prediction dashed) or "filled" (reference beside prediction).

    Raises:
        ValueError: a label map is not on the image's grid, or the image is neither 2D nor 3D.
    """
    if style not in ("outline", "filled"):
        raise ValueError(f"Unknown style '{style}'. Valid styles are ['outline', 'filled'].")
    pixels, spacing = _patient_array(image)
    maps = {"reference": reference, "prediction": prediction}
    for kind, label_map in maps.items():
        if label_map is not None and label_map.GetSize() != image.GetSize():
            raise ValueError(
                f"The {kind} has size {label_map.GetSize()}, the image {image.GetSize()} (x, y, z). "
                "Both must be on one grid: resample the label map to the image with nearest neighbours."
            )
    arrays = {kind: None if m is None else _patient_array(m)[0] for kind, m in maps.items()}
    planes = _planes(pixels, spacing, arrays)
    low, high = _window(pixels, ct_window)
    labels = sorted({int(v) for a in arrays.values() if a is not None for v in np.unique(a)} - {0})

    columns = ["outline"] if style == "outline" else list(maps)
    figure, axes = _canvas(planes, columns)
    for (plane, column), ax in axes.items():
        _draw_image(ax, plane, low, high)
        if column == "outline":
            _outlines(ax, plane, labels)
        else:
            _fill(ax, plane, column, labels)
        ax.set_title(plane.name if column == "outline" else f"{plane.name} {column}".strip(), fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    _legend(figure, names or {}, labels, style)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    return path


@dataclass(eq=False)
class _Plane:
    """One cut: `image` and `masks` (kind -> label map or None) have rows downwards; `pixel_mm` is (height, width)."""

    name: str
    image: np.ndarray
    masks: dict[str, np.ndarray | None]
    pixel_mm: tuple[float, float]

    @property
    def size_mm(self) -> tuple[float, float]:
        rows, columns = self.image.shape
        return rows * self.pixel_mm[0], columns * self.pixel_mm[1]


def _patient_array(image: sitk.Image) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array ([z,] y, x) with z to the head, y to the back, x to the left, and its spacing in mm in that order."""
    if image.GetDimension() not in (2, 3):
        raise ValueError(f"An image of {image.GetDimension()} dimensions was given; use 2D or 3D (one frame of 4D).")
    if image.GetDimension() == 3:
        image = sitk.DICOMOrient(image, "LPS")
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array.mean(-1)
    return array, image.GetSpacing()[::-1]


def _window(pixels: np.ndarray, ct_window: tuple[float, float] | None) -> tuple[float, float]:
    if ct_window is not None:
        centre, width = ct_window
        return centre - width / 2, centre + width / 2
    finite = pixels[np.isfinite(pixels)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _centre(shape: tuple[int, ...], arrays: Mapping[str, np.ndarray | None]) -> tuple[int, ...]:
    for array in arrays.values():
        if array is not None and array.any():
            return tuple(round(float(v.mean())) for v in np.nonzero(array))
    return tuple(n // 2 for n in shape)


def _planes(pixels: np.ndarray, spacing: tuple[float, ...], arrays: Mapping[str, np.ndarray | None]) -> list[_Plane]:
    """The planes through the centre; a single slice gives one plane."""
    if pixels.ndim == 2:
        return [_Plane("", pixels, dict(arrays), (spacing[0], spacing[1]))]
    centre = _centre(pixels.shape, arrays)
    planes = []
    for axis, name in enumerate(PLANES):
        rows, columns = (i for i in range(3) if i != axis)
        if min(pixels.shape[rows], pixels.shape[columns]) == 1:
            continue

        def cut(array: np.ndarray | None, axis: int = axis) -> np.ndarray | None:
            if array is None:
                return None
            section = np.take(array, centre[axis], axis)
            return section[::-1] if axis else section  # head up

        masks = {kind: cut(array) for kind, array in arrays.items()}
        planes.append(_Plane(name, cut(pixels), masks, (spacing[rows], spacing[columns])))
    if not planes:
        raise ValueError(f"An image of {pixels.shape} voxels (z, y, x) has no plane to show; two axes need 2 or more.")
    return planes


def _canvas(planes: list[_Plane], columns: list[str]) -> tuple[Figure, dict[tuple[_Plane, str], Axes]]:
    """Axes per (plane, column): outlines in one row, filled maps with one row per plane."""
    heights, widths = zip(*(plane.size_mm for plane in planes), strict=True)
    one_row = columns == ["outline"]
    width_mm = sum(widths) if one_row else len(columns) * max(widths)
    height_mm = max(heights) if one_row else sum(heights)
    scale = min(WIDTH_INCH / width_mm, MAX_HEIGHT_INCH / height_mm)
    figure = Figure(figsize=(max(width_mm * scale, 4), max(height_mm * scale, 1) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    if one_row:
        grid = figure.add_gridspec(1, len(planes), width_ratios=widths)
        cells = {(i, columns[0]): grid[0, i] for i in range(len(planes))}
    else:
        grid = figure.add_gridspec(len(planes), len(columns), height_ratios=heights)
        cells = {(i, column): grid[i, j] for i in range(len(planes)) for j, column in enumerate(columns)}
    return figure, {(planes[i], column): figure.add_subplot(cell) for (i, column), cell in cells.items()}


def _draw_image(ax: Axes, plane: _Plane, low: float, high: float) -> None:
    height, width = plane.size_mm
    ax.imshow(plane.image, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0), interpolation="nearest")
    ax.set_aspect("equal")
    ax.set_axis_off()


def _outlines(ax: Axes, plane: _Plane, labels: list[int]) -> None:
    rows, columns = (np.arange(-1, n + 1) + 0.5 for n in plane.image.shape)
    x, y = columns * plane.pixel_mm[1], rows * plane.pixel_mm[0]
    for kind, line in (("reference", "solid"), ("prediction", "dashed")):
        mask = plane.masks[kind]
        for label in labels:
            if mask is not None and (mask == label).any():
                inside = np.pad((mask == label).astype(float), 1)  # closes outlines at the border
                ax.contour(x, y, inside, [0.5], colors=label_colour(label), linestyles=line, linewidths=1.6)


def _fill(ax: Axes, plane: _Plane, kind: str, labels: list[int]) -> None:
    mask = plane.masks[kind]
    if mask is None:
        return
    colours = np.zeros((*mask.shape, 4))
    for label in labels:
        rgb = [int(label_colour(label)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        colours[mask == label] = (*rgb, 0.55)
    height, width = plane.size_mm
    ax.imshow(colours, extent=(0, width, height, 0), interpolation="nearest")


def _legend(figure: Figure, names: Mapping[int, str], labels: list[int], style: str) -> None:
    """All named labels where they fit, else those of this case; longer lists are cut."""
    shown = sorted(set(names) - {0} | set(labels))
    shown = shown if len(shown) <= MAX_IN_LEGEND else labels
    handles = [Patch(color=label_colour(label), label=names.get(label, str(label))) for label in shown[:MAX_IN_LEGEND]]
    if len(shown) > MAX_IN_LEGEND:
        handles.append(Patch(color="none", label=f"and {len(shown) - MAX_IN_LEGEND} more"))
    if style == "outline":
        handles += [Line2D([], [], color="0.3", ls=ls, label=kind) for kind, ls in
                    (("reference", "solid"), ("prediction", "dashed"))]  # fmt: skip
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), 5), fontsize=8, frameon=False
        )
