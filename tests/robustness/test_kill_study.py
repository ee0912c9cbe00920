"""`kill -9` of a running study at random moments: a rerun ends with the tables of an unbroken one, and no child stays.

`NNUNET_XLSTM_KILLS=20 pytest tests/robustness/test_kill_study.py` kills 20 times all processes, as a cluster does, and
20 times the study alone, whose commands then have to end by themselves. A study is one training, about a minute.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from pathlib import Path

import pytest

from nnunet_xlstm.imaging.integrity import check_whole

KILLS = int(os.environ.get("NNUNET_XLSTM_KILLS", "0"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not KILLS, reason="a study takes a minute; NNUNET_XLSTM_KILLS says how often it is killed"),
    pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="finds processes in /proc"),
]
MARK = "NNUNET_XLSTM_TEST_MARK"
PATIENCE = 120  # s, for commands to end after their study was killed
OWN = {"study.json", "config.json", "splits_final.json", "summary.json", "results.json"}


class Started:
    """A study in a session of its own; it and all its children carry a mark in their environment."""

    def __init__(self, out: Path, words: list[str]):
        self.mark = f"{MARK}={uuid.uuid4().hex}".encode()
        command = [
            sys.executable,
            "-m",
            "nnunet_xlstm",
            "study",
            "few_label",
            "-o",
            str(out),
            "--device",
            "cpu",
            *words,
        ]
        name, _, value = self.mark.decode().partition("=")
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, env=os.environ | {name: value}, start_new_session=True, **pipes)

    def living(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:  # it has ended
                continue
        return found

    def kill(self, everything: bool) -> None:
        self.process.kill()
        self.process.wait()
        while everything and (left := self.living()):
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)

    def wait_for_all(self) -> None:
        end = time.monotonic() + PATIENCE
        while left := self.living():
            assert time.monotonic() < end, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
            time.sleep(0.1)


@pytest.fixture
def words(nnunet_tree, tmp_path):
    (tmp_path / "test.json").write_text('["case_4", "case_5"]')
    keys = {"patch_size": [16, 16, 16], "mirroring": False, "save_every": 1, "num_iterations_per_epoch": 10}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    words = ["-d", str(nnunet_tree / "raw" / "Dataset901_Ellipsoids"), "--labels", "2", "--seeds", "1"]
    words += ["--variants", "scratch:nnUNetTrainerXLSTMUNetShort@nnUNetXLSTMUNetTinyPlans", "--iterations", "30"]
    return [*words, "--config", str(tmp_path / "keys.json"), "--test-subjects", str(tmp_path / "test.json")]


def whole(out: Path) -> None:
    """What has its own name can be read to its end; predictions have it when all are there."""
    for path in out.rglob("*"):
        if not path.is_file() or path.name.startswith(".") or "unfinished" in str(path):
            continue
        if path.name in OWN:
            json.loads(path.read_text())
        elif path.suffix == ".pth":
            assert zipfile.ZipFile(path).testzip() is None
        elif path.name.endswith(".nii.gz"):
            check_whole(path)


def tables(out: Path) -> dict:
    """What the study found, in files that hold no times."""
    found = {path.name: path.read_bytes() for path in (out / "results.csv", out / "table.csv", out / "table.md")}
    for path in out.glob("runs/*/summary.json"):
        summary = json.loads(path.read_text())
        found[path.parent.name] = [summary["mean"], summary["metric_per_case"]]
    found |= {str(path.relative_to(out)): path.read_bytes() for path in out.glob("averages/**/*") if path.is_file()}
    return found


@pytest.mark.parametrize("everything", [True, False], ids=["all_processes", "the_study_alone"])
def test_killed_at_any_moment(words, tmp_path, everything):
    out = tmp_path / "out"
    begin = time.monotonic()
    study = Started(out, words)
    assert study.process.wait() == 0
    seconds = time.monotonic() - begin
    wanted = tables(out)
    rng = random.Random(f"study {everything}")
    for turn in range(KILLS):
        out.rename(tmp_path / f"before{turn}")
        study = Started(out, words)
        time.sleep(rng.uniform(1, seconds))
        study.kill(everything)
        whole(out)
        again = Started(out, words)
        assert again.process.wait() == 0, turn
        for one in (study, again):
            one.wait_for_all()
        assert tables(out) == wanted, turn
        assert not list(out.rglob(".*.tmp*"))
