"""Charts with 1 to 10 methods and awkward names: drawn, nothing clipped, no labels on top of each other."""

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from nnunet_xlstm.figures import rank_charts, relation_charts, score_charts, style
from nnunet_xlstm.statistics.bootstrap import mean_interval
from nnunet_xlstm.statistics.ranking import RankStability, bootstrap_ranks
from nnunet_xlstm.statistics.wilcoxon import pairwise_tests

NAMES = [
    "xLSTM-UNet",
    "a very long name of a method, pre-trained on 35k volumes, fine-tuned, fold 0-4 ensemble",
    "nnUNetTrainerXLSTMUNetShort__nnUNetXLSTMUNetSmallPlans__3d_fullres",
    "nnUNetTrainerXLSTMUNetShort__nnUNetXLSTMUNetSmallNoXLSTMPlans__3d_fullres",
    "_hidden",
    "$x^2$ and $\\frac{",
    "<script>",
    "two\nlines",
    "50 %",
    "SAM-Med3D",
]
CLASSES = ["LV", "right ventricle", "myocardium of the left ventricle", "LA", "RA", "AO", "PA"]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def scores(models: int, cases: int = 12, classes: int = 3) -> np.ndarray:
    rng = np.random.default_rng(models)
    return 0.9 - 0.01 * np.arange(models)[:, None, None] + rng.normal(0, 0.02, (models, cases, classes))


def texts(figure: Figure) -> list[tuple[str, object]]:
    """Every visible text with its box in pixels."""
    figure.draw_without_rendering()
    hidden = set()  # matplotlib keeps labels of ticks that lie outside the axes
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick, where in zip(axis.get_major_ticks(), axis.get_majorticklocs(), strict=True):
            if not low <= where <= high:
                hidden |= {tick.label1, tick.label2}
    found = [text for text in figure.findobj(Text) if text not in hidden]
    return [(t.get_text(), t.get_window_extent()) for t in found if t.get_visible() and t.get_text().strip()]


def assert_readable(figure: Figure) -> None:
    """No two texts overlap by more than a pixel (slanted ones, whose boxes are not their shape, are left out)."""
    slanted = {t.get_text() for t in figure.findobj(Text) if t.get_rotation() % 90}
    boxes = [(text, box) for text, box in texts(figure) if text not in slanted]
    for i, (one, a) in enumerate(boxes):
        for other, b in boxes[i + 1 :]:
            width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert width < 1 or height < 1, f"'{one}' lies on '{other}'"


def panel(values: np.ndarray, label="Dice") -> score_charts.Panel:
    return score_charts.Panel(label, values, values.mean(1), mean_interval(values))


@pytest.mark.parametrize("models", [1, 2, 10])
def test_scores_per_method(models):
    values = scores(models).mean(2)
    far = values * 10
    far[0, 0] = 500
    zero = far.copy()
    zero[0, 1] = 0
    panels = [panel(values), panel(far, "HD95 (mm)"), panel(zero, "HD"), panel(zero / 500, "Dice")]
    figure = score_charts.scores_per_method(NAMES[:models], panels)
    assert_readable(figure)
    assert [ax.get_xscale() for ax in figure.axes[:4]] == ["linear", "log", "symlog", "linear"]
    assert len(figure.axes[0].get_yticks()) == models


@pytest.mark.parametrize("models", [1, 2, 10])
def test_boxes_per_class(models):
    values = scores(models, classes=7)
    values[0, :4, 1] = np.nan
    values[-1, :, 2] = np.nan
    figure = score_charts.boxes_per_class(NAMES[:models], CLASSES, values, "Dice")
    assert_readable(figure)
    shown = [text for text, _ in texts(figure)]
    assert "8" in shown and "0" in shown and shown.count("12") == 7 * models - 2
    boxes = sum(len(ax.patches) for ax in figure.axes)
    assert boxes == 7 * models - 1  # a gap where nothing is known


@pytest.mark.parametrize("models", [2, 3, 10])
def test_rank_stability(models):
    s = bootstrap_ranks(scores(models).mean(2), "high")
    figure = rank_charts.rank_stability(NAMES[:models], s, "Dice: mean, then rank")
    assert_readable(figure)
    areas = np.concatenate([c.get_sizes() for c in figure.axes[0].collections]) / rank_charts.LARGEST_DOT**2
    assert areas.sum() == pytest.approx(models)  # areas are shares


def test_rank_stability_puts_the_best_on_top():
    frequency = np.array([[0.0, 1.0], [1.0, 0.0]])
    ranks = np.array([2.0, 1.0])
    figure = rank_charts.rank_stability(["worse", "better"], RankStability(frequency, ranks, ranks, ranks), "Dice")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["better", "worse"]


@pytest.mark.parametrize("models", [2, 3, 10])
def test_significance_map(models):
    p = pairwise_tests(scores(models).mean(2), "high").p_holm
    caption = "One-sided paired Wilcoxon signed-rank test; Holm over all ordered pairs; alpha 0.05. " * 2
    figure = rank_charts.significance_map(NAMES[:models], p, 0.05, "Dice", caption)
    assert_readable(figure)
    assert any("Holm" in text for text, _ in texts(figure))


def test_significance_map_colours():
    """Yellow: the row is better. p = alpha is not below alpha."""
    p = np.array([[1.0, 0.01, 0.05], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    figure = rank_charts.significance_map(list("abc"), p, 0.05, "Dice", "")
    assert figure.axes[0].images[0].get_array().tolist() == [[2, 0, 1], [1, 2, 1], [1, 1, 2]]
    assert [rank_charts.p_text(v) for v in (0.0001, 0.0123, 0.9999)] == ["<.001", ".012", "1"]


@pytest.mark.parametrize("reference", [np.linspace(50, 150, 9), np.array([80.0]), np.full(3, 70.0), np.full(2, np.nan)])
def test_volume_agreement(reference):
    prediction = reference + np.resize([3.0, -2, 1], reference.size)
    volumes = relation_charts.Volumes(
        reference=reference[None], prediction=prediction[None], unit="mL", label="volume of all 7 classes"
    )
    for name in NAMES[1:6:4]:
        figure = relation_charts.volume_agreement(name, 0, volumes)
        assert_readable(figure)
    scatter, bland = figure.axes
    assert scatter.get_xlim() == scatter.get_ylim() and bland.get_ylim()[0] == -bland.get_ylim()[1]


@pytest.mark.parametrize("models", [3, 10])
def test_radar(models):
    ct = np.linspace(0.93, 0.85, models)
    groups = {"CT": ct, "MR": np.where(np.arange(models) == 1, np.nan, ct - 0.05)}
    figure = relation_charts.radar(NAMES[:models], groups, "mean Dice")
    assert_readable(figure)
    assert any("centre 0.75, rim 0.95 (the axes do not begin at 0)" in text for text, _ in texts(figure))


@pytest.mark.parametrize("models", [1, 2])
def test_modality_dots(models):
    """A marker per model and modality, also where one is unknown."""
    groups = {"CT": np.linspace(0.93, 0.85, models), "MR": np.full(models, np.nan), "PET": np.full(models, 0.7)}
    figure = relation_charts.modality_dots(NAMES[:models], groups, "mean Dice")
    assert_readable(figure)
    assert [line.get_xdata()[0] for line in figure.axes[0].lines[::2]] == pytest.approx([0.93, 0.7])


def test_radar_needs_three():
    with pytest.raises(ValueError, match="3 or more axes"):
        relation_charts.radar(["a", "b"], {"CT": np.ones(2)}, "Dice")


@pytest.mark.parametrize("values", [[0.5, 0.5, 0.5], [np.nan] * 3, [0.0, 0.0, 1.0], [3.0, 40.0, np.nan]])
def test_radar_limits_hold_all_values(values):
    low, high, step = relation_charts._radar_limits(np.array(values))
    known = [v for v in values if np.isfinite(v)]
    assert low <= min(known, default=0) and high >= max(known, default=1) and (high - low) / step < 7
    assert round((high - low) / step) == pytest.approx((high - low) / step)


@pytest.mark.parametrize("models", [1, 2, 10])
def test_accuracy_against_cost(models):
    values = scores(models).mean(2)
    rng = np.random.default_rng(0)
    activation = 10 ** rng.uniform(2, 4, models)
    activation[0] = np.nan
    costs = {"GMAC": rng.uniform(200, 1200, models), "MB": activation}
    figure = relation_charts.accuracy_against_cost(NAMES[:models], values.mean(1), mean_interval(values), costs, "Dice")
    assert_readable(figure)


def test_labels():
    found = style.labels(NAMES)
    assert len(set(found)) == len(NAMES)
    assert all(len(line.replace("\\", "")) <= 24 for text in found for line in text.split("\n"))
    assert all(text.count("\n") < 2 for text in found)
    twins = [f"{'x' * 40}{c}{'y' * 40}" for c in "ab"]  # they differ where the middle is lost
    assert len(set(style.labels(twins))) == 2 and style.labels([""]) == [""]


def test_colours_and_markers_differ():
    assert len({(style.color(i), style.marker(i)) for i in range(20)}) == 20


def test_files(tmp_path):
    """PNG and SVG without clipped text; the same picture gives the same bytes."""
    from matplotlib.image import imread

    written = []
    for folder in "ab":
        figure = score_charts.scores_per_method(NAMES[:3], [panel(scores(3).mean(2))])
        written.append(style.save(figure, tmp_path / folder / "v1.5"))
    assert [path.name for path in written[0]] == ["v1.5.png", "v1.5.svg"]
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pixels = imread(written[0][0])[..., :3]
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 1).all()
