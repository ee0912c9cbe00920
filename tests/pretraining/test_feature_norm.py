import torch

from nnunet_xlstm.pretraining.feature_norm import MOMENTUM, RunningFeatureNorm


def test_statistics_of_the_steps_before_are_taken_out():
    feature_norm = RunningFeatureNorm(3).double()
    x = 5 + torch.tensor([0.1, 2.0, 0.0]).double() * torch.randn(2, 400, 3).double()
    feature_norm.accumulate(x)
    assert torch.allclose(feature_norm(x), x, atol=1e-6)  # not yet: the first step sees them as they are
    feature_norm.end_step()
    y = feature_norm(x)
    assert torch.allclose(y.mean((0, 1)), torch.zeros(3).double(), atol=1e-6)
    assert torch.allclose(y.flatten(0, 1).std(0, correction=0)[:2], torch.ones(2).double(), rtol=1e-2)
    assert (y[..., 2] == 0).all()  # a constant channel stays quiet


def test_micro_batches_count_as_one_batch_and_can_be_discarded():
    whole, parts = RunningFeatureNorm(4).double(), RunningFeatureNorm(4).double()
    for _ in range(3):
        x = torch.randn(2, 6, 4).double() + 3
        whole.accumulate(x)
        for micro in x.split(2, 1):
            parts.accumulate(micro)
        for feature_norm in (whole, parts):
            feature_norm.end_step()
    parts.accumulate(x)
    parts.discard_step()
    for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True):
        assert torch.allclose(a.double(), b.double(), atol=1e-12)


def test_running_statistics_equal_weighted_moments_of_all_steps():
    feature_norm = RunningFeatureNorm(2).double()
    steps = [torch.randn(5, 2).double() * (k + 1) + k for k in range(4)]
    for x in steps:
        feature_norm.accumulate(x)
        feature_norm.end_step()
    weights = [MOMENTUM ** (3 - k) for k in range(4)]
    total = sum(weights)
    mean = sum(w * x.mean(0) for w, x in zip(weights, steps, strict=True)) / total
    square = sum(w * (x - mean).square().mean(0) for w, x in zip(weights, steps, strict=True)) / total
    assert torch.allclose(feature_norm.mean, mean, atol=1e-6)
    assert torch.allclose(feature_norm.variance, square, atol=1e-5)
