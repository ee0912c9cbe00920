"""A folder with a file system of its own, which can be full."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DISKS = int(os.environ.get("NNUNET_XLSTM_DISKS", "2"))  # how many sizes are tried
LARGE = 64 << 20  # bytes


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A folder on a tmpfs of its own, which `resize` makes small or large."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("mounting a tmpfs needs root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def resize(folder: Path, bytes_: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={bytes_}", str(folder)], check=True)


def used(folder: Path) -> int:
    facts = os.statvfs(folder)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
