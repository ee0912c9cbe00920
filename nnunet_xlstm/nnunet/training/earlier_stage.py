"""The earlier stage that a run of pre-training starts from."""

from __future__ import annotations

from pathlib import Path

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.pretraining.student_teacher import StudentTeacher


def start_from(path: Path, method: StudentTeacher, keep_heads: bool) -> list[dict]:
    """Let student and teacher begin as the teacher of an earlier stage.

    Args:
        path: of that stage's checkpoint.
        method: is changed in place, before its optimizer is made.
        keep_heads: also take heads, centers and queues.

    Returns:
        The lineage of the new stage: a record of every stage before it, the first one first.

    Raises:
        CheckpointError: not a checkpoint of pre-training.
        ConfigError: its network is another one.
    """
    content = checkpoints.read(path)
    own = content[checkpoints.KEY]
    try:
        method.load_teacher(own["method"], keep_heads=keep_heads)
    except (RuntimeError, KeyError) as error:
        raise ConfigError(
            f"init_checkpoint {path}: its encoder ({own['architecture']['network_class_name']}, "
            f"{own['dataset']}) does not fit this network: {str(error).splitlines()[0]}; plan both stages with one "
            "planner, and use the plans of the first (nnUNetv2_move_plans_between_datasets)"
        ) from error
    return [*own["lineage"], checkpoints.lineage_entry(path, content)]
