"""Overlay pictures of awkward cases: written, of sensible size, with the right colours."""

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from nnunet_xlstm.figures.overlay import Case, draw_overlay, draw_sheet
from nnunet_xlstm.figures.planes import ERRORS, PALETTE, cut_planes, label_color


def volume(array: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[: image.GetDimension()])
    return image


def ball(shape, radius=6.0) -> np.ndarray:
    grid = np.indices(shape) - np.array(shape).reshape(-1, *[1] * len(shape)) / 2
    return (np.sqrt((grid**2).sum(0)) < radius).astype(np.uint8)


def shows(path, color: str) -> bool:
    pixels = (imread(path)[..., :3] * 255).round()
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(pixels - rgb).max(-1) <= 2).any())


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32)


@pytest.mark.parametrize("style", ["outline", "filled"])
def test_picture(tmp_path, noise, style):
    label = ball(noise.shape)
    prediction = np.roll(label, 2, 2)
    path = draw_overlay(
        tmp_path / "deep" / "a.png", volume(noise), volume(label), volume(prediction), names={1: "<LV>"}, style=style
    )
    assert path.stat().st_size > 5000
    assert shows(path, PALETTE[0])


@pytest.mark.parametrize("style", ["outline", "filled"])
@pytest.mark.parametrize(
    ("reference", "prediction"),
    [("empty", "empty"), ("ball", "empty"), ("empty", "ball"), (None, None), (None, "ball")],
)
def test_empty_and_missing_masks(tmp_path, noise, style, reference, prediction):
    made = {"empty": volume(np.zeros(noise.shape, np.uint8)), "ball": volume(ball(noise.shape)), None: None}
    path = draw_overlay(tmp_path / "a.png", volume(noise), made[reference], made[prediction], style=style)
    assert path.stat().st_size > 5000


@pytest.mark.parametrize("value", [0.0, -7.5, np.nan])
def test_constant_image(tmp_path, value):
    image = volume(np.full((8, 8, 8), value, np.float32))
    assert draw_overlay(tmp_path / "a.png", image, volume(ball((8, 8, 8), 3))).stat().st_size > 1000


def test_errors_have_their_own_colours(tmp_path):
    """On black, a quarter of the picture for each: right, false positive, false negative, wrong label."""
    reference, prediction = np.zeros((2, 24, 24), np.uint8)
    reference[:12, :12] = prediction[:12, :12] = 1
    prediction[:12, 12:] = 2
    reference[12:, :12] = 1
    reference[12:, 12:], prediction[12:, 12:] = 1, 2
    image = volume(np.zeros((24, 24), np.float32) - 1)
    path = draw_overlay(
        tmp_path / "a.png", image, volume(reference), volume(prediction), style="errors", ct_window=(10, 20)
    )
    pixels = (imread(path)[..., :3] * 255).round()
    rows, columns = pixels.shape[:2]
    for kind, (y, x) in zip(ERRORS, [(0.25, 0.25), (0.25, 0.75), (0.7, 0.25), (0.7, 0.75)], strict=True):
        rgb = np.array([int(ERRORS[kind][i : i + 2], 16) for i in (1, 3, 5)])
        np.testing.assert_allclose(pixels[int(y * rows), int(x * columns)], 0.55 * rgb, atol=3)
    with pytest.raises(ValueError, match="give both"):
        draw_overlay(tmp_path / "b.png", image, volume(reference), style="errors")


def test_planes_through_the_errors(noise):
    reference, prediction = np.zeros((2, *noise.shape), np.uint8)
    reference[5:8, 5:8, 5:8] = prediction[5:8, 5:8, 5:8] = 1
    prediction[15, 20, 11:14] = 1
    arrays = {"reference": reference, "prediction": prediction}
    planes = cut_planes(noise, (1, 1, 1), arrays, focus="errors")
    np.testing.assert_array_equal(planes[0].image, noise[15])
    np.testing.assert_array_equal(cut_planes(noise, (1, 1, 1), arrays)[0].image, noise[6])


def test_sheet(tmp_path, noise):
    label = ball(noise.shape)
    cases = [
        lambda: Case(volume(noise), volume(label), volume(np.roll(label, 3, 2)), "first: mean Dice 0.5"),
        lambda: Case(volume(noise[:5], (1, 1, 10)), *[volume(label[:5], (1, 1, 10))] * 2, "second"),
        lambda: Case(volume(noise), volume(label), volume(0 * label), "third"),
    ]
    heights = [imread(draw_sheet(tmp_path / f"{n}.png", cases[:n])).shape[0] for n in (1, 3)]
    assert heights[1] > 2 * heights[0] and shows(tmp_path / "1.png", ERRORS["right"])
    for style in ("outline", "filled"):
        assert draw_sheet(tmp_path / "a.png", cases, style=style, names={1: "LV"}).stat().st_size > 5000
    with pytest.raises(ValueError, match="at least one"):
        draw_sheet(tmp_path / "b.png", [])


def test_flat_images(tmp_path, noise):
    label = ball(noise.shape[1:])
    flat = draw_overlay(tmp_path / "2d.png", volume(noise[0]), volume(label), volume(label))
    slab = draw_overlay(tmp_path / "slab.png", volume(noise[:1]), volume(label[None]), volume(label[None]))
    color = sitk.GetImageFromArray(np.stack([noise[0]] * 3, -1), isVector=True)
    assert all(
        shows(path, PALETTE[0]) for path in (flat, slab, draw_overlay(tmp_path / "rgb.png", color, volume(label)))
    )


def test_proportions_are_true(tmp_path):
    """Panels of 40 x 40 mm (axial) and 40 mm x 50 mm (the others), though 5 slices of 10 mm are 5 rows of pixels."""
    image = volume(np.random.default_rng(0).normal(size=(5, 40, 40)).astype(np.float32), (1.0, 1.0, 10.0))
    pixels = imread(draw_overlay(tmp_path / "a.png", image))[..., :3]
    filled = (pixels < 0.98).any(-1)
    columns = np.flatnonzero(filled.sum(0) > 100)
    panels = np.split(columns, np.flatnonzero(np.diff(columns) > 3) + 1)
    assert len(panels) == 3
    for panel, ratio in zip(panels, (1.0, 1.25, 1.25), strict=True):
        rows = np.flatnonzero(filled[:, panel[len(panel) // 2]])
        longest = max(np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1), key=len)
        assert len(longest) / len(panel) == pytest.approx(ratio, rel=0.03)


def test_many_labels(tmp_path):
    array = np.repeat(np.arange(40, dtype=np.uint8), 8).reshape(20, 16)
    path = draw_overlay(tmp_path / "a.png", volume(array.astype(np.float32)), volume(array), style="filled")
    assert path.stat().st_size > 1000


def test_colours_are_fixed_and_differ():
    colors = [label_color(i) for i in range(1, 40)]
    assert len(set(colors)) == len(colors)
    assert colors == [label_color(i) for i in range(1, 40)]
    assert all(len(color) == 7 and color[0] == "#" for color in colors)


def test_patient_axes_do_not_depend_on_storage(tmp_path, noise):
    """The same volume stored right to left and back to front gives the same picture."""
    label = np.zeros(noise.shape, np.uint8)
    label[8:14, 4:10, 18:25] = 1
    stored = [volume(noise[:, ::-1, ::-1].copy()), volume(label[:, ::-1, ::-1].copy())]
    for image in stored:
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    plain = imread(draw_overlay(tmp_path / "a.png", volume(noise), volume(label)))
    np.testing.assert_array_equal(plain, imread(draw_overlay(tmp_path / "b.png", *stored)))


def test_wrong_input(tmp_path, noise):
    with pytest.raises(ValueError, match="resample the reference to the image"):
        draw_overlay(tmp_path / "a.png", volume(noise), volume(ball((5, 5, 5))))
    with pytest.raises(ValueError, match="Valid are"):
        draw_overlay(tmp_path / "a.png", volume(noise), style="dotted")
    with pytest.raises(ValueError, match="4 dimensions"):
        draw_overlay(tmp_path / "a.png", sitk.Image([4, 4, 4, 2], sitk.sitkFloat32))
