"""Pictures: the depth buffer against hand-computed scenes, colours by label, the choice of a renderer."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from support.mesh_shapes import shells

from nnunet_xlstm.choices import RENDERERS
from nnunet_xlstm.figures.planes import label_color
from nnunet_xlstm.meshes import render
from nnunet_xlstm.meshes.mesh import cut
from nnunet_xlstm.meshes.raster import rasterize
from nnunet_xlstm.meshes.render import choose_renderer, draw_mesh
from nnunet_xlstm.meshes.surface_nets import surface_nets


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(render, "PIXELS", 150)


RED, BLUE = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])


def square(x0, x1, y0, y1, z):
    """Two triangles."""
    a, b, c, d = (x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)
    return np.array([[a, b, c], [a, c, d]], float)


def flat(*colors):
    """The same colour at the corners of the two triangles of each square."""
    return np.repeat([c for c in colors for _ in range(2)], 3, axis=0).reshape(-1, 3, 3)


def mm(labels):
    """A mesh in mm with the head along the first axis of the array."""
    return cut(surface_nets(labels)).placed(np.eye(3)[:, ::-1], np.zeros(3))


def test_the_nearest_wins_whatever_the_order():
    near, far = square(2, 6, 2, 6, 5), square(0, 8, 0, 8, 1)
    for corners, colors in (((near, far), (RED, BLUE)), ((far, near), (BLUE, RED))):
        image = rasterize(np.concatenate(corners), flat(*colors), (8, 8))
        assert (image[2:6, 2:6] == [1, 0, 0, 1]).all()
        assert (image[[0, 1, 6, 7]] == [0, 0, 1, 1]).all()
        assert image.shape == (8, 8, 4)


def test_rows_and_edges():
    """A square in the lower left corner; half a pixel counts half."""
    image = rasterize(square(0, 2.5, 0, 1, 0), flat(RED), (4, 6))
    assert image[3, :2, 3].tolist() == [1, 1] and image[3, 2, 3] == 0.5
    assert (image[3, 2, :3] == RED).all()
    assert image[:3].max() == 0 and image[3, 3:].max() == 0


def test_limit_cuts_and_colours_are_linear():
    scene = np.concatenate([square(0, 4, 0, 4, 3), square(0, 4, 0, 4, 1)])
    assert (rasterize(scene, flat(RED, BLUE), (4, 4), limit=2)[..., :3] == BLUE).all()
    slope = np.array([[(0, 0, 0), (8, 0, 8), (0, 8, 0)]], float)
    assert (rasterize(slope, flat(RED)[:1], (8, 8), limit=4)[7, :, 3] == [1, 1, 1, 1, 0, 0, 0, 0]).all()
    ramp = rasterize(square(0, 8, 0, 8, 0), np.array([[RED, BLUE, BLUE], [RED, BLUE, RED]]), (8, 8))
    assert np.allclose(ramp[..., 2], (np.arange(8) + 0.5) / 8) and np.allclose(ramp[..., :3].sum(-1), 1)


def test_outside_edge_on_and_empty():
    scene = np.concatenate([square(-50, -40, 0, 4, 0), square(2, 2, 0, 4, 0), square(-1, 20, -1, 20, 0)])
    assert (rasterize(scene, flat(RED, RED, BLUE), (4, 4))[..., :3] == BLUE).all()
    assert rasterize(np.empty((0, 3, 3)), np.empty((0, 3, 3)), (3, 5)).max() == 0


def sheet(grid):
    """Triangles between the points of a grid (rows, columns, 2)."""
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    corners = np.stack([a, b, c, a, c, d], axis=2).reshape(-1, 3, 2)
    return np.concatenate([corners, np.zeros((len(corners), 3, 1))], axis=2)


def test_no_holes_in_a_fine_mesh():
    """Random triangulated sheets have no gap along shared edges."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(13.0), np.arange(13.0), indexing="ij"), -1) * 2.5 - 2
    corners = sheet(grid + rng.uniform(-0.8, 0.8, grid.shape))
    image = rasterize(corners, np.ones((len(corners), 3, 3)), (22, 22))
    assert (image[..., 3] == 1).all()


@pytest.mark.parametrize(("step", "start"), [(0.3, -0.25), (1.1, -1.05), (2.2, -0.25)])
def test_no_holes_where_edges_meet_pixels(step, start):
    """Middles of pixels on the edges of triangles: rounding must not put them beside both."""
    ticks = np.arange(np.ceil(38 / step)) * step + start
    corners = sheet(np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1))
    image = rasterize(corners, np.ones((len(corners), 3, 3)), (35, 35))
    assert (image[..., 3] == 1).all()


def has_color(image, label):
    """Whether some pixels have the label's hue (they are shaded)."""
    rgb = np.array([int(label_color(label)[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    pixels = image[image[..., :3].max(-1) > 0.2][:, :3]
    return (np.abs(pixels / pixels.max(-1, keepdims=True) - rgb / rgb.max()).max(-1) < 0.03).sum() > 50


@pytest.mark.parametrize("renderer", ["numpy", pytest.param("pyvista", marks=pytest.mark.slow)])
def test_picture(tmp_path, renderer):
    """From outside only the outer shell shows; cut open all four."""
    if renderer == "pyvista":
        pytest.importorskip("pyvista")
        renderer = choose_renderer("pyvista")
    path = draw_mesh(
        tmp_path / "a" / "b.png", mm(shells()), [1, 2, 3, 4], names={1: "<LV>"}, title="$x^", renderer=renderer
    )
    image = imread(path)[:-60]  # without the legend
    thirds = np.array_split(image, 3, axis=1)
    for view in thirds[:2]:
        assert has_color(view, 4) and not any(has_color(view, label) for label in (1, 2, 3))
    assert all(has_color(thirds[2], label) for label in (1, 2, 4))


def test_chosen_labels_only(tmp_path):
    image = imread(draw_mesh(tmp_path / "a.png", mm(shells()), [2]))[:-60]
    assert has_color(image, 2) and not has_color(image, 4) and not has_color(image, 1)


def test_many_and_no_labels(tmp_path):
    labels = np.zeros((4, 4, 40), np.uint8)
    labels[1:3, 1:3] = np.arange(40)
    for chosen in (list(range(1, 40)), []):
        assert draw_mesh(tmp_path / "a.png", mm(labels), chosen).stat().st_size > 2000


def test_names_are_no_mathematics(tmp_path):
    """Two dollar signs around what matplotlib cannot parse."""
    odd = r"$\frac$"
    assert draw_mesh(tmp_path / "a.png", mm(shells()), [4], names={4: odd}, title=odd).is_file()


def test_a_thin_structure_leaves_room_for_titles_and_bar(tmp_path, monkeypatch):
    """A sheet that is seen edge on: each view is at least 0.4 times as wide as the longest side."""
    draw, sizes = render.render_view, []
    monkeypatch.setattr(render, "render_view", lambda *parts: sizes.append(parts[5]) or draw(*parts))
    draw_mesh(tmp_path / "a.png", mm(np.ones((40, 40, 1), np.uint8)), [1])
    assert sizes == [(150, 60), (150, 150), (150, 60)]


def test_choice_of_renderer(monkeypatch):
    assert choose_renderer("numpy") == "numpy"
    with pytest.raises(ValueError, match="Unknown renderer 'x'"):
        choose_renderer("x")
    monkeypatch.setattr(render.importlib.util, "find_spec", lambda name: None)
    assert choose_renderer("auto") == "numpy"
    with pytest.raises(ValueError, match="not installed"):
        choose_renderer("pyvista")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", "exit code -11"),
        ("raise RuntimeError('no GL')", "no GL"),
        ("import time; time.sleep(60)", "more than 1 s"),
    ],
    ids=["crash", "error", "hangs"],
)
def test_a_renderer_that_crashes_is_not_used(monkeypatch, program, message):
    monkeypatch.setattr(render.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(render, "PROBE", program)
    assert choose_renderer("auto", timeout_s=1 if "sleep" in program else 60) == "numpy"
    with pytest.raises(ValueError, match=message):
        choose_renderer("pyvista", timeout_s=1 if "sleep" in program else 60)


def test_probe_is_python():
    subprocess.run([sys.executable, "-c", f"compile({render.PROBE!r}, 'probe', 'exec')"], check=True)
    assert set(RENDERERS) == {"auto", "pyvista", "numpy"}
