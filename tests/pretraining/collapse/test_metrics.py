"""The measures of collapse, and when they count."""

import math

import pytest
import torch
from support.ssl_toys import small_config
from torch.nn.functional import normalize

from nnunet_xlstm.pretraining.collapse.diagnosis import diagnose
from nnunet_xlstm.pretraining.collapse.metrics import (
    CollapseMetrics,
    StepStatistics,
    effective_rank,
    knn_accuracy,
    mean_cosine,
    spread,
)

CONFIG = small_config(monitor_vectors=400, collapse_patience=3)


def epoch_of(features, log_q=None, embeddings=None, log_p=None) -> dict:
    """Measures of (2, B, C) features and (2, B, K) log-probabilities."""
    monitor = CollapseMetrics(CONFIG)
    monitor.add(StepStatistics.of(features, embeddings, log_q, log_q if log_p is None else log_p), ["a"] * 200)
    return monitor.epoch()


def sharp(k=16):
    return torch.log_softmax(torch.randn(2, 200, k) / 0.1, -1)


def uniform(k=16):
    return torch.log_softmax(torch.zeros(2, 200, k), -1)


def unit(n=32):
    return normalize(torch.randn(2, 200, n), dim=-1)


def codes(row, epochs=3, first=()):
    return [warning.code for warning in diagnose([*first, *[row] * epochs], CONFIG)]


def test_silent_on_random_unit_vectors():
    row = epoch_of(unit(), sharp(), unit(8))
    assert row["feature_sd"] == pytest.approx(1, abs=0.05) and abs(row["mean_cosine"]) < 0.01
    assert row["effective_rank"] > 30 and row["entropy_mean_target"] > 0.95 and row["mean_entropy_target"] < 0.3
    assert row["top1_share"] < 0.2 and row["n_vectors"] == 400
    assert codes(row, 10) == []


def test_flat_targets_of_spread_features_are_no_collapse():
    row = epoch_of(unit(), uniform(), unit(8))
    assert row["mean_entropy_target"] == pytest.approx(1) and row["teacher_student_kl"] == pytest.approx(0, abs=1e-5)
    assert codes(row, 10) == []


def test_trips_on_constant_features():
    constant = torch.randn(32).expand(2, 200, 32) + 1e-4 * torch.randn(2, 200, 32)
    row = epoch_of(constant, sharp())
    assert row["feature_sd"] < 0.01 and row["mean_cosine"] > 0.99 and row["effective_rank"] < 1.1
    assert codes(row) == ["constant_features"]
    assert codes(row, 2) == []  # patience
    exact = epoch_of(torch.ones(2, 200, 32))
    assert codes(exact) == ["constant_features"]


def test_equal_images_are_named_although_the_network_drifts():
    """Five equal images: every step sees one feature, and no two steps the same."""
    config, drifting = small_config(monitor_vectors=400), torch.randn(32)
    history = []
    for _ in range(3):
        monitor = CollapseMetrics(config)
        for _ in range(40):
            drifting = drifting + 0.2 * torch.randn(32)
            monitor.add(StepStatistics(drifting.expand(5, 2, 32), drifting.expand(5, 2, 32)), list("abcde"))
        history.append(monitor.epoch())
    pooled = torch.cat([step.features for step, _ in monitor._steps]).flatten(0, 1)
    assert spread(normalize(pooled.double(), dim=-1)) > 0.1 and history[-1]["feature_sd"] < 1e-6
    assert [warning.code for warning in diagnose(history, config)] == ["constant_features", "constant_embedding"]


def test_the_spread_of_steps_of_one_image_is_that_of_all():
    monitor = CollapseMetrics(CONFIG)
    for vector in (torch.eye(4)[0], torch.eye(4)[1]):
        monitor.add(StepStatistics(vector.expand(1, 2, 4)), ["a"])
    # in two of four dimensions the values 1, 1, 0, 0: variance 1/3
    assert monitor.epoch()["feature_sd"] == pytest.approx(2 / 4 * (1 / 3) ** 0.5 * 2)


def test_trips_on_a_teacher_of_one_prototype():
    log_q = torch.log_softmax(torch.randn(2, 200, 16) + 200 * torch.eye(16)[3], -1)
    row = epoch_of(unit(), log_q)
    assert row["top1_share"] == 1 and row["entropy_mean_target"] < 1e-3
    assert codes(row) == ["single_prototype"]
    (warning,) = diagnose([row] * 4, CONFIG)
    assert warning.epochs == 4 and warning.numbers["top1_share"] == 1 and "centering" in str(warning)


def test_trips_on_flat_targets_of_equal_embeddings():
    embeddings = normalize(torch.ones(2, 200, 8) + 0.02 * torch.randn(2, 200, 8), dim=-1)
    row = epoch_of(unit(), uniform(), embeddings)
    assert set(codes(row)) == {"uniform_collapse", "constant_embedding"}


def test_an_untrained_network_is_no_collapse_but_a_fall_is():
    """Features of untrained conv nets are nearly constant; what counts is that they fell, or that nothing grows."""
    untrained = {"feature_sd": 0.07, "mean_cosine": 0.995, "effective_rank": 4.0, "embedding_sd": 0.04}
    assert codes(untrained, 10) == []
    assert codes(untrained | {"feature_sd": 0.03}, 3, [untrained]) == ["constant_features"]
    assert codes(untrained | {"effective_rank": 1.5}, 3, [untrained]) == ["few_dimensions"]
    flat = {"embedding_sd": 0.02, "mean_entropy_target": 0.99}
    assert set(codes(flat, 3, [flat])) == {"uniform_collapse", "constant_embedding"}
    assert codes(flat | {"embedding_sd": 0.04}, 3, [flat]) == []  # spreading


def test_bad_epochs_must_be_in_a_row_and_last():
    bad, good = {"feature_sd": 0.001}, {"feature_sd": 0.9}
    assert [f.code for f in diagnose([bad, bad, good, bad, bad], CONFIG)] == []
    assert [f.code for f in diagnose([bad, bad, bad, good], CONFIG)] == []
    assert [f.epochs for f in diagnose([good, bad, bad, bad, bad], CONFIG)] == [4]
    assert diagnose([], CONFIG) == [] and diagnose([{}, {"feature_sd": None}], CONFIG) == []


def test_measures_by_hand():
    q = torch.tensor([[[0.5, 0.5]], [[1.0, 0.0]]])
    p = torch.tensor([[[0.25, 0.75]], [[0.5, 0.5]]])
    seen = StepStatistics.of(torch.eye(2)[:, None], None, q.clamp_min(1e-30).log(), p.log())
    monitor = CollapseMetrics(CONFIG)
    monitor.add(seen, ["a"])
    row = monitor.epoch()
    assert row["mean_entropy_target"] == pytest.approx(0.5)
    mean = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert row["entropy_mean_target"] == pytest.approx(mean)
    crossed = (math.log(0.5 / 0.5) + math.log(1 / 0.25)) / 2  # view 1's target beside view 2's student, and back
    assert row["teacher_student_kl"] == pytest.approx(crossed)
    assert row["mean_cosine"] == 0 and row["effective_rank"] == pytest.approx(2)
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(
        math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    )
    assert mean_cosine(torch.eye(3)[:1]) is None


class OnAppleGPU(torch.Tensor):
    """Like a tensor on the device `mps`, which has no float64."""

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_measures_of_a_device_without_float64():
    features, log_q, embeddings = unit(), sharp(), unit(8)
    expected = epoch_of(features, log_q, embeddings)
    assert epoch_of(*(x.as_subclass(OnAppleGPU) for x in (features, log_q, embeddings))) == expected


def test_only_the_last_vectors_count():
    monitor = CollapseMetrics(small_config(monitor_vectors=16))
    for value in range(5):
        monitor.add(StepStatistics(torch.full((3, 2, 4), float(value))), [f"{value}{i}" for i in range(3)])
    features, keys = monitor.vectors()
    assert keys == [f"{value}{i}" for value in (2, 3, 4) for i in range(3)] and monitor.epoch()["n_vectors"] == 18
    assert features[:, 0].tolist() == [2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert monitor.epoch()["entropy_mean_target"] is None
    with pytest.raises(ValueError, match="2 keys for 3 images"):
        monitor.add(StepStatistics(torch.zeros(3, 2, 4)), ["a", "b"])
    assert CollapseMetrics(CONFIG).epoch()["feature_sd"] is None


def test_neighbours_never_vote_for_their_own_subject():
    features = torch.tensor([[1.0, 0], [1, 0.01], [0, 1], [0.01, 1]])
    labels, pairs = ["CT", "CT", "MR", "MR"], ["a", "b", "c", "d"]
    assert knn_accuracy(features, labels, pairs, 1) == 1
    assert knn_accuracy(features, labels, ["a", "a", "c", "c"], 1) == 0  # only the other subject is left
    assert knn_accuracy(features, ["CT"] * 4, pairs) is None
    assert knn_accuracy(features, labels, ["a"] * 4) is None
    three = torch.tensor([[1.0, 0], [0.9, 0.1], [0.5, 0.5], [0.4, 0.6]])
    assert knn_accuracy(three, ["x", "y", "x", "x"], pairs, 3) == pytest.approx(0.75)


def test_the_nearest_voter_decides_a_tie():
    angles = torch.tensor([0.0, 0.1, 0.21, 0.33, 0.46, 0.6])
    vectors = torch.stack((angles.cos(), angles.sin()), 1)
    # of the first vector: z nearest, then a, a, m, z: two votes for a and two for z
    labels = ["z", "z", "a", "a", "m", "z"]
    distant = knn_accuracy(vectors, labels, list("012345"), k=5)
    judged = []
    for i in range(6):
        order = [j for j in (angles - angles[i]).abs().argsort(stable=True).tolist() if j != i]
        votes = [labels[j] for j in order]
        most = max(votes.count(v) for v in votes)
        judged.append(next(v for v in votes if votes.count(v) == most) == labels[i])
    assert distant == pytest.approx(sum(judged) / 6)
