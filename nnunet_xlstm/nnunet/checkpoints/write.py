"""The checkpoints of a running training: written whole or not at all, and one kept in memory for a stop."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from nnunet_xlstm.io.write import remove_leftovers, replacing, write_bytes

LATEST = "checkpoint_latest.pth"


class RunCheckpoints:
    """Writes the checkpoints of a run.

    Args:
        write: writes the state of the run into a file. Every rank has to call it; rank 0 writes.
    """

    def __init__(self, write: Callable[[str | BinaryIO], None]):
        self._write = write
        self._kept = io.BytesIO()
        self._epochs_on_disk: int | None = None  # that LATEST holds, if this process has written it

    @property
    def kept(self) -> bool:
        """Tell whether a checkpoint is kept in memory."""
        return self._kept.getbuffer().nbytes > 0

    def save(self, path: Path, epochs: int, to_disk: bool) -> None:
        """Write a checkpoint, whole or not at all.

        Args:
            path: of the file.
            epochs: whole ones that it holds.
            to_disk: whether this rank writes.
        """
        if to_disk:
            remove_leftovers(path.parent)
            with replacing(path) as temporary:
                self._write(str(temporary))
        else:
            self._write(str(path))
        if path.name == LATEST:
            self._epochs_on_disk = epochs

    def keep(self, epochs: int) -> None:
        """Keep what a stop within the coming epoch writes: its steps cannot be taken back, and it will run again.

        In memory (weights and the optimizer's state once more, on the host), unless LATEST holds the same epochs.
        """
        self._kept = io.BytesIO()
        if self._epochs_on_disk != epochs:
            self._write(self._kept)

    def write_kept(self, folder: Path) -> None:
        """Write the checkpoint in memory, if there is one, as the latest of the folder."""
        if self.kept:
            remove_leftovers(folder)
            write_bytes(folder / LATEST, self._kept.getbuffer())
