"""Schedules: numbers as functions of the optimizer step, so a resumed run has nothing to restore.

Sources: DINO (Caron et al. 2021, section 3.1 and appendix) for momentum, temperature and weight decay; linear warm-up
and cosine after Loshchilov and Hutter 2017. `step` counts optimizer steps from 0, `total` is their number in the run.
"""

from __future__ import annotations

import math

from nnunet_xlstm.config.pretraining import TeacherKeys


def cosine(start: float, end: float, step: int, total: int) -> float:
    """Follow half a cosine from `start` to `end`, k = step, K = total: end - (end - start) (cos(pi k / K) + 1) / 2."""
    progress = min(max(step / max(total, 1), 0.0), 1.0)
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


def learning_rate(step: int, total: int, peak: float, floor: float = 0.0, warmup_steps: int = 0) -> float:
    """Rise linearly from peak / warmup_steps to `peak`, then fall along a cosine to `floor`.

    The first step has a rate above 0 (it is not lost), and the cosine starts at `peak` in step `warmup_steps`.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return cosine(peak, floor, step - warmup_steps, total - warmup_steps)


def scaled_rate(rate: float, images_per_step: int, reference: int | None, floor: float = 0.0) -> float:
    """Scale a peak rate meant for `reference` images per step to `images_per_step`; not below floor.

    Linear scaling (Goyal et al. 2017, used by DINO); `reference` None takes the rate as it is.
    """
    return rate if reference is None else max(rate * images_per_step / reference, floor)


def weight_decay(step: int, total: int, start: float, end: float | None) -> float:
    """Follow a cosine from `start` to `end`; `end` None keeps `start`."""
    return start if end is None else cosine(start, end, step, total)


def teacher_momentum(step: int, total: int, config: TeacherKeys) -> float:
    """Return the share of the teacher that stays: a cosine from teacher_momentum to teacher_momentum_end."""
    return cosine(config.teacher_momentum, config.teacher_momentum_end, step, total)


def teacher_temperature(step: int, steps_per_epoch: int, config: TeacherKeys) -> float:
    """Go linearly from teacher_temperature to its end over teacher_temperature_epochs, then stay."""
    warmup = config.teacher_temperature_epochs * steps_per_epoch
    progress = min(step / warmup, 1.0) if warmup else 1.0
    return config.teacher_temperature + progress * (config.teacher_temperature_end - config.teacher_temperature)


def share_of_start(total: int, config: TeacherKeys) -> float:
    """Return the share of its first weights that the teacher holds after `total` steps: all momenta multiplied."""
    return math.prod(teacher_momentum(step, total, config) for step in range(total))
