"""Tiny trainings in process groups of their own, forked by a server that has imported all, to be stopped or killed."""

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

NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="reads the state of processes from /proc"
)
PATIENCE = 900  # seconds: the machine may be busy
QUICK = {"num_epochs": 3, "num_iterations_per_epoch": 400, "num_val_iterations_per_epoch": 2, "batch_size": 2}
QUICK |= {"patch_size": [16, 16, 16], "seed": 5, "save_every": 1, "mirroring": False}
PRETRAINING = {
    "gradient_accumulation": 1,
    "n_prototypes": 16,
    "n_prototypes_inner": 8,
    "head_hidden": 16,
    "head_bottleneck": 8,
}
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
