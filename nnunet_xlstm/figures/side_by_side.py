"""One slice with all models side by side: a picture per case, and a sheet with a row per case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes

from nnunet_xlstm.choices import PLANES
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.figures.overlay import SAVED
from nnunet_xlstm.figures.planes import Plane, cut_case, draw_filled, draw_image, draw_legend, draw_marks
from nnunet_xlstm.figures.style import new_figure, write_figure

CELL_INCH, MAX_WIDTH_INCH = 2.4, 14.0
LEAST_ROW_INCH, MOST_ROW_INCH = 0.9, 3.4
ROWS_PER_SHEET = 20


@dataclass(frozen=True)
class ModelsCase:
    """A case as all models see it; the label maps lie on the image's grid.

    Attributes:
        predictions: model -> label map.
        title: of the case.
        notes: model -> what is said above its picture.
    """

    image: sitk.Image
    reference: sitk.Image | None
    predictions: Mapping[str, sitk.Image]
    title: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Row:
    """A plane of a case; the masks of the plane are "reference" and the models by number."""

    title: str
    plane: Plane
    labels: list[int]
    window: tuple[float, float]
    notes: Mapping[str, str]


def draw_models(
    path: Path,
    case: ModelsCase,
    *,
    names: Mapping[int, str] | None = None,
    ct_window: tuple[float, float] | None = None,
    style: str = "outline",
    focus: str = "structure",
) -> Path:
    """Write a PNG of one case, a row per plane and a column per model, and return its path.

    All columns show the same planes; the first shows the reference, or the image without one.

    Args:
        path: of the PNG.
        case: image, reference and predictions.
        names: label id -> name, for the legend.
        ct_window: as in `draw_overlay`.
        style: as in `draw_overlay`.
        focus: "structure", or "errors": the slices with the most wrong voxels of all models together.

    Raises:
        DatasetError: the image is neither 2D nor 3D, or style "errors" without a reference.
    """
    rows = [replace(row, title=row.plane.name) for row in _rows(case, style, ct_window, focus)]
    return _draw(path, rows, list(case.predictions), names, style, case.title)


def draw_models_sheets(
    folder: Path,
    cases: Sequence[Callable[[], ModelsCase]],
    *,
    plane: str = PLANES[0],
    names: Mapping[int, str] | None = None,
    ct_window: tuple[float, float] | None = None,
    style: str = "outline",
    focus: str = "structure",
) -> list[Path]:
    """Write _sheet.png with a row per case and a column per model; further sheets after 20 cases.

    Args:
        folder: that gets the sheets.
        cases: each gives its case when called, so that one image at a time is in memory; all have the same models.
        plane: "axial", "coronal" or "sagittal"; a case without it shows its first.
        names: label id -> name, for the legend.
        ct_window: as in `draw_overlay`.
        style: as in `draw_overlay`.
        focus: as in `draw_models`.

    Raises:
        DatasetError: no case, an unknown plane, or as `draw_models`.
    """
    if not cases or plane not in PLANES:
        raise DatasetError(
            f"A sheet of {len(cases)} cases in the plane '{plane}'; give cases, and one of {list(PLANES)}."
        )
    rows, models = [], []
    for load in cases:
        case = load()
        found = _rows(case, style, ct_window, focus)
        rows.append(next((row for row in found if row.plane.name == plane), found[0]))
        models = list(case.predictions)
    paths = []
    for start in range(0, len(rows), ROWS_PER_SHEET):
        number = start // ROWS_PER_SHEET + 1
        path = folder / ("_sheet.png" if number == 1 else f"_sheet_{number}.png")
        paths.append(_draw(path, rows[start : start + ROWS_PER_SHEET], models, names, style, ""))
    return paths


def _rows(case: ModelsCase, style: str, ct_window: tuple[float, float] | None, focus: str) -> list[_Row]:
    if style == "errors" and case.reference is None:
        raise DatasetError("Style 'errors' compares with a reference; give one, or use 'outline'.")
    maps: dict[str, sitk.Image | None] = {"reference": case.reference} | {
        str(i): found for i, found in enumerate(case.predictions.values())
    }
    planes, labels, window = cut_case(case.image, maps, ct_window, focus)
    return [_Row(case.title, plane, labels, window, case.notes) for plane in planes]


def _draw(
    path: Path,
    rows: Sequence[_Row],
    models: Sequence[str],
    names: Mapping[int, str] | None,
    style: str,
    title: str,
) -> Path:
    columns = len(models) + 1
    cell = min(CELL_INCH, MAX_WIDTH_INCH / columns)
    heights = [
        np.clip(cell * row.plane.size_mm[0] / row.plane.size_mm[1], LEAST_ROW_INCH, MOST_ROW_INCH) + 0.2 for row in rows
    ]
    figure = new_figure(cell * columns + 0.3, sum(heights) + 0.8)
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    for i, row in enumerate(rows):
        for j in range(columns):
            ax = figure.add_subplot(grid[i, j])
            draw_image(ax, row.plane, *row.window)
            _mark(ax, row, j - 1, style)
            first = "image" if row.plane.masks["reference"] is None else "reference"
            head, note = (models[j - 1], row.notes.get(models[j - 1], "")) if j else (first, "")
            text = "\n".join(word for word in (head if i == 0 else "", note) if word)
            ax.set_title(text, fontsize=8, parse_math=False)
            if j == 0:
                short = row.title if len(row.title) <= 28 else f"{row.title[:13]}…{row.title[-13:]}"
                at = ax.transAxes
                ax.text(
                    -0.03, 0.5, short, fontsize=8, rotation=90, ha="right", va="center", transform=at, parse_math=False
                )
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    labels = sorted({label for row in rows for label in row.labels})
    draw_legend(figure, names or {}, labels, style, with_labels=True)
    return write_figure(figure, path, **SAVED)


def _mark(ax: Axes, row: _Row, model: int, style: str) -> None:
    """Draw the reference alone in the first column, a model's prediction in the others."""
    masks = {
        "reference": row.plane.masks["reference"],
        "prediction": row.plane.masks[str(model)] if model >= 0 else None,
    }
    plane = replace(row.plane, masks=masks)
    if model < 0 and style != "outline":
        draw_filled(ax, plane, "reference", row.labels)
    else:
        draw_marks(ax, plane, style, "prediction", row.labels)
