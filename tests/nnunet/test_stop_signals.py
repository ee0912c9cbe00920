"""Signals to whole process groups: trainings in real processes end with a checkpoint, on one rank and on two."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from support import training_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the state of processes from /proc"),
]
PATIENCE = 240  # seconds: the machine may be busy
QUICK = {"num_epochs": 3, "num_iterations_per_epoch": 400, "num_val_iterations_per_epoch": 2, "batch_size": 2}
QUICK |= {"patch_size": [16, 16, 16], "seed": 5, "save_every": 1, "mirroring": False}
PRETRAINING = {"accumulation": 1, "n_prototypes": 16, "inner_prototypes": 8, "head_hidden": 16, "head_bottleneck": 8}
PRETRAINING |= {"queue_size": 8, "monitor_vectors": 16, "dense_points": 8}
TRAINERS = {
    "nnUNetTrainerXLSTMUNetShort": ("Dataset901_Ellipsoids", "0", {}),
    "nnUNetTrainerPool": ("Dataset905_Two", "all", {}),
    "nnUNetTrainerDINO": ("Dataset901_Ellipsoids", "all", PRETRAINING),
}


class Run:
    """A training in a process group of its own."""

    def __init__(self, folder: Path, trainer: str, ranks: int, workers: int = 0, slow=None, continuing=False, **keys):
        self.folder, self.ranks = folder, ranks
        folder.mkdir(exist_ok=True)
        dataset, fold, own = TRAINERS[trainer]
        (folder / "config.json").write_text(json.dumps(QUICK | own | keys))
        options = {"trainer": trainer, "dataset": dataset, "fold": fold, "ranks": ranks, "folder": str(folder)}
        options |= {"slow": slow or {}, "continuing": continuing}
        environment = os.environ | {
            "nnUNet_results": str(folder / "results"),
            "nnUNet_xlstm_config": str(folder / "config.json"),
            "nnUNet_n_proc_DA": str(workers),
            "PYTHONPATH": os.pathsep.join([str(Path(training_process.__file__).parents[1]), *sys.path]),
        }
        self.log = open(folder / "log.txt", "ab")
        command = [sys.executable, training_process.__file__, json.dumps(options)]
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def wait_for(self, *names: str) -> None:
        self.until(lambda: all((self.folder / name).exists() for name in names), f"waiting for {names}")

    def until(self, condition, doing: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            text = (self.folder / "log.txt").read_text()[-3000:]
            assert time.monotonic() < end and self.members(), f"{doing}: {text}"
            time.sleep(0.1)

    def members(self) -> list[int]:
        """Living processes of the group."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(group) == self.process.pid and state != "Z":
                found.append(int(path.parent.name))
        return found

    def signal_group(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def wait_for_the_end(self) -> int:
        """Until no process of the group is left; what the first one returned."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None or self.members():
            assert time.monotonic() < end, (self.folder / "log.txt").read_text()[-3000:]
            time.sleep(0.1)
        self.log.close()
        return self.process.returncode

    def reports(self) -> list[dict]:
        return [json.loads((self.folder / f"report_{rank}.json").read_text()) for rank in range(self.ranks)]

    def checkpoint(self) -> dict:
        (path,) = (self.folder / "results").rglob("checkpoint_latest.pth")
        return torch.load(path, map_location="cpu", weights_only=False)

    def kill(self) -> None:
        if self.members():
            self.signal_group(signal.SIGKILL)
        self.process.wait()
        self.log.close()


@pytest.fixture
def start(nnunet_tree, pool, tmp_path):
    runs = []

    def _start(*args, folder=tmp_path / "run", **kwargs):
        runs.append(Run(folder, *args, **kwargs))
        return runs[-1]

    yield _start
    for run in runs:
        run.kill()


@pytest.mark.parametrize(
    ("trainer", "phase", "number"),
    [
        ("nnUNetTrainerXLSTMUNetShort", "train", signal.SIGUSR1),
        ("nnUNetTrainerPool", "validate", signal.SIGTERM),
        ("nnUNetTrainerDINO", "load", signal.SIGUSR1),
    ],
)
def test_a_signal_to_the_group_of_two_ranks(start, trainer, phase, number):
    """The parent dies of it at once, and torch sends the ranks SIGINT."""
    keys = {"num_iterations_per_epoch": 1, "num_val_iterations_per_epoch": 400} if phase == "validate" else {}
    run = start(trainer, 2, slow={phase: 0.5}, **keys)
    run.wait_for(f"{phase}_1")
    run.signal_group(number)
    assert run.wait_for_the_end() == -number
    assert [report["exit"] for report in run.reports()] == [128 + number] * 2
    assert run.checkpoint()["current_epoch"] == 0
