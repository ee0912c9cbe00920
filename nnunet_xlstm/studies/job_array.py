"""Command lines as a job array for SLURM or LSF, with a last job that waits for all of them.

Written are commands.txt (one command per line), array.sh (one task per line), last.sh and submit.sh. Schedulers differ
between sites, so the limits stand at the top of array.sh, to be changed by hand.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.write import write_text


@dataclass(frozen=True)
class Limits:
    """The resources of a task; `at_once`: how many run at the same time."""

    hours: int = 24
    memory_gb: int = 16
    cores: int = 4
    gpus: int = 0
    at_once: int = 1


def _slurm_header(name: str, folder: Path, limits: Limits, tasks: int | None) -> list[str]:
    """Return lines of #SBATCH; no tasks: a single job."""
    rows = [
        f"--job-name={name}",
        f"--time={limits.hours}:00:00",
        f"--cpus-per-task={limits.cores}",
        f"--mem={limits.memory_gb}G",
        f"--output={shlex.quote(str(folder))}/%x_%j.log",
        "--signal=B:TERM@120",  # time to write a checkpoint
    ]
    rows += [f"--gpus={limits.gpus}"] if limits.gpus else []
    rows += [f"--array=1-{tasks}%{limits.at_once}"] if tasks else []
    return [f"#SBATCH {row}" for row in rows]


def _lsf_header(name: str, folder: Path, limits: Limits, tasks: int | None) -> list[str]:
    """Return lines of #BSUB; no tasks: a single job."""
    rows = [
        f'-J "{name}{f"[1-{tasks}]%{limits.at_once}" if tasks else ""}"',
        f"-W {limits.hours}:00",
        f"-n {limits.cores}",
        '-R "span[hosts=1]"',
        f'-R "rusage[mem={limits.memory_gb}GB]"',
        f"-o {shlex.quote(str(folder))}/{name}_%J_%I.log",
        "-wa TERM -wt 2",  # two minutes to write a checkpoint
    ]
    rows += [f'-gpu "num={limits.gpus}"'] if limits.gpus else []
    return [f"#BSUB {row}" for row in rows]


# scheduler -> lines at the top of a script, variable with a task's number, lines of submit.sh
SCHEDULERS = {
    "slurm": (
        _slurm_header,
        "SLURM_ARRAY_TASK_ID",
        ['array=$(sbatch --parsable {array})', 'sbatch --dependency=afterany:"${{array%%;*}}" {last}'],
    ),
    "lsf": (
        _lsf_header,
        "LSB_JOBINDEX",
        ["bsub < {array}", 'bsub -w "ended({name})" < {last}'],
    ),
}  # fmt: skip


def write_job_array(
    folder: Path,
    scheduler: str,
    name: str,
    commands: Sequence[Sequence[str]],
    last: Sequence[str],
    limits: Limits,
    variables: Mapping[str, str],
) -> Path:
    """Write the scripts.

    Args:
        folder: of the scripts.
        scheduler: a key of SCHEDULERS.
        name: of the jobs; letters, digits, _ and -.
        commands: one per task.
        last: the command that runs when all have ended, also if some failed.
        limits: of a task.
        variables: of the environment, exported by the scripts.

    Returns:
        submit.sh.

    Raises:
        ConfigError: no commands, an unknown scheduler, or a line end in a command.
    """
    if scheduler not in SCHEDULERS:
        raise ConfigError(f"scheduler '{scheduler}': there are {', '.join(SCHEDULERS)}")
    if not commands:
        raise ConfigError("there is nothing left to run, so there are no jobs to write")
    lines = [shlex.join(command) for command in (*commands, last)]
    if any("\n" in line for line in lines):
        raise ConfigError("a command holds a line end, and commands.txt has one command per line; rename the file")
    header, task, submit = SCHEDULERS[scheduler]
    exports = [f"export {key}={shlex.quote(value)}" for key, value in variables.items()]
    paths = {key: folder / f"{key}.sh" for key in ("array", "last", "submit")}
    write_text(folder / "commands.txt", "".join(f"{line}\n" for line in lines[:-1]))
    # exec: the scheduler's signal reaches the command itself, not a shell that waits for it
    pick = [f'line=$(sed -n "${{{task}}}p" {shlex.quote(str(folder / "commands.txt"))})', 'eval "exec $line"']
    small = Limits(hours=1, memory_gb=limits.memory_gb, cores=1)
    places = {key: shlex.quote(str(path)) for key, path in paths.items()}
    _script(paths["array"], [*header(name, folder, limits, len(commands)), "", *exports, *pick])
    _script(paths["last"], [*header(f"{name}_last", folder, small, None), "", *exports, f"exec {lines[-1]}"])
    _script(paths["submit"], ["set -e", *(row.format(name=name, **places) for row in submit)])
    return paths["submit"]


def _script(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "\n".join(["#!/bin/bash", *lines]) + "\n")
    os.chmod(path, 0o755)
