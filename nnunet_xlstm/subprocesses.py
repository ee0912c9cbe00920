"""Commands as child processes: their logs, cores, failures and their end."""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from nnunet_xlstm.errors import CommandFailed
from nnunet_xlstm.io.write import WriteError

if sys.platform != "win32":
    import fcntl

LAST_LINES = 15
PR_SET_PDEATHSIG = 1  # linux/prctl.h
if sys.platform == "linux":
    libc = ctypes.CDLL(None)  # loaded here: between fork and exec it is too late
logger = logging.getLogger(__name__)


class Stopped(RuntimeError):
    """The command was ended, or not started, because `Commands.stop` was called."""


@dataclass(eq=False)
class Commands:
    """Commands one after the other; `done` has stage, command and seconds of each that ran."""

    folder: Path  # working directory, and logs/ in it
    variables: dict[str, str]  # set for the commands beside the environment
    cores: Collection[int] | None = None  # that the commands may use; None: all of this process (Linux alone)
    own_session: bool = False  # Ctrl-C in a terminal reaches this process alone, which then calls `stop`
    done: list[dict[str, Any]] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None
    _stopped: bool = False

    def run(self, stage: str, command: list[str], on_line: Callable[[str], None] | None = None) -> None:
        """Run to the end; every line of output is added to logs/STAGE.log.

        Args:
            stage: name of the log.
            command: program and arguments.
            on_line: called with each line.

        Raises:
            CommandFailed: exit status other than 0; its text shows the command, its last lines and where its log is.
            Stopped: see `stop`.
            WriteError: the log cannot be written; the command was ended.
        """
        if self._stopped:
            raise Stopped(stage)
        log = self.folder / "logs" / f"{stage}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        last: deque[str] = deque(maxlen=LAST_LINES)
        start = time.perf_counter()
        with log.open("ab", buffering=0) as file:  # nothing is left to write when it is closed
            _lock(file, log)
            process = self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | self.variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=self.own_session,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                pass_fds=(file.fileno(),) if os.name == "posix" else (),
            )
            try:
                if self.cores is not None and hasattr(os, "sched_setaffinity"):
                    os.sched_setaffinity(process.pid, self.cores)  # its threads start later and inherit it
                if self._stopped:  # in between
                    process.terminate()
                for line in process.stdout or ():
                    try:
                        file.write(line.encode())
                    except OSError as error:
                        raise WriteError(log, error) from error
                    last.append(line.rstrip())
                    if on_line is not None:
                        on_line(line)
                status = process.wait()
            finally:
                _end(process)
        if status != 0 and self._stopped:
            raise Stopped(stage)
        if status != 0:
            text = "\n".join(f"  {line}" for line in last)
            raise CommandFailed(
                f"{stage} failed with exit status {status}\n  command: {shlex.join(command)}\n"
                f"{text}\n  whole log: {log}"
            )
        self.done.append({"stage": stage, "command": command, "seconds": round(time.perf_counter() - start, 1)})

    def stop(self) -> None:
        """Start no further command, and ask the running one to end (it may write a checkpoint); for another thread."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def _lock(file: BinaryIO, log: Path) -> None:
    """Wait until no other process works on this stage.

    The child inherits the lock. Where this process is killed, and the child still writes a checkpoint, the next run of
    the stage waits for that.
    """
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.warning("%s: another process still works on this stage; waiting for its end", log)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a network file system without locks
        logger.debug("%s: this file system has no locks", log)


def _end_with_parent() -> None:
    """Ask the kernel to send SIGTERM to the child when the thread that started it ends, also by SIGKILL (Linux)."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that still runs, after an interrupt or an error of ours."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
