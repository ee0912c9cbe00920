"""Do the runs of a study, several at a time, each on cores of its own, and end them in order on a signal."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from nnunet_xlstm.errors import CommandFailed
from nnunet_xlstm.studies import steps
from nnunet_xlstm.studies.study import Run, Study
from nnunet_xlstm.subprocesses import Commands, Stopped

logger = logging.getLogger(__name__)


class Workers:
    """The state that jobs share: the cores that are free, and the commands that run, so that all can be stopped."""

    def __init__(self, study: Study, device: str, jobs: int):
        self.study, self.device = study, device
        self.free: queue.Queue[list[int] | None] = queue.Queue()
        for cores in split_cores(jobs) if device == "cpu" else [None] * jobs:
            self.free.put(cores)
        self.running: set[Commands] = set()
        self.stopped = False

    @contextlib.contextmanager
    def commands(self, folder: Path, variables: dict[str, str]) -> Iterator[Commands]:
        """Give what runs commands, on cores that no other job uses."""
        folder.mkdir(parents=True, exist_ok=True)
        cores = self.free.get()
        made = Commands(folder, variables, cores, own_session=True)
        self.running.add(made)
        if self.stopped:
            made.stop()
        try:
            yield made
        finally:
            self.running.discard(made)
            self.free.put(cores)

    def adapt(self, run: Run) -> None:
        """Adapt the checkpoint of the run's variant, for its seed; none is adapted after one that failed."""
        if self.stopped:
            raise Stopped(run.id)
        try:
            with self.commands(self.study.folder, steps.data_variables(self.study.data(run.trained_on))) as commands:
                steps.adapt(self.study, run, commands)
        except CommandFailed:
            self.stop()
            raise

    def do(self, run: Run) -> None:
        """Do what is left of a run."""
        with self.commands(run.folder, steps.variables(self.study, run, self.device)) as commands:
            steps.do_run(self.study, run, self.device, commands)

    def stop(self) -> None:
        """End the commands that run, and start no further one."""
        self.stopped = True
        for commands in list(self.running):
            commands.stop()


def execute(study: Study, runs: Sequence[Run], device: str, jobs: int = 1) -> dict[str, str]:
    """Do what is left of the runs; a run that fails does not keep others from running.

    Args:
        study: the study.
        runs: of it.
        device: "cpu" or "cuda".
        jobs: runs at a time.

    Returns:
        Id of a failed run -> what went wrong.

    Raises:
        CommandFailed: a checkpoint cannot be adapted; no training was started.
        SystemExit: after SIGTERM, when all children have ended; also KeyboardInterrupt.
    """
    left = [run for run in runs if not run.is_done]
    workers = Workers(study, device, jobs)
    failures: dict[str, str] = {}
    if not left:
        return failures
    steps.link_scored_cases(study)
    with _terminate_as_exit(), ThreadPoolExecutor(jobs) as pool:
        pending: dict[Future, Run] = {}
        try:
            # one run of each variant and seed; a checkpoint that does not fit shall end the study before any training
            to_adapt = {steps.adapted(study, run): run for run in left}.values()
            pending = {pool.submit(workers.adapt, run): run for run in to_adapt}
            errors = [error for _, error in _finished(pending) if error is not None]
            if errors:  # the failure, not what was stopped because of it
                raise next((error for error in errors if isinstance(error, CommandFailed)), errors[0])
            pending = {pool.submit(workers.do, run): run for run in left}
            with tqdm(total=len(runs), initial=len(runs) - len(left), desc="runs", disable=None) as bar:
                for run, error in _finished(pending):
                    bar.update()
                    if error is None:
                        logger.info("%s: done", run.id)
                    else:
                        failures[run.id] = str(error)
                        logger.error("%s: %s", run.id, error)
        except BaseException:
            for future in pending:
                future.cancel()
            workers.stop()
            raise
    return failures


def _finished(futures: dict[Future, Run]) -> Iterator[tuple[Run, BaseException | None]]:
    """Return each run as it ends, with its failure; errors that are no failures of a run are raised."""
    left = set(futures)
    while left:
        done, left = wait(left, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if error is not None and not isinstance(error, (CommandFailed, Stopped)):
                raise error
            yield futures[future], error


def split_cores(jobs: int) -> list[list[int] | None]:
    """Deal the cores of this process out to jobs; None (all) where the system cannot say or there are too few."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * jobs
    cores = sorted(os.sched_getaffinity(0))
    return [cores[job::jobs] or None for job in range(jobs)]


@contextlib.contextmanager
def _terminate_as_exit() -> Iterator[None]:
    """SIGTERM and a closed terminal raise SystemExit here, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
