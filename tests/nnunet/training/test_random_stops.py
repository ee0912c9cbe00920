"""Trainings that end at random moments: no checkpoint is lost, and the resumed run equals an unbroken one bit for bit.

`NNUNET_XLSTM_TRAINING_KILLS=20 pytest -rP tests/nnunet/training/test_random_stops.py` kills each trainer on one rank
and on two at so many moments, sends signals to its group at half as many, and says what they hit.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from support.training_runs import NEEDS_PROC, TRAINERS, Run

pytestmark = [pytest.mark.slow, NEEDS_PROC]
ASKED = os.environ.get("NNUNET_XLSTM_TRAINING_KILLS")
MOMENTS = int(ASKED or 1)
EPOCHS, STEPS = 3, 2
KEYS = {"num_epochs": EPOCHS, "num_iterations_per_epoch": STEPS, "num_val_iterations_per_epoch": 1, "save_every": 1}
# the collapse monitor measures the last few vectors, and starts anew after a resume: here these are of one epoch
VECTORS = 16
PAUSE, START = 0.1, 1.0  # s; a run comes to its first step in about 1 s
PHASES = ("train", "validate", "load", "save")  # one of them takes longer, so that the moment hits it now and then
DIFFERENT = {"epoch_start_timestamps", "epoch_end_timestamps", "continue_training", "save_every"}
OTHERS = pytest.mark.skipif(not ASKED, reason="one of kill and signal each; NNUNET_XLSTM_TRAINING_KILLS asks for both")


def pairs(first: int):
    """All trainers on one rank and on two; unless asked for, every second of these."""
    rows = [(name, ranks) for name in TRAINERS for ranks in (1, 2)]
    return pytest.mark.parametrize(
        ("trainer", "ranks"),
        [pytest.param(*row, marks=() if (i // 2 + i) % 2 == first else OTHERS) for i, row in enumerate(rows)],
    )


def keys_of(trainer: str, ranks: int, **keys) -> dict:
    if trainer == "nnUNetTrainerDINO":
        keys |= {"monitor_vectors": VECTORS, "gradient_accumulation": VECTORS * ranks // (4 * STEPS)}
    return KEYS | keys


@pytest.fixture(scope="module")
def unbroken(server, tmp_path_factory):
    """unbroken(trainer, ranks) -> its run."""
    runs = {}

    def _unbroken(trainer, ranks):
        if (trainer, ranks) not in runs:
            run = Run(server, tmp_path_factory.mktemp("unbroken"), trainer, ranks, **keys_of(trainer, ranks))
            assert run.wait_for_the_end() == 0, (run.folder / "log.txt").read_text()[-3000:]
            runs[trainer, ranks] = run
        return runs[trainer, ranks]

    return _unbroken


def differences(one, other, where: str = "") -> list[str]:
    """Where two contents of checkpoints are not equal bit for bit, but for times."""
    if isinstance(one, dict) and one.keys() == other.keys():
        return [
            found for key in one.keys() - DIFFERENT for found in differences(one[key], other[key], f"{where}/{key}")
        ]
    if isinstance(one, (list, tuple)) and len(one) == len(other):
        return [found for i, pair in enumerate(zip(one, other)) for found in differences(*pair, f"{where}/{i}")]  # noqa: B905
    if isinstance(one, (torch.Tensor, np.ndarray)):
        equal = torch.equal(*(torch.as_tensor(value) for value in (one, other)))
    else:
        equal = one == other or (one != one and other != other)
    return [] if equal else [where]


def fold_of(run: Run) -> Path | None:
    found = [path.parent for path in (run.folder / "results").rglob("debug.json")]
    return found[0] if found else None


def checkpoints(run: Run) -> dict[str, dict]:
    """Name -> content of every checkpoint; each can be read whole."""
    paths = (run.folder / "results").rglob("checkpoint_*.pth")
    return {path.stem[11:]: torch.load(path, map_location="cpu", weights_only=False) for path in paths}


def epochs_done(run: Run) -> int:
    """Of the checkpoint that nnU-Net goes on from."""
    there = checkpoints(run)
    return next((there[name]["current_epoch"] for name in ("final", "latest", "best") if name in there), 0)


def names(fold: Path) -> Counter:
    return Counter(path.name.split("_20")[0] for path in fold.iterdir() if not path.name.startswith("training_log"))


def resume_and_compare(start, broken: Run, whole: Run, trainer: str, **keys) -> None:
    done = epochs_done(broken)
    again = start(trainer, broken.ranks, name=broken.folder.name, continuing=True, **keys)
    assert again.wait_for_the_end() == 0, (again.folder / "log.txt").read_text()[-3000:]
    for one, other in zip(again.reports(), whole.reports(), strict=True):
        assert one["losses"] == {e: losses for e, losses in other["losses"].items() if int(e) >= done}
    found, wanted = checkpoints(again), checkpoints(whole)
    assert found.keys() == wanted.keys()
    for name, content in wanted.items():
        assert differences(found[name], content, name) == []
    history = found["final"]["logging"]
    assert {len(values) for values in history.values()} == {EPOCHS}
    assert names(fold_of(again)) == names(fold_of(whole))  # and so no temporary files
    measures = fold_of(again) / "pretraining.jsonl"
    if trainer == "nnUNetTrainerDINO":
        assert [json.loads(row)["epoch"] for row in measures.read_text().splitlines()] == [-1, *range(EPOCHS)]
        assert measures.read_bytes() == (fold_of(whole) / measures.name).read_bytes()


def run_until_a_moment(start, trainer: str, ranks: int, turn: int, rng: random.Random, **keys) -> Run:
    """Start a run and let it come to a step of all, or none, and somewhat further."""
    moment = rng.uniform(0, 1 + EPOCHS * STEPS)
    run = start(trainer, ranks, name=f"broken{turn}", slow={rng.choice(PHASES): PAUSE}, **keys)
    run.until(lambda: sum(map(run.steps, range(EPOCHS))) >= int(moment) or not run.members(), "a step", alive=False)
    time.sleep((moment % 1) * (3 * PAUSE if moment >= 1 else START))
    return run


def state(run: Run) -> str:
    """What the run has come to, for the figures."""
    fold = fold_of(run)
    if fold and (fold / "checkpoint_final.pth").is_file():
        return "after the last step"
    writing = fold and any(path.name.startswith(".checkpoint") for path in fold.iterdir())
    steps = {epoch: run.steps(epoch) for epoch in range(EPOCHS)}
    if not any(steps.values()):
        return "before the first step"
    last = max(epoch for epoch, n in steps.items() if n)
    where = "writing a checkpoint" if writing else "validating" if steps[last] == STEPS else "training"
    return f"epoch {last}, {where}"


@pairs(first=1)
def test_kills_at_random_moments(start, unbroken, trainer, ranks):
    whole = unbroken(trainer, ranks)
    rng, hit = random.Random(f"{trainer} {ranks}"), Counter()
    for turn in range(MOMENTS):
        run = run_until_a_moment(start, trainer, ranks, turn, rng, **keys_of(trainer, ranks))
        run.kill()
        run.wait_for_the_end()
        hit[state(run)] += 1
        resume_and_compare(start, run, whole, trainer, **keys_of(trainer, ranks))
    print(trainer, ranks, dict(sorted(hit.items())))


@pairs(first=0)
def test_signals_at_random_moments(start, unbroken, trainer, ranks):
    whole = unbroken(trainer, ranks)
    rng, hit = random.Random(f"signals {trainer} {ranks}"), Counter()
    for turn in range(max(1, MOMENTS // 2)):
        number = rng.choice([signal.SIGTERM, signal.SIGUSR1])
        keys = keys_of(trainer, ranks, save_every=rng.choice([1, EPOCHS]))
        run = run_until_a_moment(start, trainer, ranks, turn, rng, **keys)
        trained = run.steps(epoch=0) > 0
        if run.members():
            run.signal_group(number)
        ended = run.wait_for_the_end()
        hit[state(run)] += 1
        there = checkpoints(run)
        if trained and "final" not in there:
            assert ended == (128 + number if ranks == 1 else -number)  # of two, the process that spawned them
            assert [report["exit"] for report in run.reports()] == [128 + number] * ranks
            last = max(epoch for epoch in range(EPOCHS) if run.steps(epoch))
            # a stop within the first step of an epoch leaves no loss of it
            assert there["latest"]["current_epoch"] in ((last, last + 1) if run.steps(last) == STEPS else (last,))
        resume_and_compare(start, run, whole, trainer, **keys)
    print(trainer, ranks, dict(sorted(hit.items())))
