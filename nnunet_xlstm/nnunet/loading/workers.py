"""Augmentation workers: they sit out stop signals, end with their trainer, and draw random numbers of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import util

import numpy as np
import torch

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
SECONDS_BETWEEN_LOOKS = 2.0


def enter_worker() -> None:
    """Prepare this process, an augmentation worker, at its first batch.

    Clusters and terminals signal all processes of a run. Workers go on, so that their trainer gets batches until it has
    written its checkpoint; they end when it ends. torch is seeded from NumPy's generator: nnU-Net's workers are forked
    with one torch state and reseed NumPy only, and without this they would draw the same mirroring and noise.
    """
    torch.manual_seed(int(np.random.randint(2**31 - 1)))
    if threading.current_thread() is threading.main_thread():
        for number in (*STOP_SIGNALS, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process soon after its parent, also where the parent was killed and could tell nobody."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def kill_at_exit() -> None:
    """See to it that this process kills its workers at its own end; Python would send them SIGTERM, and wait."""
    util.Finalize(None, _kill_workers, exitpriority=100)


def _kill_workers() -> None:
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


class SteadyBatches:
    """The batches of one of nnU-Net's augmenters; after it fails, the last one again and again.

    A rank whose workers have died can so take the steps that the other ranks wait for, until all of them stop together.

    Attributes:
        failure: what the augmenter raised; None while it works.
    """

    def __init__(self, augmenter: Iterator[dict]):
        self.augmenter = augmenter
        self.failure: Exception | None = None
        self._last: dict = {}

    def __iter__(self) -> Iterator[dict]:
        return self

    def __next__(self) -> dict:
        if self.failure is None:
            try:
                self._last = next(self.augmenter)
            except Exception as error:  # whatever it is, the trainer raises it when all ranks have stopped
                if not self._last:
                    raise
                self.failure = error
        return self._last

    def finish(self) -> None:
        """End the workers, where there are any."""
        if hasattr(self.augmenter, "_finish"):
            self.augmenter._finish()
