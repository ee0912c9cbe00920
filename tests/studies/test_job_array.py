"""Job arrays: scripts that bash understands, with every path and word quoted."""

import shlex
import subprocess

import pytest

from nnunet_xlstm.studies.job_array import SCHEDULERS, Limits, write_job_array

COMMANDS = [["echo", "a b", "it's $HOME"], ["echo", "second"], ["false"]]


@pytest.fixture(params=SCHEDULERS)
def jobs(request, tmp_path):
    """(scheduler, folder with scripts); the folder's name has a blank."""
    folder = tmp_path / "my jobs"
    limits = Limits(hours=3, memory_gb=8, cores=2, gpus=1, at_once=2)
    write_job_array(folder, request.param, "toy", COMMANDS, ["echo", "last"], limits, {"DATA": "/x y/$z"})
    return request.param, folder


def bash(script, **variables):
    done = subprocess.run(
        ["bash", str(script)], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"} | variables
    )
    return done.returncode, done.stdout.strip()


def test_scripts_are_valid_and_say_the_limits(jobs):
    scheduler, folder = jobs
    for name in ("array", "last", "submit"):
        subprocess.run(["bash", "-n", str(folder / f"{name}.sh")], check=True)
    text = (folder / "array.sh").read_text()
    wanted = {
        "slurm": [
            "--array=1-3%2",
            "--time=3:00:00",
            "--mem=8G",
            "--cpus-per-task=2",
            "--gpus=1",
            "--signal=B:TERM@120",
        ],
        "lsf": ['-J "toy[1-3]%2"', "-W 3:00", "rusage[mem=8GB]", "-n 2", '-gpu "num=1"', "-wa TERM -wt 2"],
    }
    assert all(words in text for words in wanted[scheduler])
    assert f"export DATA={shlex.quote('/x y/$z')}" in text


def test_a_task_runs_its_line(jobs):
    scheduler, folder = jobs
    variable = SCHEDULERS[scheduler][1]
    assert bash(folder / "array.sh", **{variable: "1"}) == (0, "a b it's $HOME")
    assert bash(folder / "array.sh", **{variable: "2"}) == (0, "second")
    assert bash(folder / "array.sh", **{variable: "3"})[0] == 1  # the scheduler sees the failure
    assert bash(folder / "last.sh") == (0, "last")


def test_submit_chains_the_last_job(jobs, tmp_path):
    scheduler, folder = jobs
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sbatch", "bsub"):
        (tools / name).write_text(f'#!/bin/bash\necho "{name} $*" >> {tools}/log\necho "77;cluster"\n')
        (tools / name).chmod(0o755)
    assert bash(folder / "submit.sh", PATH=f"{tools}:/usr/bin:/bin")[0] == 0
    first, second = (tools / "log").read_text().splitlines()
    if scheduler == "slurm":
        assert first == f"sbatch --parsable {folder}/array.sh"
        assert second == f"sbatch --dependency=afterany:77 {folder}/last.sh"
    else:
        assert (first.strip(), second) == ("bsub", "bsub -w ended(toy)")


def test_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing left to run"):
        write_job_array(tmp_path, "slurm", "toy", [], ["true"], Limits(), {})
    with pytest.raises(ValueError, match="there are slurm, lsf"):
        write_job_array(tmp_path, "pbs", "toy", COMMANDS, ["true"], Limits(), {})
    with pytest.raises(ValueError, match="line end"):
        write_job_array(tmp_path, "slurm", "toy", [["echo", "a\nb"]], ["true"], Limits(), {})
