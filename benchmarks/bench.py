"""Share what studies on real images need: resumable commands in one work folder, the variants' recipe."""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nnunet_xlstm.subprocesses import Commands

# of studies whose variants differ in where they start and what they see: the CPU protocol's, validated as little as may
# be
RECIPE = {
    "num_iterations_per_epoch": 50,
    "num_val_iterations_per_epoch": 1,
    "batch_size": 2,
    "mirroring": False,
    "optimizer": "adamw",
    "initial_lr": 1e-3,
    "weight_decay": 1e-2,
    "lr_schedule": "warmup_poly",
    "warmup_fraction": 0.05,
    "save_every": 2,
}


def link(path: Path, target: Path) -> None:
    if not path.exists():
        path.symlink_to(target.resolve())


class Bench:
    """Runs commands in the environment of one work folder and keeps their logs.

    Args:
        device: that trainings and predictions run on, "cpu" or "cuda".
    """

    def __init__(self, data: Path, work: Path, iterations: int, jobs: int, device: str = "cpu"):
        self.data, self.work, self.iterations, self.device = data, work, iterations, device
        available = sorted(os.sched_getaffinity(0))
        self.cores: queue.Queue[set[int]] = queue.Queue()  # each job at a time has cores of its own
        for job in range(jobs):
            self.cores.put(set(available[job::jobs]))
        self.folders = {name: work / name for name in ("raw", "preprocessed", "results", "steps")}
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)

    def run(self, log: str, command: list[str], **environment: str) -> float:
        """Run to the end; seconds.

        Raises:
            CommandFailed: with the last lines of the log.
        """
        variables = {f"nnUNet_{n}": str(self.folders[n]) for n in ("raw", "preprocessed", "results")}
        variables |= {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", **environment}
        cores = self.cores.get()
        commands = Commands(self.work, variables, cores)
        try:
            commands.run(log, [str(Path(sys.executable).parent / command[0]), *command[1:]])
        finally:
            self.cores.put(cores)
        return commands.done[-1]["seconds"]

    def once(self, log: str, command: list[str], **environment: str) -> float:
        """As `run`, but what was done before is not done again; its seconds are kept in `steps/`."""
        done = self.folders["steps"] / f"{log}.json"
        if not done.exists():
            done.write_text(json.dumps(self.run(log, command, **environment)))
        return json.loads(done.read_text())

    def train_on(
        self, log: str, command: list[str], folder: Path, first: Sequence[str] = (), **environment: str
    ) -> None:
        """A training that writes checkpoints to `folder`, started (with the flags `first`) or continued; its seconds
        are added up in `seconds.json` there."""
        started = any(folder.glob("checkpoint_*.pth"))
        seconds = self.run(log, [*command, *(["--c"] if started else first)], **environment)
        spent = folder / "seconds.json"
        spent.write_text(json.dumps((json.loads(spent.read_text()) if spent.exists() else 0) + seconds))


def number_of(script: str, *arguments: str) -> float:
    """Run a script in a fresh process; return the number in the last line that it prints."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        Commands(Path(folder), {}).run("run", [sys.executable, os.path.abspath(script), *arguments], lines.append)
    return float(lines[-1])
