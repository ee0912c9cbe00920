"""Share what studies on real images need: resumable commands in one work folder, the variants' recipe."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

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
        self.folders = {name: work / name for name in ("raw", "preprocessed", "results", "logs", "steps")}
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)

    def run(self, log: str, command: list[str], **environment: str) -> float:
        """Run to the end; seconds. A failure ends the benchmark with the last lines of the log."""
        env = os.environ | {f"nnUNet_{n}": str(self.folders[n]) for n in ("raw", "preprocessed", "results")}
        env |= {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", **environment}
        executable = Path(sys.executable).parent / command[0]
        start = time.time()
        path = self.folders["logs"] / f"{log}.log"
        with open(path, "a") as file:
            file.write(f"$ {' '.join(command)}\n")
            file.flush()
            cores = self.cores.get()
            try:
                code = subprocess.run(
                    [str(executable), *command[1:]],
                    stdout=file,
                    stderr=file,
                    env=env,
                    preexec_fn=lambda: os.sched_setaffinity(0, cores),
                ).returncode
            finally:
                self.cores.put(cores)
        if code:
            raise SystemExit(f"{' '.join(command)} ended with {code}:\n" + "".join(open(path).readlines()[-15:]))
        return time.time() - start

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
