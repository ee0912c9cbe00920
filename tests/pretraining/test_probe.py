"""The linear probe and its parts: alignment, sampling, a known answer, controls."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xlstm.pretraining import probe

SIZES = [(8, 12, 16), (7, 9, 10), (5, 6)]


def every_voxel(size):
    return torch.from_numpy(np.stack([g.ravel() for g in np.indices(size)], 1))


def naive(maps, size):
    """All hypercolumns of an image, (C, *size)."""
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    return torch.cat([F.interpolate(m[None], size, mode=mode, align_corners=False)[0] for m in maps])


@pytest.mark.parametrize("size", SIZES)
def test_hypercolumns_are_the_upsampled_maps(size):
    maps = [torch.randn(c, *(max(1, -(-n // s)) for n in size)) for c, s in ((2, 1), (3, 2), (4, 4))]
    found = probe.hypercolumns(maps, size, every_voxel(size))
    torch.testing.assert_close(found.T.reshape(9, *size), naive(maps, size), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(16, 24, 8), (12, 20)])
def test_a_map_of_coordinates_stays_aligned(size):
    """Averaged over tokens and read back, a coordinate is itself, but for the outermost half tokens."""
    coordinates = torch.from_numpy(np.indices(size)).float()
    pool = F.avg_pool3d if len(size) == 3 else F.avg_pool2d
    for stride in (1, 2, 4):
        found = probe.hypercolumns([pool(coordinates, stride)], size, every_voxel(size))
        inner = ((every_voxel(size) >= stride) & (every_voxel(size) < torch.tensor(size) - stride)).all(1)
        torch.testing.assert_close(found[inner], every_voxel(size)[inner].float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_a_model_on_maps_is_the_model_on_hypercolumns(size):
    maps = [torch.randn(c, *(-(-n // s) for n in size)) for c, s in ((2, 1), (3, 2))]
    model = probe.LinearModel(torch.randn(4, 5), torch.randn(4))
    expected = model(naive(maps, size).flatten(1).T).T.reshape(4, *size)
    torch.testing.assert_close(probe.apply_linear(model, maps, size), expected, atol=1e-5, rtol=1e-5)


def test_voxels_are_drawn_by_class_and_never_where_they_do_not_count():
    classes = np.full((6, 6, 6), -1)
    classes[0], classes[1, 0, :3] = 0, 1
    voxels = probe.draw_voxels(classes, 5, np.random.default_rng(0))
    found = classes[tuple(voxels.T)]
    assert np.bincount(found).tolist() == [5, 3]
    assert len({tuple(v) for v in voxels}) == 8
    assert probe.draw_voxels(np.full((2, 2), -1), 5, np.random.default_rng(0)).shape == (0, 2)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_regression_finds_separable_classes(n_classes):
    """Class k has its own feature high; one feature is constant and one is on a large scale without meaning."""
    generator = torch.Generator().manual_seed(0)
    y = np.arange(600) % n_classes
    x = torch.randn(600, n_classes + 2, generator=generator)
    x[torch.arange(600), torch.from_numpy(y)] += 8
    x[:, -2], x[:, -1] = 7.0, x[:, -1] * 1e4
    model = probe.fit_logistic(x, y, 1e-3)
    assert model.weight.shape == (n_classes, n_classes + 2)
    assert (model(x).argmax(1).numpy() == y).mean() > 0.98
    assert model.weight[:, -2].abs().max() == 0


def test_logistic_regression_of_one_binary_feature_is_the_log_odds():
    """80 % of x = 1 and 30 % of x = 0 are of class 1: without a penalty the logits are those log-odds."""
    x = torch.cat([torch.ones(1000, 1), torch.zeros(1000, 1)])
    y = np.concatenate([np.arange(1000) < 800, np.arange(1000) < 300]).astype(int)
    logits = probe.fit_logistic(x, y, 1e-8)(torch.tensor([[1.0], [0.0]])).diff(dim=1)[:, 0]
    expected = torch.tensor([math.log(0.8 / 0.2), math.log(0.3 / 0.7)])
    torch.testing.assert_close(logits, expected, atol=0.02, rtol=0)


def test_prior_shift_is_the_ratio_of_shares():
    shift = probe.prior_shift(np.array([50, 50]), np.array([900, 100]))
    torch.testing.assert_close(shift, torch.tensor([math.log(0.9 / 0.5), math.log(0.1 / 0.5)]))


def test_dice_of_a_sample_is_that_of_the_image():
    """Ten voxels of class 1 and ninety of class 0; the sample holds two of each, which stand for 5 and 45."""
    y, predicted = np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0])
    weights = np.array([5.0, 5.0, 45.0, 45.0])
    assert probe.sampled_dice(predicted, y, weights) == pytest.approx(2 * 5 / (50 + 10))


def test_the_probe_chooses_on_subjects_that_it_was_not_fitted_on():
    """One feature tells the class, the others only who the subject is; classes are rare in the images."""
    generator = torch.Generator().manual_seed(0)
    subjects, y = np.repeat(np.arange(8), 100), np.tile([0, 1], 400)
    x = torch.randn(800, 9, generator=generator)
    x[torch.arange(800), torch.from_numpy(subjects)] += 3
    x[:, 8] += 2 * torch.from_numpy(y)
    model, penalty, prior = probe.fit_probe(x, y, np.array([9500, 500]), subjects)
    assert penalty in probe.PENALTIES and prior > 0  # without the shift, false alarms among 9500 voxels cost Dice
    step = model.weight.diff(dim=0)[0]
    assert step[8] > 3 * step[:8].abs().max()
    _, *chosen = probe.fit_probe(x, y, np.array([9500, 500]), np.zeros(800))
    assert tuple(chosen) == probe.DEFAULTS  # one subject: nobody to hold out


def test_balanced_accuracy_counts_classes_alike():
    assert probe.balanced_accuracy(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1])) == pytest.approx(0.75)


def test_permuted_keeps_each_tensor_and_its_buffers():
    made = nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.Linear(5, 6))
    made[1].running_mean += torch.arange(4.0)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    probe.permute_weights(made, torch.Generator().manual_seed(0))
    parameters = dict(made.named_parameters())
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor.flatten().sort().values, before[name].flatten().sort().values), name
        if name not in parameters:
            assert torch.equal(tensor, before[name]), name
    for name in ("0.weight", "2.weight"):
        assert not torch.equal(parameters[name], before[name]), name
    again = nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.Linear(5, 6))
    again.load_state_dict(before)
    probe.permute_weights(again, torch.Generator().manual_seed(0))
    assert torch.equal(again[0].weight, made[0].weight)


def test_principal_components_are_those_of_a_known_cloud():
    """Two standardised features of correlation r: components along (1, 1) and (1, -1), variances 1 + r and 1 - r."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(20000, generator=generator)
    x = torch.stack([common + 0.5 * torch.randn(20000, generator=generator), 3 * common + 40], 1)
    model = probe.principal_components(x, -x[:, 0], 2)
    z = model(x)
    assert z.mean(0).abs().max() < 1e-2
    r = torch.corrcoef(x.T)[0, 1]
    torch.testing.assert_close(z.var(0, correction=0), torch.stack([1 + r, 1 - r]), atol=1e-3, rtol=0)
    assert torch.corrcoef(torch.stack([z[:, 0], x[:, 0]]))[0, 1] < -0.9  # the sign follows the brightness given


def test_histograms_are_unit_vectors_and_blind_to_place():
    image = np.random.default_rng(0).normal(size=(1, 6, 7, 8))
    vector = probe.intensity_histogram(image)
    assert float(vector.norm()) == pytest.approx(1)
    assert torch.equal(vector, probe.intensity_histogram(np.flip(image, 1)))
    assert float(probe.intensity_histogram(np.full((1, 4, 4, 4), 99.0))[-1]) == 1
