"""A full disk at several sizes, for every command that writes: no broken file that a rerun keeps, and one line says it.

`NNUNET_XLSTM_DISKS=10 pytest tests/robustness/test_full_disk.py` tries ten sizes; else two.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_kill import JOBS, files, readable, start

DISKS = int(os.environ.get("NNUNET_XLSTM_DISKS", "2"))


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A folder with a file system of its own, which `resize` makes small or large."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("mounting a tmpfs needs root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def resize(folder: Path, bytes_: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={bytes_}", str(folder)], check=True)


def used(folder: Path) -> int:
    facts = os.statvfs(folder)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_the_disk_is_full_at(tmp_path, disk, name):
    job = JOBS[name]
    job.prepare(disk)
    before = used(disk)
    process = start(job, disk)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    wanted, after = files(job, disk), used(disk)
    for i in range(DISKS):
        for path in disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        job.prepare(disk)
        resize(disk, before + (after - before) * (i + 1) // (DISKS + 1))
        process = start(job, disk)
        output, _ = process.communicate()
        last = output.strip().splitlines()[-1]
        assert process.returncode == 1 and "Traceback" not in output, output
        assert any(word in last for word in ("No space left", "make room", "quota")), last
        readable(disk)
        resize(disk, 64 << 20)
        again = start(job, disk)
        output, _ = again.communicate()
        assert again.returncode == 0, output
        found = files(job, disk)
        assert found.keys() == wanted.keys()
        assert found == wanted
