"""The learning curve: lines for several numbers of labels or epochs, rows for one, or where variants alone differ."""

import numpy as np
import pytest

from nnunet_xlstm.figures.learning_curve import Curve, learning_curve
from nnunet_xlstm.figures.style import save


def curve(name: str, x: list[int], shift: float = 0.0) -> Curve:
    mean = 0.6 + 0.08 * np.log(np.maximum(x, 1)) + shift
    seeds = [[m - 0.01, m + 0.01, m + 0.015] for m in mean]
    return Curve(name, x, mean, np.stack([mean - 0.02, mean + 0.02]), seeds)


def test_several_numbers_of_labels(tmp_path):
    figure = learning_curve([curve("scratch", [2, 5, 10]), curve("$pre_trained", [5, 10], 0.03)], "Dice", unit="epoch")
    (ax,) = figure.axes
    assert ax.get_xlabel() == "epochs"
    assert ax.get_xscale() == "log" and list(ax.get_xticks()) == [2, 5, 10]
    lines = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in lines] == [3, 2]
    np.testing.assert_allclose(lines[0].get_ydata(), 0.6 + 0.08 * np.log([2, 5, 10]))
    assert all(path.stat().st_size > 5000 for path in save(figure, tmp_path / "curve"))


@pytest.mark.parametrize("interval", [True, False])
def test_one_number_of_labels(tmp_path, interval):
    curves = [curve(f"variant {i}", [5], 0.01 * i) for i in range(4)]
    if not interval:  # one test subject
        curves = [Curve(c.name, c.x, c.mean, np.full((2, 1), np.nan), c.repeats) for c in curves]
    figure = learning_curve(curves, "Dice", unit="labelled subject")
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"variant {i}" for i in range(4)]
    assert ax.get_xlabel() == "Dice, 5 labelled subjects"
    assert all(path.stat().st_size > 5000 for path in save(figure, tmp_path / "curve"))


def test_folds_of_variants():
    figure = learning_curve([curve("a", [0]), curve("b", [0])], "Dice", "the scored subjects", repeats="folds")
    (ax,) = figure.axes
    assert ax.get_xlabel() == "Dice"
    assert "small dots: single folds" in figure._supxlabel.get_text()
    plain = [Curve("a", [0], [0.5], np.array([[0.4], [0.6]]), [[0.5]])]
    assert "small dots" not in learning_curve(plain, "Dice")._supxlabel.get_text()
