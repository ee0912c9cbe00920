"""A picture of the meshes of one case, without a display: from the front, from the left, and cut open."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunet_xlstm.choices import RENDERERS
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.figures.planes import label_color, legend_below
from nnunet_xlstm.figures.style import new_figure, write_figure
from nnunet_xlstm.meshes.mesh import Mesh, cross
from nnunet_xlstm.meshes.raster import rasterize

PIXELS = 440  # longest side of a view
# Name -> the directions to the right, up and towards the viewer in LPS (x to the left, y to the back, z to the head).
Axes3 = Sequence[Sequence[float]]
VIEWS: dict[str, Axes3] = {
    "from the front": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "from the left": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "cut open, from the front": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
}
LIGHT = np.array([-0.35, 0.44, 0.83])  # a unit vector in (right, up, towards the viewer)
AMBIENT = 0.35
MAX_IN_LEGEND = 24
DPI = 110
PROBE = """
import pyvista
plotter = pyvista.Plotter(off_screen=True, window_size=(32, 32))
plotter.background_color = "white"
plotter.add_mesh(pyvista.Sphere(), color="black", lighting=False)
assert plotter.screenshot(None, return_img=True)[16, 16].max() < 128
"""


def choose_renderer(wanted: str = "auto", timeout_s: float = 120) -> str:
    """Choose "pyvista" or "numpy".

    Pyvista is tried in a process of its own first: where a graphics library is missing it does not raise, it crashes.

    Raises:
        DatasetError: pyvista was asked for and does not work here, or there is no such renderer.
    """
    if wanted not in RENDERERS:
        raise DatasetError(f"Unknown renderer '{wanted}'. Valid renderers are {list(RENDERERS)}.")
    if wanted == "numpy":
        return "numpy"
    why = "it is not installed (pip install 'nnunet_xlstm[mesh]')"
    if importlib.util.find_spec("pyvista") is not None:
        try:
            tried = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=timeout_s)
            if tried.returncode == 0:
                return "pyvista"
            why = f"a test picture failed with exit code {tried.returncode}: {tried.stderr.strip()[-200:]}"
        except subprocess.TimeoutExpired:
            why = f"a test picture took more than {timeout_s:g} s"
    if wanted == "pyvista":
        raise DatasetError(
            f"The renderer pyvista does not work here: {why}. Use numpy, which needs no graphics library."
        )
    return "numpy"


def draw_mesh(
    path: Path,
    mesh: Mesh,
    labels: Sequence[int],
    *,
    names: Mapping[int, str] | None = None,
    title: str = "",
    renderer: str = "numpy",
) -> Path:
    """Write a PNG and return its path.

    Where the viewer looks into a label (a cut), its walls have its colour; so the cut shows the labels as they lie in
    the plane, and what is behind them.

    Args:
        path: of the PNG.
        mesh: in mm, LPS.
        labels: which to show.
        names: label id -> name.
        title: printed above.
        renderer: "numpy" or "pyvista", see choose_renderer.
    """
    mesh = only(mesh, labels)
    normals = corner_normals(mesh)
    boxes = {view: extent([mesh], axes) for view, axes in VIEWS.items()}
    longest = max(max(size) for _, size in boxes.values())
    # A thin structure too gets room for the title and the bar.
    boxes = {view: (center, (max(size[0], 0.4 * longest), size[1])) for view, (center, size) in boxes.items()}
    mm_per_pixel = longest / PIXELS
    widths = [size[0] for _, size in boxes.values()]
    height = max(size[1] for _, size in boxes.values())
    inch = 1 / (mm_per_pixel * DPI)
    title = title if len(mesh.triangles) else f"{title} (no label to draw)".strip()
    figure = figure_with_legend(max(sum(widths) * inch + 0.6, 6), height * inch + 1.1, labels, names, title)
    grid = figure.add_gridspec(1, len(VIEWS), width_ratios=widths)
    for i, (view, axes) in enumerate(VIEWS.items()):
        center, size = boxes[view]
        pixels = max(round(size[1] / mm_per_pixel), 1), max(round(size[0] / mm_per_pixel), 1)
        ax = figure.add_subplot(grid[0, i])
        cut = cut_depth([mesh], axes) if is_cut(view) else None
        image = render_view(mesh, normals, axes, center, mm_per_pixel, pixels, cut, renderer)
        ax.imshow(image, interpolation="bilinear")
        ax.set_title(view, fontsize=9)
        ax.set_axis_off()
        ax.set_ylim(pixels[0] + 28, -0.5)  # room for the bar
        if i == 0 and len(mesh.triangles):
            scale_bar(ax, pixels, mm_per_pixel)
    return write_figure(figure, path, dpi=DPI, facecolor="white")


def only(mesh: Mesh, labels: Sequence[int]) -> Mesh:
    """Keep the walls round some labels; every other label counts as background."""
    pairs = np.where(np.isin(mesh.pairs, labels), mesh.pairs, 0)
    own = pairs[:, 0] != pairs[:, 1]
    return Mesh(mesh.points, mesh.triangles[own], pairs[own])


def extent(meshes: Sequence[Mesh], axes: Axes3) -> tuple[np.ndarray, tuple[float, float]]:
    """Return center (right, up) in mm of all meshes together, and size in mm with a margin."""
    flat = _corners(meshes) @ np.array(axes[:2], float).T
    low, high = flat.min(0), flat.max(0)
    width, height = np.maximum((high - low) * 1.06, 1e-3)
    return (low + high) / 2, (float(width), float(height))


def cut_depth(meshes: Sequence[Mesh], axes: Axes3) -> float:
    """Return where a view is cut open: the middle of all meshes together, in mm towards the viewer."""
    depth = _corners(meshes) @ np.array(axes[2], float)
    return float(depth.min() + depth.max()) / 2


def _corners(meshes: Sequence[Mesh]) -> np.ndarray:
    """Return the corners (n, 3) of all triangles; the origin where there is none."""
    found = [mesh.points[mesh.triangles.ravel()] for mesh in meshes if len(mesh.triangles)]
    return np.concatenate(found) if found else np.zeros((1, 3))


def corner_normals(mesh: Mesh) -> np.ndarray:
    """Return (t, 3 corners, 3): means over the triangles there that part the same labels, so that seams stay sharp."""
    if not len(mesh.triangles):
        return np.empty((0, 3, 3))
    a, b, c = (mesh.points[column] for column in mesh.triangles.T)
    turned = mesh.pairs[:, 0] > mesh.pairs[:, 1]
    faces = np.where(turned[:, None], cross(c - a, b - a), cross(b - a, c - a))
    _, sheet = np.unique(np.sort(mesh.pairs, axis=1), axis=0, return_inverse=True)
    _, row = np.unique(sheet.reshape(-1, 1) * len(mesh.points) + mesh.triangles, return_inverse=True)
    row = row.ravel()
    sums = np.stack([np.bincount(row, np.repeat(faces[:, i], 3)) for i in range(3)], axis=1)
    units = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-30)
    normals = units[row].reshape(-1, 3, 3)
    return np.where(turned[:, None, None], -normals, normals)


def is_cut(view: str) -> bool:
    """Return whether one of VIEWS is cut open."""
    return view.startswith("cut")


def render_view(
    mesh: Mesh,
    normals: np.ndarray,
    axes: Axes3,
    center: np.ndarray,
    mm_per_pixel: float,
    pixels: tuple[int, int],
    cut: float | None,
    renderer: str,
) -> np.ndarray:
    """Draw one view on white, (rows, columns, 3) from 0 to 1.

    Args:
        mesh: in mm, LPS.
        normals: as from corner_normals.
        axes: directions to the right, up and towards the viewer, as in VIEWS.
        center: (right, up) in mm.
        mm_per_pixel: scale.
        pixels: (rows, columns).
        cut: what lies nearer to the viewer is left out, in mm.
        renderer: "numpy" or "pyvista", as from choose_renderer.
    """
    turn = np.array(axes, float).T
    points = mesh.points @ turn
    points[:, :2] -= center
    points = points / mm_per_pixel + [pixels[1] / 2, pixels[0] / 2, 0]
    corners = points[mesh.triangles]
    facing = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0
    near, far = np.where(facing, mesh.pairs.T[::-1], mesh.pairs.T)
    depth = corners[..., 2]
    limit = np.inf if cut is None else cut / mm_per_pixel
    # Uncut, only the outside can be seen.
    shown = np.flatnonzero(near == 0 if cut is None else depth.min(1) <= limit)
    label = np.where(near != 0, near, far)[shown]
    light = normals[shown] @ (turn @ LIGHT)
    light = np.clip(np.where(facing[shown, None], light, -light), 0, 1)
    present, index = np.unique(label, return_inverse=True)
    table = np.array([to_rgb(label_color(int(value))) for value in present]).reshape(-1, 3)
    colors = table[index.ravel(), None] * (AMBIENT + (1 - AMBIENT) * light)[..., None]
    draw = _draw_with_pyvista if renderer == "pyvista" else rasterize
    image = draw(corners[shown], colors, pixels, limit)
    return np.clip(image[..., :3] * image[..., 3:] + (1 - image[..., 3:]), 0, 1)


def _draw_with_pyvista(corners: np.ndarray, colors: np.ndarray, size: tuple[int, int], limit: float) -> np.ndarray:
    """Draw as `rasterize` does."""
    import pyvista
    from vtkmodules.vtkCommonCore import vtkLogger

    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)  # it warns that there is no display
    rows, columns = size
    plotter = pyvista.Plotter(off_screen=True, window_size=(columns, rows), lighting="none")
    deepest, nearest = 0.0, 1.0
    if len(corners):
        deepest, nearest = float(corners[..., 2].min()), min(float(corners[..., 2].max()), limit)
        faces = np.column_stack([np.full(len(corners), 3), np.arange(3 * len(corners)).reshape(-1, 3)])
        surface = pyvista.PolyData(corners.reshape(-1, 3).astype(np.float32), faces.ravel())
        surface.point_data["rgb"] = np.round(colors.reshape(-1, 3) * 255).astype(np.uint8)
        plotter.add_mesh(surface, scalars="rgb", rgb=True, lighting=False)
    plotter.enable_parallel_projection()
    plotter.enable_anti_aliasing("ssaa")
    camera = plotter.camera
    camera.focal_point = (columns / 2, rows / 2, deepest)
    camera.position = (columns / 2, rows / 2, nearest + 10)
    camera.up = (0, 1, 0)
    camera.parallel_scale = rows / 2
    camera.clipping_range = (10, nearest - deepest + 20)  # cuts at the limit
    image = plotter.screenshot(None, return_img=True, transparent_background=True)
    plotter.close()
    return image / 255


def scale_bar(ax: Axes, pixels: tuple[int, int], mm_per_pixel: float) -> None:
    """Draw a bar below the view, of a round length up to a third of its width."""
    widest = pixels[1] * mm_per_pixel / 3
    exponent = math.floor(math.log10(widest))
    length = max(n * 10.0**e for n in (1, 2, 5) for e in (exponent - 1, exponent) if n * 10.0**e <= widest)
    ax.plot([0, length / mm_per_pixel], [pixels[0] + 4] * 2, color="black", linewidth=2, solid_capstyle="butt")
    ax.text(0, pixels[0] + 8, f"{length:g} mm", fontsize=8, va="top")


def figure_with_legend(
    width: float, height: float, labels: Sequence[int], names: Mapping[int, str] | None, title: str
) -> Figure:
    """Make a figure with its title and, below, a legend of labels, for which it grows; longer lists are cut.

    Args:
        width: in inches.
        height: in inches, without the legend.
        labels: ids.
        names: label id -> name.
        title: printed above; "" for none.
    """
    entries = [
        Patch(facecolor=label_color(label), label=f"{label} {(names or {}).get(label, '')}".strip())
        for label in labels[:MAX_IN_LEGEND]
    ]
    if len(labels) > MAX_IN_LEGEND:
        entries.append(Patch(facecolor="none", label=f"and {len(labels) - MAX_IN_LEGEND} more"))
    longest = max((len(str(entry.get_label())) for entry in entries), default=1)
    columns = max(1, min(len(entries), int(width / (0.5 + 0.065 * longest))))
    figure = new_figure(width, height + 0.18 * -(-len(entries) // columns))
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    legend_below(figure, entries, columns)
    return figure
