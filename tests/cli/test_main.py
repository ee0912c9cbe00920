"""The command line: help from the table, exit codes, one clear message for the user's errors."""

import io
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from nnunet_xlstm import __version__
from nnunet_xlstm.cli import main as cli
from nnunet_xlstm.cli.commands import COMMANDS, STAGES, Command
from nnunet_xlstm.errors import UserError
from nnunet_xlstm.nnunet.install import registration


@pytest.fixture
def nnunetv2(tmp_path, monkeypatch):
    """A folder like an installed nnunetv2, which the commands find."""
    folder = tmp_path / "nnunetv2"
    for sub in registration.FOLDERS.values():
        (folder / sub).mkdir(parents=True)
    monkeypatch.setattr(registration, "nnunetv2_folder", lambda: folder)
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    return folder


@pytest.fixture
def toy(monkeypatch):
    """Puts one toy command into the table; returns what it gets and what it raises."""
    seen = SimpleNamespace(args=None, error=None)

    def run(args):
        seen.args = args
        if seen.error:
            raise seen.error
        return 0

    module = SimpleNamespace(run=run, add_arguments=lambda parser: parser.add_argument("--size", type=int, default=3))
    for name in ("toy", "raw"):
        monkeypatch.setitem(sys.modules, f"nnunet_xlstm.cli.cmd_{name}", module)
    rows = (Command("toy", "data", "play"), Command("raw", "data", "pass", True))
    monkeypatch.setattr(cli, "COMMANDS", rows)
    monkeypatch.delenv("nnUNet_xlstm_debug", raising=False)
    return seen


def test_table_is_ordered_and_unique():
    stages = [STAGES.index(command.stage) for command in COMMANDS]
    assert stages == sorted(stages)
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)


def test_help_lists_every_command_under_its_stage(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for command in COMMANDS:
        (row,) = [i for i, line in enumerate(lines) if line.startswith(f"    {command.name} ")]
        stage = next(lines[i].strip() for i in range(row, 0, -1) if not lines[i].startswith("    "))
        assert stage == command.stage and lines[row].endswith(command.summary)


def test_no_command_prints_help(capsys):
    assert cli.main([]) == 2
    assert "set up" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and __version__ in capsys.readouterr().out


@pytest.mark.parametrize(("name", "suggestion"), [("regster", "did you mean register?"), ("xyz", "register ")])
def test_unknown_command(capsys, name, suggestion):
    assert cli.main([name]) == 2
    text = capsys.readouterr().err
    assert f"unknown command {name!r}" in text and suggestion in text and "plan_and_preprocess" in text


@pytest.mark.parametrize("name", ["register", "status"])
def test_help_of_a_command(capsys, name):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0 and f"usage: nnunet_xlstm {name}" in capsys.readouterr().out


def test_arguments_are_parsed_or_passed_through(toy):
    assert cli.main(["toy", "--size", "4"]) == 0
    assert toy.args.size == 4
    assert cli.main(["raw", "-d", "1", "--help", "--debug", "--size", "x"]) == 0
    assert toy.args == ["-d", "1", "--help", "--debug", "--size", "x"]


def test_wrong_usage_of_a_command_exits_with_2(toy):
    with pytest.raises(SystemExit) as stop:
        cli.main(["toy", "--size", "big"])
    assert stop.value.code == 2


@pytest.mark.parametrize("error", [UserError("too big"), FileNotFoundError("gone"), PermissionError("denied")])
def test_errors_of_the_user_are_one_line(toy, capsys, error):
    toy.error = error
    assert cli.main(["toy"]) == 1
    assert capsys.readouterr().err == f"nnunet_xlstm toy: error: {error}\n"


@pytest.mark.parametrize("error", [AttributeError("a bug"), ValueError("a bug"), RuntimeError("a bug")])
def test_errors_of_ours_keep_their_traceback(toy, error):
    toy.error = error
    with pytest.raises(type(error), match="a bug"):
        cli.main(["toy"])


def test_the_reader_of_the_output_may_go(tmp_path):
    """`nnunet_xlstm status | head -1` ends quietly."""
    command = f"{sys.executable} -m nnunet_xlstm status --no-torch | head -1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert ended.stderr == "" and len(ended.stdout.splitlines()) == 1


def test_debug_shows_the_traceback(toy, monkeypatch):
    toy.error = UserError("too big")
    for argv in (["--debug", "toy"], ["toy", "--debug"]):
        with pytest.raises(ValueError):
            cli.main(argv)
    monkeypatch.setenv("nnUNet_xlstm_debug", "1")
    with pytest.raises(ValueError):
        cli.main(["toy"])


def test_interrupt(toy, capsys):
    toy.error = KeyboardInterrupt()
    assert cli.main(["toy"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_python_m_runs_the_command():
    process = subprocess.run([sys.executable, "-m", "nnunet_xlstm", "--version"], capture_output=True, text=True)
    assert process.returncode == 0 and __version__ in process.stdout


def test_register_and_remove(nnunetv2, capsys):
    paths = registration.shim_paths(nnunetv2)
    for argv, text in (
        (["register"], "registered"),
        (["register"], "already registered"),
        (["register", "--remove"], "removed"),
        (["register", "--remove"], "was not registered"),
    ):
        assert cli.main(argv) == 0
        assert capsys.readouterr().out == "".join(f"{kind}: {text} ({path})\n" for kind, path in paths.items())


def test_register_read_only_names_both_fallbacks(nnunetv2, capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(registration.os, "replace", refuse)  # root may write anywhere, so this is simulated
    assert cli.main(["register"]) == 1
    text = capsys.readouterr().err
    assert "Permission denied" in text
    assert f"export nnUNet_extTrainer={registration.SHIM.parent}" in text
    assert "python -m nnunet_xlstm plan_and_preprocess" in text


def test_status_exit_code_and_json(nnunetv2, capsys, tmp_path, monkeypatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv("nnUNet_xlstm_config", raising=False)
    assert cli.main(["status", "--no-torch"]) == 1
    assert "fix: nnunet_xlstm register" in capsys.readouterr().out
    cli.main(["register"])
    capsys.readouterr()
    assert cli.main(["status", "--no-torch", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["usable"] and all(set(check) == {"name", "state", "text", "fix"} for check in report["checks"])
    assert cli.main(["status", "--no-torch"]) == 0
    assert capsys.readouterr().out.endswith("Ready.\n")


def test_a_terminal_that_does_not_know_a_sign_is_no_failure(toy, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys.modules["nnunet_xlstm.cli.cmd_toy"], "run", lambda args: print("0.912 ± 0.031 \udcff"))
    cli.main(["toy"])
    terminal.flush()
    assert terminal.buffer.getvalue() == rb"0.912 \xb1 0.031 \udcff" + b"\n"
