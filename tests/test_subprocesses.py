"""Child processes: log, failure, interrupt, stop, cores; where the commands are and what they get."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from support.small_disk import resize, used

from nnunet_xlstm import subprocesses
from nnunet_xlstm.errors import CommandFailed, UserError
from nnunet_xlstm.io.write import WriteError
from nnunet_xlstm.nnunet.install import environment, registration
from nnunet_xlstm.subprocesses import Commands, Stopped


def test_command_log_and_lines(tmp_path):
    runner, lines = Commands(tmp_path, {"GREETING": "hello"}), []
    code = "import os, sys; print(os.environ['GREETING']); print('warned', file=sys.stderr)"
    runner.run("plan", [sys.executable, "-c", code], lines.append)
    assert sorted(lines) == ["hello\n", "warned\n"]
    assert sorted((tmp_path / "logs" / "plan.log").read_text().split()) == ["hello", "warned"]
    assert [row["stage"] for row in runner.done] == ["plan"]


def test_failed_command_shows_what_happened(tmp_path):
    code = "for i in range(40): print('line', i)\nraise SystemExit(3)"
    with pytest.raises(CommandFailed) as failure:
        Commands(tmp_path, {}).run("train", [sys.executable, "-c", code])
    text = str(failure.value)
    assert "exit status 3" in text and "line 39" in text and "line 10\n" not in text
    assert str(tmp_path / "logs" / "train.log") in text and sys.executable in text


def test_a_full_disk_names_the_log_and_ends_the_command(disk):
    commands = Commands(disk, {})
    resize(disk, used(disk) + 8192)
    with pytest.raises(WriteError, match=r"logs/talk\.log: cannot be written .*make room on that disk"):
        commands.run("talk", [sys.executable, "-c", "while True: print('x' * 1000, flush=True)"])
    assert commands._process.poll() is not None


def test_interrupt_ends_the_child(tmp_path, monkeypatch):
    started = []
    popen = subprocesses.subprocess.Popen
    monkeypatch.setattr(subprocesses.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])

    def interrupt(line):
        raise KeyboardInterrupt

    code = "import time; print('up', flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        Commands(tmp_path, {}).run("train", [sys.executable, "-c", code], interrupt)
    assert started[0].poll() is not None


@pytest.mark.parametrize("registered", [True, False])
def test_fallback_where_not_registered(tmp_path, monkeypatch, registered):
    monkeypatch.setattr(registration, "shim_state", lambda path: "registered" if registered else "missing")
    monkeypatch.setenv("nnUNet_extTrainer", "/mine")
    variables = environment.child_variables({"raw": tmp_path / "raw"}, tmp_path / "config.json")
    assert variables["nnUNet_raw"] == str(tmp_path / "raw")
    if registered:
        assert "nnUNet_extTrainer" not in variables
    else:
        assert variables["nnUNet_extTrainer"].split(os.pathsep) == [str(registration.SHIM.parent), "/mine"]
    assert (environment.plan_command()[0] == sys.executable) is not registered


def test_missing_nnunet_command():
    with pytest.raises(UserError, match="pip install"):
        environment.stock_command("nnUNetv2_no_such_command")


def test_stop_asks_the_child_to_end_and_starts_no_other(tmp_path):
    commands = Commands(tmp_path, {}, own_session=True)
    code = (
        "import signal, sys, time\n"
        "def save(*_):\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    print('saved')\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('up', flush=True)\ntime.sleep(60)"
    )
    with pytest.raises(Stopped):
        commands.run("train", [sys.executable, "-c", code], lambda line: threading.Thread(target=commands.stop).start())
    assert (tmp_path / "logs" / "train.log").read_text().split() == ["up", "saved"]
    with pytest.raises(Stopped):
        commands.run("predict", [sys.executable, "-c", "print('never')"])
    assert not (tmp_path / "logs" / "predict.log").exists() and commands.done == []


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone")
def test_commands_keep_to_their_cores(tmp_path):
    core, lines = min(os.sched_getaffinity(0)), []
    code = "import os, time; time.sleep(0.2); print(os.sched_getaffinity(0))"
    Commands(tmp_path, {}, cores={core}).run("look", [sys.executable, "-c", code], lines.append)
    assert lines == [f"{{{core}}}\n"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at the end of a parent is Linux's")
def test_a_child_ends_with_its_killed_parent_and_the_next_run_waits_for_that(tmp_path, caplog):
    child = (
        "import signal, sys, time\n"
        "def save(*_):\n    time.sleep(1)\n    open('saved', 'w').write('whole')\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    parent = (
        "import sys, os, signal; from pathlib import Path; from nnunet_xlstm.subprocesses import Commands\n"
        f"Commands(Path({str(tmp_path)!r}), {{}}, own_session=True).run('train', [sys.executable, '-c', {child!r}], "
        "lambda line: os.kill(os.getpid(), signal.SIGKILL))"
    )
    assert subprocess.run([sys.executable, "-c", parent]).returncode == -signal.SIGKILL
    assert not (tmp_path / "saved").exists()  # it is about to be written
    lines = []
    Commands(tmp_path, {}).run("train", [sys.executable, "-c", "print(open('saved').read())"], lines.append)
    assert lines == ["whole\n"] and "another process still works on this stage" in caplog.text
