"""Stock nnU-Net commands as child processes: their environment, logs, progress and failures."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_xlstm.nnunet import registration

LAST_LINES = 15


class CommandFailed(RuntimeError):
    """A command ended with an error; the text shows the command, its last lines and where its log is."""


def child_variables(out: Path, config: Path) -> dict[str, str]:
    """What the children get beside the environment: everything under `out`, one process each, our trainers findable."""
    variables = {name: str(out / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    variables |= {
        "nnUNet_n_proc_DA": "0",  # augmentation in the main process: repeatable, and cheap at this size
        "nnUNet_def_n_proc": "1",  # every worker imports torch
        "nnUNet_compile": "0",  # on a GPU, compiling would take longer than the whole run
        "nnUNet_xlstm_config": str(config),
        "PYTHONUNBUFFERED": "1",
        # Threads of torch that wait shall sleep: spinning makes training on a busy machine several times slower.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if not is_registered("trainers"):
        folders = [str(registration.SHIM.parent), *registration.ext_trainer_entries()]
        variables["nnUNet_extTrainer"] = os.pathsep.join(dict.fromkeys(folders))
    return variables


def is_registered(kind: str) -> bool:
    """Whether stock commands find our "trainers" or "planners"; a shim of another version serves as well."""
    return registration.shim_state(registration.shim_paths()[kind]) in ("registered", "outdated")


def plan_command() -> list[str]:
    """The stock planning command, or ours where the planners are not registered."""
    if is_registered("planners"):
        return [stock_command("nnUNetv2_plan_and_preprocess")]
    return [sys.executable, "-m", "nnunet_xlstm", "plan_and_preprocess"]


def stock_command(name: str) -> str:
    """Path of an nnU-Net command, of this Python's environment before any other.

    Raises:
        FileNotFoundError: nnU-Net is not installed here.
    """
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(
            f"The command {name} is neither beside {sys.executable} nor on the PATH; "
            'install nnU-Net into this environment: pip install "nnunetv2>=2.8.1,<2.9"'
        )
    return found


@dataclass
class Commands:
    """Runs commands one after the other and remembers what ran: `done` has stage, command and seconds of each."""

    folder: Path  # working directory, and logs/ in it
    variables: dict[str, str]  # set for the commands beside the environment
    done: list[dict[str, Any]] = field(default_factory=list)

    def run(self, stage: str, command: list[str], on_line: Callable[[str], None] | None = None) -> None:
        """Run to the end, every line of output into logs/STAGE.log.

        Args:
            on_line: called with each line.

        Raises:
            CommandFailed: exit status other than 0.
        """
        log = self.folder / "logs" / f"{stage}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        last: deque[str] = deque(maxlen=LAST_LINES)
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        try:
            with log.open("w", encoding="utf-8") as file:
                for line in process.stdout:
                    file.write(line)
                    last.append(line.rstrip())
                    if on_line is not None:
                        on_line(line)
            status = process.wait()
        finally:
            _stop(process)
        if status != 0:
            text = "\n".join(f"  {line}" for line in last)
            raise CommandFailed(
                f"{stage} failed with exit status {status}\n  command: {shlex.join(command)}\n"
                f"{text}\n  whole log: {log}"
            )
        self.done.append({"stage": stage, "command": command, "seconds": round(time.perf_counter() - start, 1)})


def _stop(process: subprocess.Popen) -> None:
    """End a process that still runs, after an interrupt or an error of ours."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
