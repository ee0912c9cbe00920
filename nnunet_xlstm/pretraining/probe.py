"""What frozen features are worth: hypercolumns, a linear probe per voxel, principal components, and controls.

A hypercolumn (Hariharan et al. 2015) is the vector of all stage maps at one voxel, each map read by linear
interpolation; map and image share their outer borders (align_corners=False), as in a U-Net's decoder and in the dense
objective. Interpolation and a linear model commute, so a model is applied to each map at its own resolution and only
its few outputs are brought to the image's grid: the hypercolumns of a whole image are never made.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_xlstm.pretraining.objectives.dense import sample
from nnunet_xlstm.pretraining.views import MODES

HISTOGRAM = (-4.0, 6.0, 64)  # of normalized intensities: first and last edge, bins; the outer bins take the rest
MAX_ITERATIONS = 300
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of squared weights; chosen on held-out training subjects, as is the next
PRIORS = (0.0, 0.25, 0.5, 0.75, 1.0)  # how far from the sample's class shares to the true ones
DEFAULTS = (1e-2, 0.75)  # where there is no subject to hold out


@dataclass(frozen=True)
class LinearModel:
    """`weight @ hypercolumn + bias`; weight (K, C), bias (K,), float32."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Map (N, C) to (N, K)."""
        return features @ self.weight.T + self.bias

    def shifted(self, by: Tensor) -> LinearModel:
        """Return the model with `by` (K,) added to its outputs."""
        return LinearModel(self.weight, self.bias + by)


def hypercolumns(maps: Sequence[Tensor], size: Sequence[int], points: Tensor) -> Tensor:
    """Return the hypercolumns at some voxels.

    Args:
        maps: stage maps (C_s, *cells_s) of one image.
        size: voxels per axis of that image.
        points: (N, D) integer voxels.

    Returns:
        (N, sum of C_s).
    """
    positions = (points.to(maps[0].device) + 0.5) / torch.tensor(size, device=maps[0].device)
    return torch.cat([sample(m[None], positions[None].float())[0] for m in maps], 1)


def apply_linear(model: LinearModel, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Apply a model at every voxel, (K, *size): the same as for `hypercolumns` at all voxels."""
    weights = model.weight.to(maps[0].device).split([len(m) for m in maps], 1)
    mode = MODES[len(size)]
    outputs = (
        F.interpolate(torch.tensordot(w, m, 1)[None], tuple(size), mode=mode, align_corners=False)[0]
        for w, m in zip(weights, maps, strict=True)
    )
    total = reduce(torch.add, outputs)
    return total + model.bias.to(total.device).view(-1, *[1] * len(size))


def draw_voxels(classes: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Draw voxels of each class, without repetition: (N, D). A class with fewer voxels gives all it has.

    Args:
        classes: class index of each voxel; negative ones are never drawn.
        per_class: voxels, at most.
        rng: that draws.
    """
    flat = classes.ravel()
    chosen = []
    for index in np.unique(flat[flat >= 0]):
        found = np.flatnonzero(flat == index)
        chosen.append(found if len(found) <= per_class else rng.choice(found, per_class, replace=False))
    places = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
    return np.stack(np.unravel_index(places, classes.shape), 1)


def _standardization(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / SD of features (N, C); 0 for a feature that is constant."""
    mean, sd = x.mean(0), x.std(0, correction=0)
    return mean, torch.where(sd > 1e-6 * (mean.abs() + 1e-6), 1 / sd, 0.0)


def fit_logistic(x: Tensor, y: np.ndarray, penalty: float) -> LinearModel:
    """Fit a multinomial logistic regression on standardized features.

    Minimizes mean cross-entropy + penalty / 2 x squared weights, where features have mean 0 and SD 1 over the sample;
    the result takes features as they are. A feature that is constant gets no weight.

    Args:
        x: (N, C).
        y: (N,) class indices, each from 0 to K - 1 at least once.
        penalty: of the squared weights.
    """
    mean, scale = _standardization(x)
    regression = LogisticRegression(C=1 / (penalty * len(y)), max_iter=MAX_ITERATIONS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last steps change no label map
        regression.fit(((x - mean) * scale).numpy(), y)
    weight, bias = (torch.as_tensor(v, dtype=torch.float32) for v in (regression.coef_, regression.intercept_))
    if len(weight) == 1:  # two classes: one row, for the second
        weight, bias = (torch.cat([torch.zeros_like(v), v]) for v in (weight, bias))
    weight = weight * scale
    return LinearModel(weight, bias - weight @ mean)


def prior_shift(sampled: np.ndarray, true: np.ndarray) -> Tensor:
    """Return what a model fitted on a sample of other class shares adds to its outputs to suit the true shares.

    Prentice and Pyke 1979: sampling by class changes the intercepts alone, by the logarithm of the shares.

    Args:
        sampled: voxels of each class in the sample, (K,), above 0.
        true: voxels of each class in the whole, likewise.
    """
    shift = np.log(true / true.sum()) - np.log(sampled / sampled.sum())
    return torch.as_tensor(shift, dtype=torch.float32)


def sampled_dice(predicted: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """Return the mean Dice of classes 1, 2, ... where each voxel of the sample stands for `weights` voxels."""

    def voxels(mask: np.ndarray) -> float:
        return float(weights[mask].sum())

    classes = range(1, int(y.max()) + 1)
    sizes = [voxels(predicted == k) + voxels(y == k) for k in classes]
    hits = [voxels((predicted == k) & (y == k)) for k in classes]
    return float(np.mean([2 * hit / size for hit, size in zip(hits, sizes, strict=True) if size]))


def fit_probe(x: Tensor, y: np.ndarray, counts: np.ndarray, subjects: np.ndarray) -> tuple[LinearModel, float, float]:
    """Fit a probe on class-balanced voxels for images with other class shares.

    Penalty and shift of the class shares are those that give the best Dice on every second subject when fitted on the
    others; the probe is then fitted on all. So every encoder gets what suits it, and no test subject is asked.

    Args:
        x: (N, C) features.
        y: (N,) classes.
        counts: (K,) voxels of each class in the whole images.
        subjects: (N,).

    Returns:
        The probe, its penalty and its share of the prior shift.
    """
    held = np.isin(subjects, np.unique(subjects)[1::2])
    shift = prior_shift(np.bincount(y, minlength=len(counts)), counts)
    best = (-1.0, *DEFAULTS)
    if len(np.unique(y[~held])) == len(np.unique(y[held])) == len(counts):
        weights = (counts / np.bincount(y[held]))[y[held]]
        for penalty in PENALTIES:
            logits = fit_logistic(x[torch.from_numpy(~held)], y[~held], penalty)(x[torch.from_numpy(held)])
            for prior in PRIORS:
                dice = sampled_dice((logits + prior * shift).argmax(1).numpy(), y[held], weights)
                best = max(best, (dice, penalty, prior))
    _, penalty, prior = best
    return fit_logistic(x, y, penalty).shifted(prior * shift), penalty, prior


def balanced_accuracy(predicted: np.ndarray, y: np.ndarray) -> float:
    """Return the mean over the classes of y of the share that is found."""
    return float(np.mean([(predicted[y == index] == index).mean() for index in np.unique(y)]))


def principal_components(x: Tensor, brightness: Tensor, n: int = 3) -> LinearModel:
    """Find the first n principal components of features with mean 0 and SD 1.

    Args:
        x: (N, C).
        brightness: (N,); a component's sign is such that it does not fall with it, so that pictures of two encoders can
            be compared.
        n: components.
    """
    mean, scale = _standardization(x)
    z = (x - mean) * scale
    _, vectors = torch.linalg.eigh((z.T @ z).double())
    weight = vectors.T.flip(0)[:n].float()
    sign = torch.sign((z @ weight.T).T @ (brightness - brightness.mean()))
    weight = weight * torch.where(sign == 0, 1.0, sign)[:, None] * scale
    return LinearModel(weight, -weight @ mean)


@torch.no_grad()
def permute_weights(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Shuffle the values inside each parameter, in place: every layer keeps the statistics of its weights."""
    for parameter in module.parameters():
        order = torch.randperm(parameter.numel(), generator=generator)
        parameter.copy_(parameter.flatten()[order.to(parameter.device)].view_as(parameter))
    return module


def intensity_histogram(image: np.ndarray) -> Tensor:
    """Return the square roots of the bins' shares, a unit vector per channel: (C, ...) -> (C x bins,).

    The cosine of two such vectors of one channel is the Bhattacharyya coefficient of the histograms.
    """
    low, high, bins = HISTOGRAM
    edges = np.linspace(low, high, bins + 1)
    shares = [np.histogram(channel.clip(low, high), edges)[0] / channel.size for channel in image]
    return torch.from_numpy(np.sqrt(np.concatenate(shares)))
