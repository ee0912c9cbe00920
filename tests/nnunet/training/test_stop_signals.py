"""Signals to whole process groups: trainings in real processes end with a checkpoint, on one rank and on two."""

import ctypes
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from support.training_runs import NEEDS_PROC

from nnunet_xlstm.nnunet.training.stop_signals import StopSignals

pytestmark = [pytest.mark.slow, NEEDS_PROC]


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


def parent_of_many_threads(connection) -> None:
    """Fork a rank, as torch does, and die of the signal that both get."""
    os.setsid()
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    multiprocessing.get_context("fork").Process(target=rank, args=(connection,)).start()
    time.sleep(60)


def rank(connection) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG, as torch sets it
    stop_signals, parent = StopSignals(), os.getppid()
    stop_signals.install(interrupts=True)
    connection.send(os.getpgid(0))
    try:
        while os.getppid() == parent:
            time.sleep(0.001)
        connection.send(stop_signals.received)
    except KeyboardInterrupt:
        connection.send("interrupted")


def test_the_many_threads_of_a_dying_parent_are_no_second_interrupt():
    """Linux sends SIGINT for each of them while its process still is the parent."""
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        ours, theirs = context.Pipe()
        process = context.Process(target=parent_of_many_threads, args=(theirs,))
        process.start()
        os.killpg(ours.recv(), signal.SIGUSR1)
        process.join()
        assert ours.recv() == signal.SIGUSR1


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
