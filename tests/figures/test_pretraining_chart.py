"""The picture of a pre-training run: drawn from any history, the same whatever style was set before."""

import matplotlib
import pytest

from nnunet_xlstm.figures.pretraining_chart import draw_progress

HISTORY = [
    {"epoch": -1, "train_loss": None, "val_loss": None, "effective_rank": 4.0, "feature_sd": 0.2},
    {"epoch": 0, "train_loss": 8.0, "val_loss": 9.0, "effective_rank": 4.5, "feature_sd": 0.3, "top1_share": None},
]


def test_the_style_of_others_does_not_show(tmp_path):
    draw_progress(HISTORY, tmp_path / "one.png")
    with matplotlib.rc_context({"xtick.labelsize": 40, "axes.facecolor": "red"}):  # nnU-Net sets seaborn's
        draw_progress(HISTORY, tmp_path / "other.png")
        assert matplotlib.rcParams["xtick.labelsize"] == 40  # and finds it again
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("history", [HISTORY[:1], [HISTORY[1] | {"epoch": i} for i in range(60)]])
def test_short_and_long_runs(tmp_path, history):
    draw_progress(history, tmp_path / "progress.png")
    assert (tmp_path / "progress.png").stat().st_size > 10_000
