"""Signals that ask a training run for its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from typing import Any

from nnunet_xlstm.nnunet.loading.workers import STOP_SIGNALS

PF_EXITING = 4  # include/linux/sched.h


def ends(process: int) -> bool:
    """Whether a process is about to end, where /proc tells.

    Linux sends the signal of a parent's death each time that one of its threads ends, while the others still are the
    parent: `os.getppid()` then is as before.
    """
    try:
        with open(f"/proc/{process}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] == "Z" or bool(int(fields[6]) & PF_EXITING)


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
        self._previous: dict[int, Any] = {}

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
            if self.received is not None and not ends(self._parent) and os.getppid() == self._parent:
                raise KeyboardInterrupt
            self.received = self.received or number
        else:
            self.received = number
            self._restore(STOP_SIGNALS)  # a second one ends the process at once
