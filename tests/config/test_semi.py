"""Keys of the semi-supervised trainers."""

import pytest

from nnunet_xlstm.config import override
from nnunet_xlstm.config.semi import BCP, COPY_PASTE_CONTROL, MEAN_TEACHER
from nnunet_xlstm.errors import ConfigError


def test_a_run_that_would_learn_nothing_is_refused():
    with pytest.raises(ConfigError, match="copy_paste and consistency are both none"):
        override(BCP, {"copy_paste": "none"}, "run.json")


def test_the_loss_is_still_checked():
    with pytest.raises(ConfigError, match="both 0"):
        override(BCP, {"dice_weight": 0, "ce_weight": 0}, "run.json")


def test_the_control_alone_needs_no_unlabelled_images():
    assert [r.needs_unlabelled for r in (BCP, MEAN_TEACHER, COPY_PASTE_CONTROL)] == [True, True, False]
