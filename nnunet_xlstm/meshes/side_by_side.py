"""The surfaces of a reference and of several predictions in one picture, from the same camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_xlstm.figures.style import write_figure
from nnunet_xlstm.meshes.mesh import Mesh
from nnunet_xlstm.meshes.render import (
    DPI,
    PIXELS,
    VIEWS,
    corner_normals,
    cut_depth,
    extent,
    figure_with_legend,
    is_cut,
    only,
    render_view,
    scale_bar,
)

MAX_WIDTH_PIXELS = 2000  # of all columns together


def draw_meshes(
    path: Path,
    meshes: Mapping[str, Mesh],
    labels: Sequence[int],
    *,
    names: Mapping[int, str] | None = None,
    title: str = "",
    renderer: str = "numpy",
) -> Path:
    """Write a PNG, one column per mesh and one row per view, and return its path.

    All columns have one camera, scale and cut, so that what differs is the surface.

    Args:
        path: of the PNG.
        meshes: title of a column -> mesh in mm, LPS.
        labels: which to show.
        names: label id -> name.
        title: printed above.
        renderer: "numpy" or "pyvista", see choose_renderer.
    """
    shown = {column: only(mesh, labels) for column, mesh in meshes.items()}
    normals = {column: corner_normals(mesh) for column, mesh in shown.items()}
    everything = list(shown.values())
    boxes = {view: extent(everything, axes) for view, axes in VIEWS.items()}
    widest = max(size[0] for _, size in boxes.values())
    tallest = max(size[1] for _, size in boxes.values())
    mm_per_pixel = max(max(widest, tallest) / PIXELS, widest * len(shown) / MAX_WIDTH_PIXELS)
    inch = 1 / (mm_per_pixel * DPI)
    heights = [size[1] * inch + 0.3 for _, size in boxes.values()]
    wide = max(widest * inch * len(shown) + 0.8, 5)
    figure = figure_with_legend(wide, sum(heights) + 1.0, labels, names, title)
    grid = figure.add_gridspec(len(VIEWS), len(shown), height_ratios=heights)
    for i, (view, axes) in enumerate(VIEWS.items()):
        center, (_, height) = boxes[view]
        pixels = max(round(height / mm_per_pixel), 1), max(round(widest / mm_per_pixel), 1)
        cut = cut_depth(everything, axes) if is_cut(view) else None
        for j, (column, mesh) in enumerate(shown.items()):
            ax = figure.add_subplot(grid[i, j])
            image = render_view(mesh, normals[column], axes, center, mm_per_pixel, pixels, cut, renderer)
            ax.imshow(image, interpolation="bilinear")
            ax.set_axis_off()
            if i == 0:
                ax.set_title(column, fontsize=9, parse_math=False)
            if j == 0:
                ax.text(-0.02, 0.5, view, rotation=90, fontsize=8, ha="right", va="center", transform=ax.transAxes)
            if i == len(VIEWS) - 1:
                ax.set_ylim(pixels[0] + 28, -0.5)  # room for the bar
                if j == 0:
                    scale_bar(ax, pixels, mm_per_pixel)
    return write_figure(figure, path, dpi=DPI, facecolor="white")
