"""Settings of a run that are allowed and probably not meant."""

from __future__ import annotations

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.pretraining.schedules import share_of_start

SLOW_TEACHER = 0.1  # share of its first weights that the last teacher should not exceed


def setting_warnings(config: PretrainingConfig, total_steps: int) -> list[str]:
    """Return a sentence for each doubtful setting, with what to change.

    Args:
        config: all keys.
        total_steps: optimizer steps of the whole run.
    """
    warnings = []
    share = share_of_start(total_steps, config)
    if config.export_branch == "teacher" and share > SLOW_TEACHER:
        warnings.append(
            f"after {total_steps} steps the teacher, which the checkpoint offers, will still be {share:.0%} the "
            f"weights it started with; lower teacher_momentum ({config.teacher_momentum:g}), train for longer, or "
            "set export_branch to student"
        )
    if config.frames == "pair" and config.dense_weight:
        warnings.append(
            "frames = pair with dense_weight: points at one place in two time frames are taken for the same tissue, "
            "which a moving heart is not; set dense_weight to 0"
        )
    return warnings
