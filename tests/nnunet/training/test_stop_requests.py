"""Requests to stop: by signal, by batches that fail, and of other ranks."""

import os
import signal

import pytest
import torch

from nnunet_xlstm.nnunet.training import stop_requests
from nnunet_xlstm.nnunet.training.stop_requests import StopRequest, StopRequests

CPU = torch.device("cpu")


@pytest.fixture
def stops():
    stops = StopRequests(steps_between_checks=3)
    yield stops
    stops.end()


@pytest.fixture
def two_ranks(monkeypatch):
    """two_ranks(flags) -> the other rank comes with these flags."""

    def _two_ranks(*flags):
        monkeypatch.setattr(stop_requests, "is_distributed", lambda: True)
        monkeypatch.setattr(
            stop_requests.dist, "all_reduce", lambda x, op: x.copy_(torch.maximum(x, torch.tensor(flags)))
        )

    return _two_ranks


def test_a_signal_is_a_request(stops):
    stops.begin()
    assert stops.after_step(CPU) is None
    os.kill(os.getpid(), signal.SIGUSR1)
    request = stops.after_step(CPU)
    assert request == StopRequest(signal.SIGUSR1) and request.reason == f"signal {int(signal.SIGUSR1)}"
    end = request.end("checkpoint_latest.pth written")
    assert isinstance(end, SystemExit) and end.code == 128 + signal.SIGUSR1


def test_batches_that_fail_are_a_request(stops):
    def batches():
        yield {"keys": ["a"]}
        raise OSError("no more shared memory")

    (loader,) = stops.watched(batches())
    assert next(loader) == next(loader)  # the last one again
    request = stops.look(CPU)
    end = request.end("no checkpoint (disabled)")
    assert request.reason == "no more batches" and end.__cause__ is loader.failure
    assert "the augmentation of this rank failed" in str(end) and "no checkpoint (disabled)" in str(end)


def test_other_ranks_are_asked_every_few_steps(stops, two_ranks):
    two_ranks(signal.SIGTERM, 0)
    assert [stops.after_step(CPU) for _ in range(3)] == [None, None, StopRequest(signal.SIGTERM)]
    two_ranks(0, 1)
    request = stops.look(CPU)
    assert request == StopRequest(0) and "another rank failed" in str(request.end(""))
    two_ranks(0, 0)
    assert stops.look(CPU) is None
