"""Guards of a training run: steps that are not finite, and signals that ask for the end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable

import torch

from nnunet_xlstm.nnunet.workers import STOP_SIGNALS


class FiniteGuard:
    """Makes an optimiser step with a non-finite gradient do nothing, counts such steps, and stops after many in a row.

    It hangs on the optimiser (a step pre-hook), so it works inside nnU-Net's own `train_step`: without gradients an
    optimiser changes nothing, its moments included. Whether it steps is decided on the host, so each step waits for the
    device here, once.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, max_in_a_row: int):
        self.max_in_a_row = max_in_a_row
        self.total = self.in_a_row = 0
        self._applied = False
        self._loss: torch.Tensor | None = None
        optimizer.register_step_pre_hook(self._before_step)

    def expect(self, loss: torch.Tensor) -> None:
        """Look at this loss, a scalar on the device, together with the gradients of the next step."""
        self._loss = loss

    def _before_step(self, optimizer, args, kwargs) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        values = list(torch._foreach_norm([p.grad for p in parameters])) if parameters else []
        values += [self._loss] if self._loss is not None else []
        self._loss = None
        self._applied = not values or bool(torch.isfinite(torch.stack([v.float() for v in values]).sum()))
        if not self._applied:
            for p in parameters:
                p.grad = None

    def after_step(self, loss_is_finite: bool = True) -> bool:
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
    """While installed (in the main thread), a first SIGTERM or SIGUSR1 sets `received`; a second ends the process.

    The ranks of a distributed run note SIGINT as well: torch sends it to them when the process that spawned them ends,
    as that one does at once when a signal reaches the whole process group (`kill -USR1 -- -PGID`, Slurm).

    Processes that are forked meanwhile inherit the handlers: in them SIGUSR1 does nothing and SIGTERM ends them, until
    augmentation workers ignore both (`workers.enter_worker`).
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._owner, self._parent = os.getpid(), os.getppid()
        self._previous: dict[int, object] = {}

    def install(self, interrupts: bool = False) -> None:
        """Set the handlers; `interrupts`: also that of SIGINT."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows handlers in the main thread only; signals then act as without us
        for number in (*STOP_SIGNALS, signal.SIGINT) if interrupts else STOP_SIGNALS:
            if number not in self._previous:
                self._previous[number] = signal.signal(number, self._handle)

    def remove(self) -> None:
        """Set the handlers of before."""
        self._restore(tuple(self._previous))

    def _restore(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            signal.signal(number, self._previous.pop(number))

    def _handle(self, number: int, frame) -> None:
        if os.getpid() != self._owner:
            if number != getattr(signal, "SIGUSR1", None):
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
        elif number == signal.SIGINT:
            # Python calls the handlers of pending signals by number, so this one may precede the one that caused it
            if self.received is not None and os.getppid() == self._parent:
                raise KeyboardInterrupt
            self.received = self.received or number
        else:
            self.received = number
            self._restore(STOP_SIGNALS)  # a second one ends the process at once
