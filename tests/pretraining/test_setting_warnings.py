"""Settings that are allowed and probably not meant."""

from support.ssl_toys import small_config

from nnunet_xlstm.pretraining.setting_warnings import setting_warnings


def test_a_teacher_that_stays_where_it_started():
    (warning,) = setting_warnings(small_config(teacher_momentum=0.999, teacher_momentum_end=0.999), 10)
    assert "after 10 steps" in warning and "99% the weights it started with; lower teacher_momentum (0.999)" in warning
    assert not setting_warnings(small_config(teacher_momentum=0.1, teacher_momentum_end=0.1), 10)
    assert not setting_warnings(small_config(teacher_momentum=0.999, export_branch="student"), 10)


def test_points_of_two_time_frames():
    config = small_config(frames="pair", dense_weight=1.0, export_branch="student")
    (warning,) = setting_warnings(config, 10)
    assert "set dense_weight to 0" in warning
