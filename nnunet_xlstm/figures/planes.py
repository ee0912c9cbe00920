"""Cuts through an image and its label maps, in patient axes with true proportions, and how they are drawn."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nnunet_xlstm.choices import PLANES
from nnunet_xlstm.errors import DatasetError

# Labels 1 to 12, told apart also in print and on grey; later ids get hues a golden angle apart.
PALETTE = (
    "#e6443a", "#3aa0ff", "#37c837", "#ffb000", "#c061ff", "#00cfc8",
    "#ff7fd0", "#b8e600", "#a5672a", "#8f9bff", "#ff8a3d", "#0f9d73",
)  # fmt: skip
MAX_IN_LEGEND = 24
# Told apart by people who see red and green alike.
ERRORS = {"right": "#4d9de0", "false positive": "#ffb000", "false negative": "#d81b60", "wrong label": "#8e5bd0"}


def label_color(label: int) -> str:
    """Return the color of a label id, the same in every picture, as "#rrggbb"."""
    if 1 <= label <= len(PALETTE):
        return PALETTE[label - 1]
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618033988749895 % 1, 0.55 + 0.45 * (label % 2), 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


@dataclass(eq=False)
class Plane:
    """One cut: `image` and `masks` (kind -> label map or None) have rows downwards; `pixel_mm` is (height, width)."""

    name: str
    image: np.ndarray
    masks: dict[str, np.ndarray | None]
    pixel_mm: tuple[float, float]

    @property
    def size_mm(self) -> tuple[float, float]:
        """(height, width)."""
        rows, columns = self.image.shape
        return rows * self.pixel_mm[0], columns * self.pixel_mm[1]


def patient_array(image: sitk.Image) -> tuple[np.ndarray, tuple[float, ...]]:
    """Turn an image into an array ([z,] y, x) in patient axes, and its spacing in mm in that order.

    z goes to the head, y to the back, x to the left.

    Raises:
        DatasetError: the image is neither 2D nor 3D.
    """
    if image.GetDimension() not in (2, 3):
        raise DatasetError(f"An image of {image.GetDimension()} dimensions was given; use 2D or 3D (one frame of 4D).")
    if image.GetDimension() == 3:
        image = sitk.DICOMOrient(image, "LPS")
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array.mean(-1)
    return array, image.GetSpacing()[::-1]


def gray_window(pixels: np.ndarray, ct_window: tuple[float, float] | None) -> tuple[float, float]:
    """Return the values shown as black and white; ct_window: (center, width), None for percentiles 1 and 99."""
    if ct_window is not None:
        center, width = ct_window
        return center - width / 2, center + width / 2
    finite = pixels[np.isfinite(pixels)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _center(shape: tuple[int, ...], arrays: Mapping[str, np.ndarray | None], focus: str) -> tuple[int, ...]:
    """Return where the planes cross.

    In the middle of the first map that is not empty; with `focus` "errors" on each axis in the slice with the most
    voxels that differ.
    """
    reference = arrays.get("reference")
    others = [array for kind, array in arrays.items() if kind != "reference" and array is not None]
    if focus == "errors" and reference is not None and others:
        wrong = sum((reference != array).astype(np.int64) for array in others)
        if wrong.any():
            axes = range(wrong.ndim)
            return tuple(int(wrong.sum(axis=tuple(a for a in axes if a != axis)).argmax()) for axis in axes)
    for array in arrays.values():
        if array is not None and array.any():
            return tuple(round(float(v.mean())) for v in np.nonzero(array))
    return tuple(n // 2 for n in shape)


def cut_planes(
    pixels: np.ndarray, spacing: tuple[float, ...], arrays: Mapping[str, np.ndarray | None], focus: str = "structure"
) -> list[Plane]:
    """Cut planes through the middle of the structure, or through the most errors; a single slice gives one plane.

    Raises:
        DatasetError: no plane has two axes of 2 or more voxels.
    """
    if pixels.ndim == 2:
        return [Plane("", pixels, dict(arrays), (spacing[0], spacing[1]))]
    center = _center(pixels.shape, arrays, focus)
    planes = []
    for axis, name in enumerate(PLANES):
        rows, columns = (i for i in range(3) if i != axis)
        if min(pixels.shape[rows], pixels.shape[columns]) == 1:
            continue

        def cut(array: np.ndarray, axis: int = axis) -> np.ndarray:
            section = np.take(array, center[axis], axis)
            return section[::-1] if axis else section  # head up

        masks = {kind: None if array is None else cut(array) for kind, array in arrays.items()}
        planes.append(Plane(name, cut(pixels), masks, (spacing[rows], spacing[columns])))
    if not planes:
        raise DatasetError(
            f"An image of {pixels.shape} voxels (z, y, x) has no plane to show; two axes need 2 or more."
        )
    return planes


def cut_case(
    image: sitk.Image, maps: Mapping[str, sitk.Image | None], ct_window: tuple[float, float] | None, focus: str
) -> tuple[list[Plane], list[int], tuple[float, float]]:
    """Return the planes of a case, the label ids of its maps, and the values shown as black and white.

    Args:
        image: 2D or 3D.
        maps: kind -> label map on its grid, or None.
        ct_window: see `gray_window`.
        focus: of choices.FOCUSES.

    Raises:
        DatasetError: the image is neither 2D nor 3D, or no plane has two axes of 2 or more voxels.
    """
    pixels, spacing = patient_array(image)
    arrays = {kind: None if found is None else patient_array(found)[0] for kind, found in maps.items()}
    labels = sorted({int(v) for a in arrays.values() if a is not None for v in np.unique(a)} - {0})
    return cut_planes(pixels, spacing, arrays, focus), labels, gray_window(pixels, ct_window)


def draw_image(ax: Axes, plane: Plane, low: float, high: float) -> None:
    """Draw the image of a plane in gray, in mm; low and high are black and white."""
    height, width = plane.size_mm
    ax.imshow(plane.image, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0), interpolation="nearest")
    ax.set_aspect("equal")
    ax.set_axis_off()


def draw_marks(ax: Axes, plane: Plane, style: str, kind: str, labels: list[int]) -> None:
    """Draw the label maps of a plane in a style of choices.STYLES; "filled" draws those of one kind."""
    if style == "outline":
        _draw_outlines(ax, plane, labels)
    elif style == "filled":
        draw_filled(ax, plane, kind, labels)
    else:
        _draw_errors(ax, plane)


def _draw_outlines(ax: Axes, plane: Plane, labels: list[int]) -> None:
    """Draw the outlines of labels: reference solid, prediction dashed."""
    rows, columns = (np.arange(-1, n + 1) + 0.5 for n in plane.image.shape)
    x, y = columns * plane.pixel_mm[1], rows * plane.pixel_mm[0]
    for kind, line in (("reference", "solid"), ("prediction", "dashed")):
        mask = plane.masks[kind]
        for label in labels:
            if mask is not None and (mask == label).any():
                inside = np.pad((mask == label).astype(float), 1)  # closes outlines at the border
                ax.contour(x, y, inside, [0.5], colors=label_color(label), linestyles=line, linewidths=1.6)


def draw_filled(ax: Axes, plane: Plane, kind: str, labels: list[int]) -> None:
    """Fill the labels of "reference" or "prediction"."""
    mask = plane.masks[kind]
    if mask is not None:
        _draw_masks(ax, plane, [(mask == label, label_color(label)) for label in labels])


def _draw_errors(ax: Axes, plane: Plane) -> None:
    """Fill agreement and the three kinds of error of the prediction."""
    reference, prediction = plane.masks["reference"], plane.masks["prediction"]
    if reference is None or prediction is None:
        return
    kinds = {
        "right": (reference == prediction) & (reference != 0),
        "false positive": (reference == 0) & (prediction != 0),
        "false negative": (reference != 0) & (prediction == 0),
        "wrong label": (reference != prediction) & (reference != 0) & (prediction != 0),
    }
    _draw_masks(ax, plane, [(kinds[kind], color) for kind, color in ERRORS.items()])


def _draw_masks(ax: Axes, plane: Plane, masks: list[tuple[np.ndarray, str]]) -> None:
    height, width = plane.size_mm
    colors = np.zeros((*plane.image.shape, 4))
    for mask, color in masks:
        colors[mask] = (*(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)), 0.55)
    ax.imshow(colors, extent=(0, width, height, 0), interpolation="nearest")


def draw_legend(
    figure: Figure, names: Mapping[int, str], labels: list[int], style: str, with_labels: bool = False
) -> None:
    """Draw a legend of all named labels where they fit, else of this case; the errors have their own.

    Args:
        figure: that gets it.
        names: label id -> name.
        labels: ids that the pictures show.
        style: of choices.STYLES.
        with_labels: show the labels too where the style is "errors".
    """
    handles: list[Artist] = []
    if style == "errors":
        handles += [Patch(color=color, label=kind) for kind, color in ERRORS.items()]
    if style != "errors" or with_labels:
        shown = sorted(set(names) - {0} | set(labels))
        shown = shown if len(shown) <= MAX_IN_LEGEND else labels
        handles += [Patch(color=label_color(i), label=names.get(i, str(i)) or str(i)) for i in shown[:MAX_IN_LEGEND]]
        if len(shown) > MAX_IN_LEGEND:
            handles.append(Patch(color="none", label=f"and {len(shown) - MAX_IN_LEGEND} more"))
    if style == "outline":
        lines = (("reference", "solid"), ("prediction", "dashed"))
        handles += [Line2D([], [], color="0.3", ls=ls, label=kind) for kind, ls in lines]
    legend_below(figure, handles, min(len(handles), 5))


def legend_below(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """Draw a legend of labels below the axes; none without handles."""
    if handles:
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)  # names may hold anything
