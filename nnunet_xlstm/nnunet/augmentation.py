"""Random numbers of the augmentation workers."""

from __future__ import annotations

import os

import numpy as np
import torch


class ReseedPerWorker:
    """A transform that seeds torch from NumPy's generator at its first call in a new process.

    nnU-Net's workers are forked with one torch state and reseed NumPy only, while its transforms draw mirroring and
    noise from torch: without this every worker draws the same ones.
    """

    def __init__(self, transform):
        self.transform = transform
        self._pid = os.getpid()

    def __call__(self, **data):
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            torch.manual_seed(int(np.random.randint(2**31 - 1)))
        return self.transform(**data)

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "transform":
            raise AttributeError(name)
        return getattr(self.transform, name)
