"""Means, tests and ranks of one metric by hand; what missing values do to them."""

import numpy as np
import pytest
from scipy import stats

from nnunet_xlstm.comparison.analysis import Settings, analyze, choose_metrics, comparable_units
from nnunet_xlstm.comparison.inputs import ModelScores

NAN = np.nan


def model_scores(values, n_ref=None, n_pred=None, metric="Dice"):
    values = np.asarray(values, float)
    models, cases, classes = values.shape
    sizes = {}
    if n_ref is not None:
        sizes = {"n_ref": np.asarray(n_ref, float), "n_pred": np.asarray(n_pred, float)}
    names, keys = [f"m{i}" for i in range(models)], {str(i + 1): f"c{i + 1}" for i in range(classes)}
    return ModelScores(names, [f"case{i}" for i in range(cases)], keys, {metric: values} | sizes, {}, {})


def test_by_hand():
    """Averages 0.8, 0.6, 0.4 and 0.7, 0.5, 0.3: mean 0.6 and 0.5, SD 0.2; the first is better in all three."""
    found = analyze(
        model_scores([[[0.9, 0.7], [0.6, 0.6], [0.4, 0.4]], [[0.7, 0.7], [0.5, 0.5], [0.3, 0.3]]]), "Dice", Settings()
    )
    np.testing.assert_allclose(found.averages, [[0.8, 0.6, 0.4], [0.7, 0.5, 0.3]])
    np.testing.assert_allclose(found.mean, [[1.9 / 3, 1.7 / 3, 0.6], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(found.sd[:, 2], 0.2)
    np.testing.assert_allclose(found.class_mean, [0.6, 0.5])
    assert found.n.tolist() == [[3] * 3] * 2 and not found.failed.any()
    np.testing.assert_allclose(found.difference, [[0, 0.1], [-0.1, 0]])
    np.testing.assert_allclose(found.difference_interval[:, 0, 1], [0.1, 0.1])
    assert found.tests.p[0, 1] == 1 / 8 and found.tests.p_holm[0, 1] == 2 / 8
    assert found.tests.underpowered(0.05)
    assert {how: ranks.tolist() for how, ranks in found.rankings.items()} == {
        "mean, then rank": [1, 2],
        "median, then rank": [1, 2],
        "rank, then mean": [1, 2],
        "test, then rank": [1, 1],
    }
    assert found.stability.frequency.tolist() == [[1, 0], [0, 1]]


def test_low_is_better_for_distances():
    found = analyze(model_scores(np.array([[[5.0], [6.0]], [[1.0], [2.0]]]), metric="HD95"), "HD95", Settings())
    assert found.rankings["mean, then rank"].tolist() == [2, 1]
    assert found.tests.p[1, 0] == 1 / 4


def test_subjects_are_the_units():
    """Six cases of three subjects: the test sees three pairs, and the interval is that of the subjects."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.uniform(0.5, 0.9, (2, 3, 1)), 2, axis=1)
    one, two = (analyze(model_scores(values), "Dice", Settings(), subjects) for subjects in (None, list("aabbcc")))
    assert (one.tests.units, two.tests.units) == (6, 3)
    alone = analyze(model_scores(values[:, ::2]), "Dice", Settings())
    np.testing.assert_allclose(two.interval, alone.interval)
    np.testing.assert_array_equal(two.tests.p, alone.tests.p)
    np.testing.assert_array_equal(two.stability.frequency, alone.stability.frequency)


def test_unit_case_class():
    values = np.random.default_rng(0).random((2, 4, 3))
    settings = Settings(unit="case_class")
    assert analyze(model_scores(values), "Dice", settings).tests.units == 12
    found = analyze(model_scores(values), "Dice", settings, ["a", "a", "b", "b"])
    assert found.tests.units == 6 and found.tested == "classes of subjects"
    means = values.reshape(2, 2, 2, 3).mean(2).reshape(2, 6)
    units, case_of, class_of = comparable_units(values, np.zeros_like(values, bool), "Dice", settings)
    assert case_of.tolist()[:4] == [0, 0, 0, 1] and class_of.tolist()[:4] == [0, 1, 2, 0]
    assert found.tests.tests[0, 1].statistic == pytest.approx(
        stats.wilcoxon(means[0], means[1], alternative="greater").statistic
    )


def test_right_on_an_empty_class_is_no_failure():
    """Case 1 has no such structure. Model 0 finds none (NaN): right. Model 1 does (Dice 0): wrong."""
    values = [[[0.8], [NAN]], [[0.8], [0.0]]]
    stuff = model_scores(values, n_ref=[[[9], [0]]] * 2, n_pred=[[[9], [0]], [[9], [4]]])
    found = analyze(stuff, "Dice", Settings())
    assert found.failed.tolist() == [0, 0]
    assert found.rankings["mean, then rank"].tolist() == [1, 2] and found.n.tolist() == [[1, 1], [2, 2]]
    assert found.tests.p[0, 1] == 0.5  # one pair differs, in favour of model 0
    dropped = analyze(stuff, "Dice", Settings(na="drop"))
    assert dropped.tests.units == 1 and dropped.tests.p[0, 1] == 1.0


def test_right_on_one_of_two_classes_stays_out_of_the_average():
    values = np.array([[[0.8, NAN]], [[0.8, 0.0]]])
    units, *_ = comparable_units(values, np.zeros_like(values, bool), "Dice", Settings())
    np.testing.assert_array_equal(units, [[0.8], [0.4]])


def test_failure_counts_as_the_worst_value():
    """Model 0 misses the structure of case 1, so that its distance is unknown."""
    values = [[[2.0], [NAN], [2.0]], [[3.0], [9.0], [3.0]]]
    stuff = model_scores(values, n_ref=[[[9]] * 3] * 2, n_pred=[[[9], [0], [9]], [[9]] * 3], metric="HD95")
    worst, drop = analyze(stuff, "HD95", Settings()), analyze(stuff, "HD95", Settings(na="drop"))
    assert worst.failed.tolist() == [1, 0]
    assert worst.rankings["mean, then rank"].tolist() == [2, 1]
    assert worst.rankings["median, then rank"].tolist() == [1, 2]
    assert worst.tests.tests[1, 0].n == 3 and worst.tests.tests[1, 0].statistic == 3.0  # the largest difference
    assert drop.rankings["mean, then rank"].tolist() == [1, 2] and drop.tests.units == 2
    np.testing.assert_allclose(worst.mean[:, 0], [2, 5])  # of the known values


def test_nothing_known_by_anyone_is_not_compared():
    found = analyze(model_scores([[[0.5, NAN], [NAN, NAN]], [[0.4, NAN], [NAN, NAN]]]), "Dice", Settings())
    assert found.tests.units == 1 and not found.failed.any()
    assert np.isnan(found.mean[:, 1]).all()


def test_identical_models_tie():
    values = np.tile(np.random.default_rng(0).random((1, 30, 2)), (4, 1, 1))
    found = analyze(model_scores(values), "Dice", Settings())
    assert (found.tests.p == 1).all() and (found.tests.p_holm == 1).all()
    assert all((ranks == 1).all() for ranks in found.rankings.values())


def test_permuting_models_permutes_everything():
    values = np.random.default_rng(0).random((4, 10, 2))
    order = [2, 0, 3, 1]
    whole, permuted = (analyze(model_scores(v), "Dice", Settings()) for v in (values, values[order]))
    np.testing.assert_array_equal(permuted.mean, whole.mean[order])
    np.testing.assert_allclose(permuted.interval, whole.interval[:, order])
    np.testing.assert_array_equal(permuted.tests.p_holm, whole.tests.p_holm[np.ix_(order, order)])
    np.testing.assert_array_equal(permuted.stability.frequency, whole.stability.frequency[order])
    for how in whole.rankings:
        np.testing.assert_array_equal(permuted.rankings[how], whole.rankings[how][order])


def test_choose_metrics():
    stuff = model_scores(np.ones((1, 2, 1)))
    stuff.values.update(HD95=np.full((1, 2, 1), NAN), NSD=np.ones((1, 2, 1)), VolumeRef=np.ones((1, 2, 1)))
    assert choose_metrics(stuff, []) == ["Dice", "NSD"]
    assert choose_metrics(stuff, ["NSD", "NSD"]) == ["NSD"]
    for metric, message in (("VolumeRef", "neither high nor low"), ("HD95", "without values"), ("dice", "Valid: Dice")):
        with pytest.raises(ValueError, match=message):
            choose_metrics(stuff, [metric])


@pytest.mark.parametrize("wrong", [{"alpha": 0}, {"alpha": 5}, {"na": "zero"}, {"unit": "voxel"}, {"resamples": 0}])
def test_settings(wrong):
    with pytest.raises(ValueError, match="valid|give"):
        Settings(**wrong)


def misses_a_class():
    """A misses class 2 in 9 of 10 cases and is a little better at class 1; B finds all. Their sizes: (2, 10, 2)."""
    values = np.broadcast_to(np.array([[2.0, 20.0], [2.5, 20.0]])[:, None], (2, 10, 2)).copy()
    values[0, 1:, 1] = NAN
    sizes = np.full((2, 10, 2), 9.0)
    found = sizes.copy()
    found[0, 1:, 1] = 0
    return model_scores(values, n_ref=sizes, n_pred=found, metric="HD95")


def test_missing_a_structure_is_not_rewarded():
    """The average of a case needs all of its classes; a difference is over the classes that both models found."""
    found = analyze(misses_a_class(), "HD95", Settings())
    assert found.n[:, -1].tolist() == [1, 10] and found.averages[:, 0].tolist() == [11, 11.25]
    assert np.isnan(found.averages[0, 1:]).all()
    assert found.rankings["mean, then rank"].tolist() == [2, 1] and found.tests.p_holm[1, 0] < 0.05
    np.testing.assert_allclose(found.difference[1, 0], (0.25 + 9 * 0.5) / 10)  # class 1: 0.5, both classes: 0.25
    assert found.difference_n[0, 1] == 10
    assert found.comparable.tolist() == [True, False, False]


def test_drop_leaves_out_for_all_models():
    """Only the first case has class 2 in both: means, ranks and tests of both models are of the same values."""
    found = analyze(misses_a_class(), "HD95", Settings(na="drop"))
    np.testing.assert_allclose(found.mean[:, -1], [2.9, 3.375])
    assert found.n.tolist() == [[10, 1, 10]] * 2 and found.dropped == 9 and found.comparable.all()
    np.testing.assert_allclose(found.difference[0, 1], 2.9 - 3.375)
    nothing = model_scores(
        [[[1.0], [NAN]], [[NAN], [2.0]]], n_ref=[[[9]] * 2] * 2, n_pred=[[[9]] * 2] * 2, metric="HD95"
    )
    with pytest.raises(ValueError, match="no value that all models have"):
        analyze(nothing, "HD95", Settings(na="drop"))


def test_differences_are_paired():
    """A constant offset has an interval of zero width, however much the cases vary."""
    row = np.random.default_rng(0).uniform(0, 0.5, (1, 20, 1))
    other = np.random.default_rng(1).uniform(0, 0.5, (1, 20, 1))
    found = analyze(model_scores(np.concatenate([row, row + 0.2, other])), "Dice", Settings())
    assert found.difference[1, 0] == pytest.approx(0.2) and found.difference[0, 1] == pytest.approx(-0.2)
    np.testing.assert_allclose(found.difference_interval[:, 1, 0], [0.2, 0.2], rtol=1e-9)
    np.testing.assert_allclose(found.difference_interval[:, 0, 2], -found.difference_interval[::-1, 2, 0])
    assert (np.diag(found.difference) == 0).all()


def test_a_subject_weighs_the_same_however_many_cases_it_has():
    """Subject a: three cases of 0.9, b: one of 0.5. Means, differences and ranks are of subjects, as the tests are."""
    values = np.array([[[0.9], [0.9], [0.9], [0.5]], [[0.8], [0.8], [0.8], [0.8]]])
    cases, subjects = (analyze(model_scores(values), "Dice", Settings(), s) for s in (None, list("aaab")))
    np.testing.assert_allclose(cases.mean[:, -1], [0.8, 0.8])
    np.testing.assert_allclose(subjects.mean[:, -1], [0.7, 0.8])
    np.testing.assert_allclose(subjects.difference[0, 1], -0.1)
    assert subjects.rankings["mean, then rank"].tolist() == [2, 1] and subjects.n.tolist() == [[2, 2]] * 2
    assert subjects.tests.units == 2 and subjects.over == "subjects" and cases.over == "cases"
    np.testing.assert_allclose(subjects.points, [[0.9, 0.5], [0.8, 0.8]])
    np.testing.assert_allclose(subjects.units, np.repeat(subjects.points[:, :, None], 2, axis=2))  # one class


def test_a_subject_with_a_failed_case_has_no_average():
    found = analyze(misses_a_class(), "HD95", Settings(), list("aabbccddee"))
    assert found.n[:, -1].tolist() == [0, 5] and found.n[:, 1].tolist() == [1, 5]
