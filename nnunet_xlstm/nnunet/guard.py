"""Guards of a training run: steps that are not finite, and signals that ask for the end."""

from __future__ import annotations

import os
import signal
import threading

import torch


class FiniteGuard:
    """Makes an optimiser step with a non-finite gradient do nothing, counts such steps, and stops after many in a row.

    It hangs on the optimiser (a step pre-hook), so it works inside nnU-Net's own `train_step`: without gradients an
    optimiser changes nothing, its moments included.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, max_in_a_row: int):
        self.max_in_a_row = max_in_a_row
        self.total = self.in_a_row = 0
        self._applied = False
        optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer, args, kwargs) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms = torch._foreach_norm([p.grad for p in parameters]) if parameters else [torch.zeros(())]
        self._applied = bool(torch.isfinite(torch.stack([n.float() for n in norms]).sum()))
        if not self._applied:
            for p in parameters:
                p.grad = None

    def after_step(self, loss_is_finite: bool) -> bool:
        """Count the step just taken; True if it was good. A step that fp16's loss scaling left out is not.

        Raises:
            RuntimeError: too many bad steps in a row.
        """
        good = loss_is_finite and self._applied
        self._applied = False
        if good:
            self.in_a_row = 0
            return True
        self.total += 1
        self.in_a_row += 1
        if self.in_a_row >= self.max_in_a_row:
            raise RuntimeError(
                f"the loss or its gradient was NaN or infinite in {self.in_a_row} steps in a row; such gradients are "
                "not applied. Lower initial_lr, set precision to fp32, or look for NaN in the images; then "
                "continue from the last checkpoint with --c"
            )
        return False


class StopSignals:
    """While installed (in the main thread), the first SIGTERM or SIGUSR1 sets `received` and ends nothing.

    Augmentation workers are forked and inherit the handlers; there SIGUSR1 (which Slurm sends to every process) is
    ignored, so that training can go on to its checkpoint, and SIGTERM ends the worker as usual.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._owner = os.getpid()
        self._previous: dict[int, object] = {}

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows handlers in the main thread only; signals then act as without us
        names = [name for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
        self._previous = {getattr(signal, n): signal.signal(getattr(signal, n), self._handle) for n in names}

    def remove(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame) -> None:
        if os.getpid() == self._owner:
            self.received = number
            self.remove()  # a second signal ends the process at once
        elif number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
