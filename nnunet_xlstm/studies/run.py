"""One call of a study: check what is asked, list its runs, write its jobs, or run them and report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from nnunet_xlstm.io.protect import protect_inputs
from nnunet_xlstm.io.read import read_text
from nnunet_xlstm.io.tables import text_table
from nnunet_xlstm.io.write import write_text
from nnunet_xlstm.nnunet.install.environment import own_command
from nnunet_xlstm.studies.analysis import find
from nnunet_xlstm.studies.comparison_page import write_comparison
from nnunet_xlstm.studies.execute import execute
from nnunet_xlstm.studies.job_array import Limits, write_job_array
from nnunet_xlstm.studies.kind import Kind
from nnunet_xlstm.studies.narrative import conclusion, remarks
from nnunet_xlstm.studies.report import REPORTS, text_rows, write_report
from nnunet_xlstm.studies.request import Request, read_preset
from nnunet_xlstm.studies.setup import open_study
from nnunet_xlstm.studies.steps import data_variables, link_models
from nnunet_xlstm.studies.study import Run, Study, select

PRESET = "preset.json"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of one call.

    Attributes:
        only: names or patterns of runs; empty: all, and a report.
        only_report: of what is finished; no run is started.
        dry_run: list the runs, write nothing.
        emit: scheduler whose job array is written in place of running.
        jobs: runs at a time.
        device: as asked, such as "auto"; it goes into commands.
        preset: file of settings; a copy is kept.
        inputs: files that must not be replaced.
    """

    only: Sequence[str] = ()
    only_report: bool = False
    dry_run: bool = False
    emit: str | None = None
    jobs: int = 1
    device: str = "auto"
    preset: Path | None = None
    inputs: Sequence[Path] = ()


def run_study(
    kind: Kind, request: Request, out: Path, options: Options, resolve_device: Callable[[str], str]
) -> tuple[list[str], list[str]]:
    """Do what the options say.

    Args:
        kind: of the study.
        request: its settings as far as they were given; they win over those of the preset.
        out: folder of the study.
        options: what to do.
        resolve_device: turns `options.device` into one that torch has; called if runs are started here.

    Returns:
        Lines of text, and the names of the runs that failed.

    Raises:
        ConfigError: settings that do not fit together, or to the study that is there.
        DatasetError: a data set that cannot be used.
    """
    request = request if options.preset is None else request.over(read_preset(options.preset))
    study = open_study(kind, request, out)
    runs = select(study.runs(), options.only)
    if options.dry_run:
        return _list(study, runs), []
    preset = options.preset if options.preset and options.preset.resolve() != out / PRESET else None
    checkpoints = [Path(variant.checkpoint) for variant in study.variants if variant.checkpoint]
    outputs = ["study.json", *REPORTS, *([PRESET] if preset else [])]
    protect_inputs([out / name for name in outputs], [*options.inputs, *checkpoints])
    study.save()
    if preset:
        write_text(out / PRESET, read_text(preset))
    if options.emit:
        return _emit(study, runs, options, options.emit), []
    failures: list[str] = []
    if not options.only_report:
        with logging_redirect_tqdm():
            failures = list(execute(study, runs, resolve_device(options.device), options.jobs))
    reports = options.only_report or (not options.only and any(run.is_done for run in study.runs()))
    return _report(study, options) if reports else [], failures


def _resume(study: Study, options: Options, *more: str) -> list[str]:
    """Return the command that goes on with the study."""
    return [*own_command("study"), study.kind.name, "-o", str(study.folder), "--device", options.device, *more]


def _list(study: Study, runs: Sequence[Run]) -> list[str]:
    rows = [["run", "", "iterations", "trains on", "named", "scored on"]]
    for run in runs:
        folds, number = study.split(run)
        cases = folds[number]["train"]
        scored = sum(len(part.cases) for part in study.parts() if part.name in run.parts)
        length = study.length(run)
        steps = f"{length[0]} x {length[1]}" if length else "recipe"
        named = ", ".join(cases[:3]) + (", ..." if len(cases) > 3 else "")
        rows.append([run.id, "done" if run.is_done else "to do", steps, str(len(cases)), named, str(scored)])
    counted = {
        data.name: len({data.subjects[c] for part in study.parts() if part.data is data for c in part.cases})
        for data in study.scored_sets
    }
    subjects = ", ".join(f"{name} {n}" for name, n in counted.items())
    return [*text_table(rows), "", f"{len(runs)} runs; scored subjects: {subjects}"]


def _emit(study: Study, runs: Sequence[Run], options: Options, scheduler: str) -> list[str]:
    commands = [_resume(study, options, "--only", run.id) for run in runs if not run.is_done]
    limits = Limits(gpus=0 if options.device == "cpu" else 1, at_once=options.jobs)
    variables = data_variables(study.sets[0])
    last = _resume(study, options, "--only-report")
    submit = write_job_array(study.folder / "jobs", scheduler, study.kind.name, commands, last, limits, variables)
    top = submit.with_name("array.sh")
    return [
        f"{len(commands)} tasks, {options.jobs} at a time (--jobs); limits: the top of {top}",
        f"submit: {submit}",
    ]


def _report(study: Study, options: Options) -> list[str]:
    found = find(study)
    link_models(study)
    comparison = write_comparison(found) if study.kind.compared else None
    page = write_report(found, shlex.join(["nnunet_xlstm", *_resume(study, options)[3:]]), comparison)
    header, rows = text_rows(found)
    lines = text_table([header, *rows]) + [line for text in (conclusion(found), *remarks(found)) for line in ("", text)]
    lines += ["", f"tables: {study.folder / 'table.csv'}, {study.folder / 'results.csv'}", f"page:   {page}"]
    return lines + ([f"all pairs, rankings: {comparison}"] if comparison is not None else [])
