"""The baseline that no network should need: the best classifier of single voxel intensities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Case = tuple[np.ndarray, np.ndarray]  # image and label map of equal shape


def intensity_classifier_dice(train: Iterable[Case], test: Iterable[Case], n_bins: int = 256) -> dict[str, Any]:
    """Return the Dice of the best classifier that sees a voxel's intensity (z-score of its case) and nothing else.

    Two rules are fitted on the histograms of the training cases: per bin the label with the highest posterior (Bayes,
    priors from the data), and per structure the set of bins with the highest Dice (structures may then overlap, which
    only helps). The rule with the better mean on the test cases counts.

    Returns:
        "mean", "per_structure" (label id -> mean Dice over the test cases that hold it) and "rule".
    """
    counts: dict[int, np.ndarray] = {0: np.zeros(n_bins)}  # label id -> voxels per bin
    for image, label in train:
        bins = _zscore_bins(image, n_bins)
        for value in np.unique(label).tolist():
            found = np.bincount(bins[label == value], minlength=n_bins)
            counts[value] = counts.get(value, 0) + found
    structures = sorted(set(counts) - {0})
    ids, table = np.array([0, *structures]), np.stack([counts[value] for value in (0, *structures)])
    winner, total = ids[table.argmax(0)], table.sum(0)
    rules = {
        "highest posterior per bin": {s: winner == s for s in structures},
        "best bins per structure": {s: _best_bins(counts[s], total) for s in structures},
    }
    dice: dict[str, dict[int, list[float]]] = {name: {s: [] for s in structures} for name in rules}
    for image, label in test:
        bins = _zscore_bins(image, n_bins)
        for s in structures:
            truth = label == s
            for name, chosen in rules.items():
                if truth.any():
                    guess = chosen[s][bins]
                    dice[name][s].append(2 * (truth & guess).sum() / (truth.sum() + guess.sum()))
    scores = {name: {s: float(np.mean(v)) for s, v in row.items() if v} for name, row in dice.items()}
    means = {name: float(np.mean(list(row.values()))) if row else 0.0 for name, row in scores.items()}
    best = max(means, key=means.__getitem__)
    return {"mean": means[best], "per_structure": scores[best], "rule": best}


def _zscore_bins(image: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the bin of every voxel: n_bins equal steps from -4 to 4 standard deviations."""
    z = (image - image.mean()) / max(float(image.std()), 1e-8)
    return np.clip((z + 4) / 8 * n_bins, 0, n_bins - 1).astype(np.int64)


def _best_bins(own: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Find the set of bins (bool per bin) with the highest Dice: it always is "posterior above some threshold"."""
    order = np.argsort(-own / np.maximum(total, 1), kind="stable")
    dice = 2 * np.cumsum(own[order]) / (own.sum() + np.cumsum(total[order]))
    chosen = np.zeros(len(own), bool)
    chosen[order[: dice.argmax() + 1]] = True
    return chosen
