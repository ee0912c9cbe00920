"""The checkpoint that a run goes on from: the newest that can be read."""

from __future__ import annotations

from pathlib import Path

from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.nnunet.checkpoints.load import HoldsObjects, load_checkpoint

NAMES = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


def read_header(path: Path) -> dict | None:
    """Return a run's own checkpoint without reading its tensors (they stay mapped to the file); None if damaged.

    What our trainers and nnU-Net's write is read without unpickling. A trainer that adds objects of its own is trusted
    with them: the file lies in the folder that the run wrote, and nnU-Net unpickles it in the next step.
    """
    try:
        try:
            checkpoint = load_checkpoint(path, mmap=True)
        except HoldsObjects:
            checkpoint = load_checkpoint(path, mmap=True, allow_pickle=True)
        int(checkpoint["current_epoch"])
    except (CheckpointError, KeyError, TypeError, ValueError):
        return None
    return checkpoint


def readable_checkpoint(requested: Path, fall_back: bool = True) -> Path:
    """Return `requested` if it can be read, else (with `fall_back`) the newest readable checkpoint beside it, by epoch.

    Raises:
        CheckpointError: none can be read.
    """
    if read_header(requested) is not None:
        return requested
    if not fall_back:
        raise CheckpointError(
            f"{requested} is truncated or not a checkpoint; continue the training with --c to mend it"
        )
    found = []
    for name in NAMES:
        candidate = requested.with_name(name)
        header = read_header(candidate) if candidate.is_file() and candidate != requested else None
        if header is not None:
            found.append((int(header["current_epoch"]), candidate))
    if not found:
        raise CheckpointError(
            f"{requested} is truncated or not a checkpoint, and no other checkpoint in {requested.parent} can be read; "
            "delete the damaged file and start the fold anew"
        )
    return max(found, key=lambda entry: entry[0])[1]
