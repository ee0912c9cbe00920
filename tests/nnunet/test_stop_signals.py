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
PATIENCE = 900  # seconds: the machine may be busy
QUICK = {"num_epochs": 3, "num_iterations_per_epoch": 400, "num_val_iterations_per_epoch": 2, "batch_size": 2}
QUICK |= {"patch_size": [16, 16, 16], "seed": 5, "save_every": 1, "mirroring": False}
PRETRAINING = {"accumulation": 1, "n_prototypes": 16, "inner_prototypes": 8, "head_hidden": 16, "head_bottleneck": 8}
PRETRAINING |= {"queue_size": 8, "monitor_vectors": 16, "dense_points": 8}
PATHS = {"PYTHONPATH": os.pathsep.join([str(Path(training_process.__file__).parents[1]), *sys.path])}
TRAINERS = {
    "nnUNetTrainerXLSTMUNetShort": ("Dataset901_Ellipsoids", "0", {}),
    "nnUNetTrainerPool": ("Dataset905_Two", "all", {}),
    "nnUNetTrainerDINO": ("Dataset901_Ellipsoids", "all", PRETRAINING),
}


class Run:
    """A training in a process group of its own, forked by a server or, without one, started anew."""

    def __init__(
        self, server, folder: Path, trainer: str, ranks: int, workers: int = 0, slow=None, continuing=False, **keys
    ):
        self.server, self.folder, self.ranks = server, folder, ranks
        folder.mkdir(exist_ok=True)
        for path in [*folder.glob("report_*"), *folder.glob("meet")]:
            path.unlink()
        dataset, fold, own = TRAINERS[trainer]
        (folder / "config.json").write_text(json.dumps(QUICK | own | keys))
        options = {"trainer": trainer, "dataset": dataset, "fold": fold, "ranks": ranks, "folder": str(folder)}
        options |= {"slow": slow or {}, "continuing": continuing, "method": "fork" if server else "spawn"}
        environment = {
            "nnUNet_results": str(folder / "results"),
            "nnUNet_xlstm_config": str(folder / "config.json"),
            "nnUNet_n_proc_DA": str(workers),
        }
        if server:
            self.group = server.ask(options=options, environment=environment, log=str(folder / "log.txt"))["pid"]
        else:
            with open(folder / "log.txt", "ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, training_process.__file__, json.dumps(options)],
                    env=os.environ | PATHS | environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.group = self.process.pid

    def wait_for(self, *names: str) -> None:
        self.until(lambda: all((self.folder / name).exists() for name in names), f"waiting for {names}")

    def until(self, condition, doing: str, alive: bool = True) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end or (alive and not self.members()):
                raise AssertionError(f"{doing}: {(self.folder / 'log.txt').read_text()[-3000:]}")
            time.sleep(0.05)

    def members(self) -> list[int]:
        """Living processes of the group."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(group) == self.group and state != "Z":
                found.append(int(path.parent.name))
        return found

    def signal_group(self, number: int) -> None:
        os.killpg(self.group, number)

    def wait_for_the_end(self) -> int:
        """Until no process of the group is left; what the first one returned."""
        self.until(lambda: not self.members(), "waiting for the end", alive=False)
        return self.server.ask(wait=self.group)["returncode"] if self.server else self.process.wait()

    def reports(self) -> list[dict]:
        return [json.loads((self.folder / f"report_{rank}.json").read_text()) for rank in range(self.ranks)]

    def checkpoint(self) -> dict:
        (path,) = (self.folder / "results").rglob("checkpoint_latest.pth")
        return torch.load(path, map_location="cpu", weights_only=False)

    def steps(self, epoch: int) -> int:
        """Training steps of this epoch that all ranks have done."""
        if not all((self.folder / f"report_{rank}.json").exists() for rank in range(self.ranks)):
            return 0
        return min(len(report["losses"].get(str(epoch), ())) for report in self.reports())

    def kill(self) -> None:
        if self.members():
            self.signal_group(signal.SIGKILL)


class Server:
    """See `training_process.serve`."""

    def __init__(self) -> None:
        command = [sys.executable, training_process.__file__, "--serve"]
        self.process = subprocess.Popen(
            command, env=os.environ | PATHS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def server(nnunet_tree, pool):
    server = Server()
    yield server
    server.close()


@pytest.fixture
def start(server, tmp_path):
    """start(trainer, ranks, ...) -> Run; `spawn` as nnU-Net starts ranks, which takes longer."""
    runs = []

    def _start(*args, spawn=False, **kwargs):
        runs.append(Run(None if spawn else server, tmp_path / "run", *args, **kwargs))
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
    """The process that spawned them dies of it at once, and torch then sends the ranks SIGINT."""
    keys = {"num_iterations_per_epoch": 1, "num_val_iterations_per_epoch": 400} if phase == "validate" else {}
    run = start(trainer, 2, slow={phase: 0.5}, spawn=phase == "train", **keys)
    run.wait_for(f"{phase}_1")
    run.signal_group(number)
    assert run.wait_for_the_end() == -number
    assert [report["exit"] for report in run.reports()] == [128 + number] * 2
    assert run.checkpoint()["current_epoch"] == 0


def ignored(pid: int) -> set[int]:
    """Signals that a process ignores."""
    (mask,) = (
        int(line.split()[1], 16)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigIgn")
    )
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_workers_ignore_stop_signals_and_end_with_their_trainer(start):
    run = start("nnUNetTrainerXLSTMUNetShort", 1, workers=1, slow={"train": 0.3})
    run.wait_for("train_0")
    (worker,) = json.loads((run.folder / "workers_0.json").read_text())
    assert ignored(worker) >= {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT}
    run.signal_group(signal.SIGTERM)
    assert run.wait_for_the_end() == 128 + signal.SIGTERM
    assert run.checkpoint()["current_epoch"] == 0


def test_workers_end_after_their_trainer_was_killed(start):
    run = start("nnUNetTrainerDINO", 1, workers=1, slow={"train": 0.3})
    run.wait_for("train_0")
    (worker,) = json.loads((run.folder / "workers_0.json").read_text())
    assert ignored(worker) >= {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT}
    os.kill(run.group, signal.SIGKILL)
    assert run.wait_for_the_end() == -signal.SIGKILL  # nobody of the group is left


def test_ranks_stop_together_when_the_workers_of_one_are_killed(start):
    """As the kernel does when memory runs out; nobody waits for gradients that never come."""
    run = start("nnUNetTrainerXLSTMUNetShort", 2, workers=1, slow={"train": 0.3})
    run.wait_for("train_0", "train_1")
    for worker in json.loads((run.folder / "workers_1.json").read_text()):
        os.kill(worker, signal.SIGKILL)
    assert run.wait_for_the_end() == 1
    assert "augmentation of this rank failed" in run.reports()[1]["exit"]
    assert run.checkpoint()["current_epoch"] == 0


@pytest.mark.parametrize(("trainer", "ranks"), [("nnUNetTrainerXLSTMUNetShort", 2), ("nnUNetTrainerDINO", 2)])
def test_after_kill_9_a_run_goes_on_as_if_nothing_had_been(start, trainer, ranks):
    """Without a seed: each rank goes on drawing (patches, masks, points) where its last checkpoint was written."""
    keys = {"num_iterations_per_epoch": 4, "seed": None}
    killed = start(trainer, ranks, slow={"train": 0.1}, **keys)
    killed.until(lambda: killed.steps(epoch=1) >= 2, "two steps of the second epoch")
    killed.signal_group(signal.SIGKILL)
    killed.wait_for_the_end()
    before = killed.reports()
    again = start(trainer, ranks, continuing=True, **keys)
    again.until(lambda: again.steps(epoch=1) >= 4, "the second epoch once more")
    again.kill()
    for one, two in zip(before, again.reports(), strict=True):
        assert min(two["losses"]) == "1"
        n = len(one["losses"]["1"])
        assert two["losses"]["1"][:n] == one["losses"]["1"] and two["states"]["1"][:n] == one["states"]["1"]
    assert ranks == 1 or before[0]["states"] != before[1]["states"]
