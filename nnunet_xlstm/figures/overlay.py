"""Pictures of segmentations: the image in three planes with the reference and the prediction on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_xlstm.choices import FOCUSES, STYLES
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.figures.planes import Plane, cut_case, draw_image, draw_legend, draw_marks
from nnunet_xlstm.figures.style import new_figure, write_figure
from nnunet_xlstm.imaging.grid import check_same_grid

WIDTH_INCH, MAX_HEIGHT_INCH = 10.0, 16.0
CT_WINDOW = (50.0, 700.0)  # center and width in HU: blood with contrast, muscle and fat all differ
SAVED = {"dpi": 110, "bbox_inches": "tight", "facecolor": "white"}
SHEET_ROW_INCH, MAX_ROW_INCH = 2.4, 3.6


@dataclass(frozen=True)
class Case:
    """What one picture shows; the label maps lie on the image's grid, or are None.

    Attributes:
        image: 2D or 3D; the channels of a colour image are averaged.
        title: printed above.
    """

    image: sitk.Image
    reference: sitk.Image | None = None
    prediction: sitk.Image | None = None
    title: str = ""


def draw_overlay(
    path: Path,
    image: sitk.Image,
    reference: sitk.Image | None = None,
    prediction: sitk.Image | None = None,
    *,
    names: Mapping[int, str] | None = None,
    title: str = "",
    ct_window: tuple[float, float] | None = None,
    style: str = "outline",
    focus: str = "structure",
) -> Path:
    """Write a PNG of one case and return its path.

    The planes cross in the centre of mass of the reference, or of the prediction if that is empty, or of the image.
    Volumes are shown in patient axes (radiological view) with true proportions.

    Args:
        path: of the PNG.
        image: 2D or 3D, as in `Case`.
        reference: label map on the image's grid, or None.
        prediction: likewise.
        names: label id -> name, for the legend.
        title: printed above.
        ct_window: (center, width) in HU; default: the 1st to 99th percentile of the image.
        style: "outline" (reference solid, prediction dashed), "filled" (reference beside prediction) or "errors"
            (right, false positive, false negative, wrong label).
        focus: "structure", or "errors": the slices with the most wrong voxels.

    Raises:
        DatasetError: a label map is not on the image's grid, the image is neither 2D nor 3D, or an unknown style.
    """
    planes, labels, window = _prepare(Case(image, reference, prediction), style, ct_window, focus)
    columns = ["reference", "prediction"] if style == "filled" else [style]
    figure, axes = _canvas(planes, columns)
    for (plane, column), ax in axes.items():
        draw_image(ax, plane, *window)
        draw_marks(ax, plane, style, column, labels)
        ax.set_title(f"{plane.name} {column}".strip() if style == "filled" else plane.name, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    draw_legend(figure, names or {}, labels, style)
    return write_figure(figure, path, **SAVED)


def draw_sheet(
    path: Path,
    cases: Sequence[Callable[[], Case]],
    *,
    names: Mapping[int, str] | None = None,
    ct_window: tuple[float, float] | None = None,
    style: str = "errors",
    focus: str = "errors",
) -> Path:
    """Write a contact sheet, one row of planes per case, and return its path.

    Args:
        path: of the PNG.
        cases: each gives its case when called, so that one image at a time is in memory.
        names: label id -> name, for the legend.
        ct_window: as in `draw_overlay`.
        style: as in `draw_overlay`; "filled" shows the prediction.
        focus: as in `draw_overlay`.

    Raises:
        DatasetError: no case, or as `draw_overlay`.
    """
    if not cases:
        raise DatasetError("A contact sheet of no cases was asked for; give at least one.")
    rows, labels = [], set()
    for load in cases:
        case = load()
        planes, present, window = _prepare(case, style, ct_window, focus)
        labels.update(present)
        rows.append((case.title, planes, present, window))
    heights = [_row_height(planes) for _, planes, _, _ in rows]
    figure = new_figure(WIDTH_INCH, sum(heights) + 0.8)
    parts = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (title, planes, present, window) in zip(parts, rows, strict=True):
        part.suptitle(title, fontsize=9, x=0.01, ha="left", parse_math=False)
        axes = part.subplots(1, len(planes), width_ratios=[plane.size_mm[1] for plane in planes], squeeze=False)[0]
        for ax, plane in zip(axes, planes, strict=True):
            draw_image(ax, plane, *window)
            draw_marks(ax, plane, style, "prediction", present)
    draw_legend(figure, names or {}, sorted(labels), style)
    return write_figure(figure, path, **SAVED)


def _prepare(
    case: Case, style: str, ct_window: tuple[float, float] | None, focus: str
) -> tuple[list[Plane], list[int], tuple[float, float]]:
    """Return planes, label ids and gray window of a case, after all checks."""
    for name, value, valid in (("style", style, STYLES), ("focus", focus, FOCUSES)):
        if value not in valid:
            raise DatasetError(f"Unknown {name} '{value}'. Valid are {list(valid)}.")
    maps = {"reference": case.reference, "prediction": case.prediction}
    if style == "errors" and None in maps.values():
        raise DatasetError("Style 'errors' compares a reference with a prediction; give both, or use 'outline'.")
    for what, label_map in maps.items():
        if label_map is not None:
            check_same_grid(case.image, label_map, ("image", what))
    return cut_case(case.image, maps, ct_window, focus)


def _row_height(planes: list[Plane]) -> float:
    """Return the inches that a row of planes takes at full width, within limits."""
    heights, widths = zip(*(plane.size_mm for plane in planes), strict=True)
    return min(max(WIDTH_INCH * max(heights) / sum(widths), SHEET_ROW_INCH), MAX_ROW_INCH) + 0.3


def _canvas(planes: list[Plane], columns: list[str]) -> tuple[Figure, dict[tuple[Plane, str], Axes]]:
    """Make axes per (plane, column): one column in one row, several with one row per plane."""
    heights, widths = zip(*(plane.size_mm for plane in planes), strict=True)
    one_row = len(columns) == 1
    width_mm = sum(widths) if one_row else len(columns) * max(widths)
    height_mm = max(heights) if one_row else sum(heights)
    scale = min(WIDTH_INCH / width_mm, MAX_HEIGHT_INCH / height_mm)
    figure = new_figure(max(width_mm * scale, 4), max(height_mm * scale, 1) + 0.6)
    if one_row:
        grid = figure.add_gridspec(1, len(planes), width_ratios=widths)
        cells = {(i, columns[0]): grid[0, i] for i in range(len(planes))}
    else:
        grid = figure.add_gridspec(len(planes), len(columns), height_ratios=heights)
        cells = {(i, column): grid[i, j] for i in range(len(planes)) for j, column in enumerate(columns)}
    return figure, {(planes[i], column): figure.add_subplot(cell) for (i, column), cell in cells.items()}
