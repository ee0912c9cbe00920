"""Optimizers and learning-rate schedules from a config."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from nnunet_xlstm.config import OptimizerKeys
from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.pretraining import schedules


def warmup_poly(progress: float, warmup_fraction: float, exponent: float = 0.9) -> float:
    """Return the factor of the peak learning rate at `progress` in [0, 1]: linear to 1, then (1 - rest)^exponent."""
    if progress < warmup_fraction:
        return progress / warmup_fraction
    return (1 - (progress - warmup_fraction) / (1 - warmup_fraction)) ** exponent if warmup_fraction < 1 else 1.0


def parameter_groups(
    network: nn.Module,
    weight_decay: float,
    on_vectors: bool = False,
    scales: Mapping[nn.Parameter, float] | None = None,
) -> list[dict]:
    """Group the parameters that learn, by rate and by weight decay.

    Args:
        network: its parameters that require gradients are taken.
        weight_decay: of matrices and kernels.
        on_vectors: also of vectors (biases, norms, gate biases).
        scales: of a parameter, its share of the learning rate; 1 where it is not named.

    Returns:
        Groups of an optimizer, with `lr_scale`, and `decays`: whether weight decay is meant for them.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for p in network.parameters():
        if p.requires_grad:
            scale = (scales or {}).get(p, 1.0)
            groups.setdefault((scale, on_vectors or p.ndim > 1), []).append(p)
    return [
        {"params": p, "weight_decay": weight_decay if decays else 0.0, "decays": decays, "lr_scale": scale}
        for (scale, decays), p in groups.items()
    ]


def make_optimizer(
    network: nn.Module, config: OptimizerKeys, scales: Mapping[nn.Parameter, float] | None = None
) -> torch.optim.Optimizer:
    """Make the optimizer that `config` names; `scales` as in `parameter_groups`."""
    groups = parameter_groups(network, config.weight_decay, config.optimizer == "sgd", scales)
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, config.initial_lr, momentum=0.99, nesterov=True, weight_decay=config.weight_decay
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, lr=config.initial_lr)


class IterationSchedule:
    """Sets the learning rate before every iteration; nnU-Net's per-epoch `step` does nothing."""

    def __init__(self, optimizer: torch.optim.Optimizer, config: OptimizerKeys, total_iterations: int):
        self.optimizer, self.config, self.total = optimizer, config, total_iterations
        self.warmup_iterations = round(config.warmup_fraction * total_iterations)
        self.set(0)

    def factor(self, iteration: int) -> float:
        """Return the share of the peak learning rate at an iteration."""
        if self.config.lr_schedule == "constant":
            return 1.0
        if self.config.lr_schedule == "warmup_cosine":
            return schedules.learning_rate(iteration, self.total, 1.0, warmup_steps=self.warmup_iterations)
        # + 1: the first step of a warm-up is not lost to a rate of 0
        progress = min((iteration + 1) / (self.total + 1), 1.0)
        return warmup_poly(progress, self.config.warmup_fraction if self.config.lr_schedule == "warmup_poly" else 0.0)

    def set(self, iteration: int) -> None:
        """Set the learning rate of an iteration."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.initial_lr * self.factor(iteration) * group.get("lr_scale", 1.0)

    def step(self, epoch: int) -> None:
        """Do nothing: nnU-Net calls this at the start of an epoch, and the rate is set by iteration."""


class StagedSchedule(IterationSchedule):
    """First a rise and a fall for the decoder alone, then the schedule of the config for all (nnssl's sawtooth)."""

    def __init__(self, optimizer, config: OptimizerKeys, total_iterations: int, first_iterations: int):
        self.first = first_iterations
        super().__init__(optimizer, config, total_iterations - first_iterations)

    def factor(self, iteration: int) -> float:
        """Return the share of the peak learning rate at an iteration."""
        if iteration < self.first:
            return 1 - abs(2 * (iteration + 1) / (self.first + 1) - 1)
        return super().factor(iteration - self.first)


class PretrainingSchedule(IterationSchedule):
    """Learning rate and weight decay by optimizer step.

    The peak rate scales with the images per step where the config names a reference batch (Goyal et al. 2017; DINO:
    5e-4 for 256). Weight decay moves by a cosine from its start to its end (DINO: 0.04 to 0.4).
    """

    config: PretrainingConfig

    def __init__(self, optimizer, config: PretrainingConfig, total_iterations: int, images_per_step: int):
        self.peak = schedules.scaled_rate(
            config.initial_lr, images_per_step, config.lr_reference_batch, config.min_peak_lr
        )
        self._decay = [group["weight_decay"] if group["decays"] else None for group in optimizer.param_groups]
        super().__init__(optimizer, config, total_iterations)

    def set(self, iteration: int) -> None:
        """Set the learning rate of an iteration."""
        rate = self.peak * self.factor(iteration)
        if iteration >= self.warmup_iterations:
            rate = max(rate, self.config.end_lr)
        for group, decay in zip(self.optimizer.param_groups, self._decay, strict=True):
            group["lr"] = rate
            if decay is not None:  # groups without weight decay keep none
                group["weight_decay"] = schedules.weight_decay(
                    iteration, self.total, decay, self.config.weight_decay_end
                )
