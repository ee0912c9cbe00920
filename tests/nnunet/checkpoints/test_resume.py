"""Which checkpoint a run goes on from, after a kill and after damage."""

import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from nnunet_xlstm.errors import UserError
from nnunet_xlstm.nnunet.checkpoints import resume


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
