"""Whether a run has collapsed, from the measures of its epochs, and what helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nnunet_xlstm.config.pretraining import GuardKeys


@dataclass(frozen=True)
class CollapseWarning:
    """A collapse: its code, for how many epochs in a row, the last measures, what it means and what helps."""

    code: str
    epochs: int
    numbers: dict[str, float]
    meaning: str
    advice: str

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.numbers.items())
        return f"{self.code} for {self.epochs} epochs ({numbers}): {self.meaning}. {self.advice}"


class _Row:
    """A row of measures beside the first value of each in the run; a comparison with a missing measure is false."""

    def __init__(self, row: Mapping, first: Mapping):
        self.row, self.first = row, first

    def above(self, name: str, limit: float) -> bool:
        return self.row.get(name) is not None and self.row[name] > limit

    def below(self, name: str, limit: float) -> bool:
        return self.row.get(name) is not None and self.row[name] < limit

    def grown(self, name: str) -> bool:
        """Return whether a measure is half as much again as in the first epoch."""
        return self.above(name, 1.5 * self.first.get(name, float("inf")))

    def halved(self, name: str) -> bool:
        return self.below(name, 0.5 * self.first.get(name, 0.0))


def _uniform(row: _Row) -> bool:
    # flat targets alone are a matter of temperature; here nothing tells images apart, and that is not getting better
    spread = "embedding_sd" if row.row.get("embedding_sd") is not None else "feature_sd"
    return row.above("mean_entropy_target", 0.98) and row.below(spread, 0.1) and not row.grown(spread)


def _constant_features(row: _Row) -> bool:
    # pooled features of an untrained network are nearly constant too, so a low value must also have fallen
    return row.below("feature_sd", 0.01) or (row.below("feature_sd", 0.1) and row.halved("feature_sd"))


# code, test of an epoch, measures to show, meaning, advice
CHECKS: tuple[tuple[str, Callable[[_Row], bool], tuple[str, ...], str, str], ...] = (
    (
        "uniform_collapse",
        _uniform,
        ("mean_entropy_target", "teacher_student_kl", "embedding_sd", "feature_sd"),
        "the teacher gives every image the same flat target",
        "Keep feature_norm on, lower teacher_temperature or the learning rate, raise teacher_momentum, or take more "
        "images per step (gradient_accumulation)",
    ),
    (
        "single_prototype",
        lambda row: row.above("top1_share", 0.95) and row.below("entropy_mean_target", 0.2),
        ("entropy_mean_target", "top1_share"),
        "the teacher puts all images on one prototype",
        "Set centering to running or sinkhorn; with running, lower center_momentum if the center lags behind, or raise "
        "teacher_temperature a little",
    ),
    (
        "single_prototype_in_a_head",
        lambda row: row.below("least_entropy_mean_target", 0.1),
        ("least_entropy_mean_target",),
        "one head (of an inner stage, or of the dense objective) puts everything on one prototype",
        "Set centering to running or sinkhorn, set feature_stages to bottleneck, or set dense_weight to 0",
    ),
    (
        "constant_features",
        _constant_features,
        ("feature_sd", "mean_cosine", "effective_rank"),
        "the encoder returns nearly the same feature for every image",
        "Set koleo_weight to 0.1 or more and dino_weight above 0, or lower the learning rate; mse alone collapses",
    ),
    (
        "constant_embedding",
        lambda row: row.below("embedding_sd", 0.03) and not row.grown("embedding_sd"),
        ("embedding_sd", "feature_sd"),
        "the head returns nearly the same embedding for every image, so the encoder learns nothing",
        "Keep feature_norm on, set dino_weight above 0 with centering running or sinkhorn, or lower the learning rate; "
        "mse alone collapses",
    ),
    (
        "few_dimensions",
        lambda row: row.below("effective_rank", 2) and row.halved("effective_rank") and not _constant_features(row),
        ("effective_rank", "mean_cosine"),
        "features vary in one direction only",
        "Raise koleo_weight, or add dense_weight or masked_weight",
    ),
)


def diagnose(history: Sequence[Mapping], config: GuardKeys) -> list[CollapseWarning]:
    """Return warnings that hold at the end of `history` and have for `collapse_patience` epochs in a row.

    Args:
        history: one row per epoch, oldest first, with the measures of `CollapseMetrics.epoch` (missing or None: not
            judged). Low spread is compared with the first row that has the measure, so begin with the start of the run.
        config: keys of the guard.
    """
    first: dict[str, float] = {}
    for row in history:
        for name, value in row.items():
            if value is not None:
                first.setdefault(name, value)
    warnings = []
    for code, holds, shown, meaning, advice in CHECKS:
        epochs = 0
        for row in reversed(history):
            if not holds(_Row(row, first)):
                break
            epochs += 1
        if epochs and epochs >= config.collapse_patience:
            numbers = {name: history[-1][name] for name in shown if history[-1].get(name) is not None}
            warnings.append(CollapseWarning(code, epochs, numbers, meaning, advice))
    return warnings
