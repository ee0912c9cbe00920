"""The parts of the trainer base, without nnU-Net."""

import math
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_xlstm.config import OptimiserKeys
from nnunet_xlstm.errors import UserError
from nnunet_xlstm.nnunet.checkpoints import resume
from nnunet_xlstm.nnunet.loading.augmentation import ReseedPerWorker
from nnunet_xlstm.nnunet.training.finite_guard import FiniteGuard
from nnunet_xlstm.nnunet.training.optim import IterationSchedule, make_optimizer, warmup_poly
from nnunet_xlstm.nnunet.training.random_state import random_state, restore_random_state
from nnunet_xlstm.nnunet.training.stop_signals import StopSignals


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_gradient_changes_nothing(name, bad):
    model = nn.Linear(3, 2)
    optimizer = make_optimizer(model, OptimiserKeys(optimizer=name, weight_decay=0.1))
    guard = FiniteGuard(optimizer, 3)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert guard.after_step(True)
    weights, moments = [p.clone() for p in model.parameters()], pickle.dumps(optimizer.state_dict())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    model.weight.grad[0, 0] = bad
    optimizer.step()
    assert not guard.after_step(True)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert pickle.dumps(optimizer.state_dict()) == moments


def test_guard_counts_and_stops_after_many_in_a_row():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)
    guard = FiniteGuard(optimizer, 3)
    for finite in (False, False, True, False, False):
        optimizer.step()
        guard.after_step(finite)
    assert (guard.total, guard.in_a_row) == (4, 2)
    with pytest.raises(RuntimeError, match="3 steps in a row; such gradients are not applied"):
        guard.after_step(True)  # fp16's loss scaling left the optimiser's step out


def test_warmup_poly_by_hand():
    assert [warmup_poly(p, 0.1) for p in (0, 0.05, 0.1, 1)] == [0, 0.5, 1, 0]
    assert warmup_poly(0.55, 0.1) == pytest.approx(0.5**0.9)
    assert warmup_poly(0.5, 0) == pytest.approx(0.5**0.9)


def test_schedule_is_a_function_of_the_iteration():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.0)
    schedule = IterationSchedule(optimizer, OptimiserKeys(initial_lr=0.1, lr_schedule="warmup_poly"), 100)
    rates = [(schedule.set(i), optimizer.param_groups[0]["lr"])[1] for i in range(100)]
    assert 0 < rates[0] < rates[4] and max(rates) <= 0.1 and 0 < rates[-1] < 0.01
    schedule.set(50)
    assert optimizer.param_groups[0]["lr"] == rates[50]
    constant = IterationSchedule(optimizer, OptimiserKeys(initial_lr=0.1, lr_schedule="constant"), 100)
    constant.set(99)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_adam_decays_matrices_only():
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True))
    groups = make_optimizer(model, OptimiserKeys(optimizer="adamw", weight_decay=0.3)).param_groups
    assert [p.shape for p in groups[0]["params"]] == [model[0].weight.shape] and groups[0]["weight_decay"] == 0.3
    assert len(groups[1]["params"]) == 3 and groups[1]["weight_decay"] == 0


def test_kill_while_writing_leaves_a_readable_file(tmp_path):
    path = tmp_path / "checkpoint_latest.pth"
    torch.save({"current_epoch": 1}, path)
    script = f"""
        import os, signal
        from pathlib import Path
        from nnunet_xlstm.io.write import replacing
        def write(p):
            p.write_bytes(b"x" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)
        with replacing(Path({str(path)!r})) as temporary:
            write(temporary)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)]).returncode == -signal.SIGKILL
    assert resume.read_header(path)["current_epoch"] == 1


def test_newest_readable_checkpoint(tmp_path):
    final, latest, best = (tmp_path / name for name in resume.NAMES)
    torch.save({"current_epoch": 9, "w": torch.randn(1000)}, final)
    torch.save({"current_epoch": 5}, latest)
    torch.save({"current_epoch": 7}, best)
    assert resume.readable_checkpoint(latest) == latest
    final.write_bytes(final.read_bytes()[:2000])
    assert resume.readable_checkpoint(final) == best
    best.write_bytes(b"")
    assert resume.readable_checkpoint(final) == latest
    with pytest.raises(UserError, match="best.pth is truncated or not a checkpoint; continue"):
        resume.readable_checkpoint(best, fall_back=False)
    torch.save([1, 2], latest)
    assert resume.read_header(latest) is None
    latest.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="truncated or not a checkpoint, and no other"):
        resume.readable_checkpoint(final)


@pytest.mark.parametrize("old", [False, True])
def test_random_state_round_trip(tmp_path, old):
    """Through a file of tensors and plain types; older checkpoints hold NumPy's state as NumPy gives it."""
    torch.save(random_state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    if old:
        state["numpy"] = np.random.get_state()
    draw = lambda: (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: E731
    first = draw()
    restore_random_state(state)
    assert draw() == first


def test_stop_signal_is_noted_once_and_the_second_one_kills():
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.received == signal.SIGUSR1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_forked_workers_still_end_on_sigterm():
    script = """
        import os, signal, time
        from nnunet_xlstm.nnunet.training.stop_signals import StopSignals
        signals = StopSignals(); signals.install()
        pid = os.fork()
        if pid == 0:
            time.sleep(30)
            os._exit(0)
        time.sleep(0.5)  # Python drops signals that come while it forks
        os.kill(pid, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), signals.received)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == [str(-signal.SIGTERM), "None"]


def _draw(transform, queue):
    queue.put(transform()["x"])


def test_workers_draw_different_torch_numbers():
    import multiprocessing

    transform = ReseedPerWorker(_Draw())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    for seed in (1, 2):
        np.random.seed(seed)
        process = context.Process(target=_draw, args=(transform, queue))
        process.start()
        process.join()
    assert queue.get() != queue.get()
    assert pickle.loads(pickle.dumps(transform)).transform.__class__ is _Draw


class _Draw:
    def __call__(self):
        return {"x": torch.rand(1).item()}
