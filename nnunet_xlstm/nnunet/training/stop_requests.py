"""Requests to end a run before its last epoch: a signal came, or a rank gets no more batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed as dist

from nnunet_xlstm.nnunet.loading.workers import SteadyBatches, kill_at_exit
from nnunet_xlstm.nnunet.training.stop_signals import StopSignals
from nnunet_xlstm.pretraining.distributed import is_distributed


@dataclass(frozen=True)
class StopRequest:
    """Why a run ends.

    Attributes:
        signal: its number; 0 if batches failed.
        failure: what the augmentation of this rank raised; None if it was that of another rank.
    """

    signal: int
    failure: Exception | None = None

    @property
    def reason(self) -> str:
        """Say the reason, for the log."""
        return f"signal {self.signal}" if self.signal else "no more batches"

    def end(self, written: str) -> BaseException:
        """Make the exception that ends this rank: exit code 128 + signal, or the cause of the failure.

        Args:
            written: what became of the checkpoint.
        """
        if self.signal:
            return SystemExit(128 + self.signal)
        error = RuntimeError(
            f"the augmentation of {'this' if self.failure else 'another'} rank failed; see the messages above for the "
            "cause (workers that vanish without one were often killed for memory: lower nnUNet_n_proc_DA); "
            f"{written}, continue with --c"
        )
        error.__cause__ = self.failure
        return error


class StopRequests:
    """Asks after a step whether the run has to end; all ranks get the same answer at the same step.

    Args:
        steps_between_checks: of distributed runs, where asking all ranks waits for the device.
    """

    def __init__(self, steps_between_checks: int):
        self.signals = StopSignals()
        self.steps_between_checks = steps_between_checks
        self._loaders: list[SteadyBatches] = []
        self._steps = 0

    def begin(self) -> None:
        """Handle signals from now on, and kill the workers when this process ends."""
        self._loaders = []
        self.signals.install(interrupts=dist.is_available() and dist.is_initialized())
        kill_at_exit()

    def watched(self, *augmenters: Iterator[dict]) -> list[SteadyBatches]:
        """Wrap augmenters, so that a failure of one is a request of all ranks."""
        loaders = [SteadyBatches(augmenter) for augmenter in augmenters]
        self._loaders += loaders
        return loaders

    def after_step(self, device: torch.device) -> StopRequest | None:
        """Count a step and look for a request, under DDP every few steps.

        Args:
            device: of this rank.
        """
        self._steps += 1
        return None if is_distributed() and self._steps % self.steps_between_checks else self.look(device)

    def look(self, device: torch.device) -> StopRequest | None:
        """Look for a request of any rank; all ranks must call this at the same time."""
        failure = next((loader.failure for loader in self._loaders if loader.failure is not None), None)
        signal, failed = self.signals.received or 0, failure is not None
        if is_distributed():
            # all ranks must agree on the step, or the others wait for ever
            flags = torch.tensor([signal, int(failed)], device=device)
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
            signal, failed = flags.tolist()
        return StopRequest(signal, failure) if signal or failed else None

    def end_workers(self) -> None:
        """End the augmentation workers, where there are any."""
        for loader in self._loaders:
            loader.finish()

    def end(self) -> None:
        """End the workers and handle signals as before `begin`."""
        self.end_workers()
        self.signals.remove()
