"""`kill -9` at random moments: no file is lost or half-written, and a rerun ends as an unbroken run does.

`NNUNET_XLSTM_KILLS=20 pytest tests/robustness/test_kill.py` kills each command at so many moments; else at 2.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from support.jobs import JOBS, files, readable, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals"),
]
KILLS = int(os.environ.get("NNUNET_XLSTM_KILLS", "2"))
START = 0.05  # s; a process that has not even started is no moment of interest


@pytest.mark.parametrize("name", JOBS)
def test_killed_at_any_moment(tmp_path, name):
    job = JOBS[name]
    template = tmp_path / "template"
    template.mkdir()
    job.prepare(template)
    unbroken = tmp_path / "unbroken" / "work"
    shutil.copytree(template, unbroken)
    begin = time.perf_counter()
    process = start(job, unbroken)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    seconds = time.perf_counter() - begin
    wanted = files(job, unbroken)
    rng = random.Random(0)
    for turn in range(KILLS):
        broken = tmp_path / f"broken{turn}" / "work"
        shutil.copytree(template, broken)
        process = start(job, broken)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(START + rng.random() * seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        readable(broken)
        again = start(job, broken)
        output, _ = again.communicate()
        assert again.returncode == 0, output
        assert files(job, broken) == wanted, f"kill {turn}"
        shutil.rmtree(broken)
