"""Augmentation in nnU-Net's worker processes."""

from __future__ import annotations

import os

from nnunet_xlstm.nnunet.workers import enter_worker


class ReseedPerWorker:
    """A transform that prepares a new process, an augmentation worker, at its first call there (`enter_worker`)."""

    def __init__(self, transform):
        self.transform = transform
        self._pid = os.getpid()

    def __call__(self, **data):
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            enter_worker()
        return self.transform(**data)

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "transform":
            raise AttributeError(name)
        return getattr(self.transform, name)
