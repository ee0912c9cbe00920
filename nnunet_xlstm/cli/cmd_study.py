"""`nnunet_xlstm study`: many trainings that differ in one thing, run, resumed and judged as one."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.options import add_subject_options
from nnunet_xlstm.cli.output import text_table
from nnunet_xlstm.errors import ConfigError

KINDS = ("few_label", "cross_validation", "transfer", "pool")  # as studies.kinds has them, which imports NumPy
SCHEDULERS = ("slurm", "lsf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Trains every variant (a way to train) under the same conditions, predicts and scores, and writes tables, "
        "statistics, a figure and a page. Call it again to go on, or to add variants, labels, epochs, folds and seeds. "
        "few_label: N labelled subjects, for several N and draws, at equal iterations. cross_validation: the folds of "
        "splits_final.json. transfer: checkpoints and scratch, fine-tuned for several numbers of epochs. pool: one "
        "network of a pool, restricted to each source, against one trained on that source alone."
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="of the study")
    asked = parser.add_argument_group("what is studied (kept in DIR/study.json; say it once)")
    asked.add_argument("-d", dest="dataset", metavar="DATASET", help="raw data set: id, name or folder")
    asked.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME[=CHECKPOINT]:TRAINER[@PLANS]",
        help="ways to train; the first is what the others are compared with",
    )
    asked.add_argument("--labels", type=int, nargs="+", metavar="N", help="few_label: numbers of labelled subjects")
    asked.add_argument("--epochs", type=int, nargs="+", metavar="N", help="transfer: lengths of fine-tuning")
    asked.add_argument(
        "--folds", type=int, nargs="+", metavar="N", help="cross_validation (all), transfer: folds to train and score"
    )
    asked.add_argument("--pool", type=Path, metavar="POOL.json", help="pool: what -d was built from")
    asked.add_argument(
        "--seeds", type=int, metavar="N", help="how often each run is repeated, with another seed (few_label 3, else 1)"
    )
    asked.add_argument("-c", dest="configuration", metavar="NAME", help="(3d_fullres)")
    asked.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="of every run; default: the trainers', if equal (cross_validation: each trainer's own)",
    )
    asked.add_argument("--config", type=Path, metavar="KEYS.json", help="keys of all trainers")
    add_subject_options(asked)
    asked.add_argument("--preset", type=Path, metavar="FILE.json", help="the same keys in a file; flags win over it")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="these runs (or patterns), and no report")
    parser.add_argument("--only-report", action="store_true", help="of what is finished; no run is started")
    parser.add_argument("--dry-run", action="store_true", help="check everything and list the runs; nothing is written")
    parser.add_argument("--emit", choices=SCHEDULERS, help="write a job array to DIR/jobs instead of running")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (%(default)s)")
    parser.add_argument("-device", choices=("cpu", "cuda"), default="cuda", help="(%(default)s)")


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    from tqdm.contrib.logging import logging_redirect_tqdm

    from nnunet_xlstm.io.protect import protect_inputs
    from nnunet_xlstm.studies.execute import execute
    from nnunet_xlstm.studies.kinds import KINDS as kinds
    from nnunet_xlstm.studies.report import REPORTS
    from nnunet_xlstm.studies.setup import open_study
    from nnunet_xlstm.studies.study import select

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.jobs < 1:
        raise ConfigError(f"--jobs {args.jobs}: give the number of runs at a time, 1 or more")
    out = args.out.resolve()
    study = open_study(kinds[args.kind], _request(args), out)
    runs = select(study.runs(), args.only)
    if args.dry_run:
        return _list(study, runs)
    given = [path for path in (args.preset, args.config, args.pool, args.subjects, args.test_subjects) if path]
    checkpoints = [Path(variant.checkpoint) for variant in study.variants if variant.checkpoint]
    kept = args.preset is None or args.preset.resolve() == out / "preset.json"
    outputs = ["study.json", *REPORTS] + ([] if kept else ["preset.json"])
    protect_inputs([out / name for name in outputs], [*given, *checkpoints])
    study.save()
    _keep_preset(args.preset, out)
    if args.emit:
        return _emit(args, study, runs)
    failures = {}
    if not args.only_report:
        with logging_redirect_tqdm():
            failures = execute(study, runs, args.device, args.jobs)
    if args.only_report or (not args.only and any(run.is_done for run in study.runs())):
        _report(study, args)
    for name in failures:
        print(f"failed: {name}, see {out / 'runs' / name / 'logs'}", file=sys.stderr)
    return 1 if failures else 0


def _request(args: argparse.Namespace):
    """What is asked: flags over the preset."""
    import dataclasses

    from nnunet_xlstm.io.read import read_json
    from nnunet_xlstm.studies.request import Request, parse_variant, read_preset

    flags = {field.name: getattr(args, field.name) for field in dataclasses.fields(Request)}
    flags["variants"] = None if args.variants is None else [parse_variant(text) for text in args.variants]
    flags["config"] = None if args.config is None else read_json(args.config, dict)
    request = Request(**flags)
    return request if args.preset is None else request.over(read_preset(args.preset))


def _keep_preset(preset: Path | None, out: Path) -> None:
    from nnunet_xlstm.io.read import read_text
    from nnunet_xlstm.io.write import write_text

    if preset is not None and preset.resolve() != out / "preset.json":
        write_text(out / "preset.json", read_text(preset))


def _list(study, runs) -> int:
    rows = []
    for run in runs:
        folds, number = study.split(run)
        scored = sum(len(part.cases) for part in study.parts() if part.name in run.parts)
        length = study.length(run)
        steps = f"{length[0]} x {length[1]}" if length else "recipe"
        rows.append([run.id, "done" if run.is_done else "to do", steps, *_brief(folds[number]["train"]), str(scored)])
    for line in text_table([["run", "", "iterations", "trains on", "named", "scored on"], *rows]):
        print(line)
    counted = {data.name: len({data.subjects[c] for p in study.parts() if p.data is data for c in p.cases})
               for data in study.scored_sets}  # fmt: skip
    print(f"\n{len(runs)} runs; scored subjects: {', '.join(f'{name} {n}' for name, n in counted.items())}")
    return 0


def _brief(cases: list[str]) -> list[str]:
    return [str(len(cases)), ", ".join(cases[:3]) + (", ..." if len(cases) > 3 else "")]


def _resume(args: argparse.Namespace, out: Path, *more: str) -> list[str]:
    """This command, going on with the study."""
    from nnunet_xlstm.nnunet.install.environment import own_command

    return [*own_command("study"), args.kind, "-o", str(out), "-device", args.device, *more]


def _emit(args: argparse.Namespace, study, runs) -> int:
    from nnunet_xlstm.studies.job_array import Limits, write_job_array

    out = study.folder
    commands = [_resume(args, out, "--only", run.id) for run in runs if not run.is_done]
    limits = Limits(gpus=1 if args.device == "cuda" else 0, at_once=args.jobs)
    first = study.sets[0]
    places = {"raw": first.raw.parent, "preprocessed": first.preprocessed.parent}
    variables = {f"nnUNet_{name}": str(folder) for name, folder in places.items()}
    last = _resume(args, out, "--only-report")
    submit = write_job_array(out / "jobs", args.emit, args.kind, commands, last, limits, variables)
    print(f"{len(commands)} tasks, {args.jobs} at a time (--jobs); limits: the top of {submit.with_name('array.sh')}")
    print(f"submit: {submit}")
    return 0


def _report(study, args: argparse.Namespace) -> None:
    import shlex

    from nnunet_xlstm.studies.analysis import find
    from nnunet_xlstm.studies.comparison_page import write_comparison
    from nnunet_xlstm.studies.narrative import conclusion, remarks
    from nnunet_xlstm.studies.report import text_rows, write_report
    from nnunet_xlstm.studies.steps import link_models

    found = find(study)
    link_models(study)
    comparison = write_comparison(found) if study.kind.compared else None
    page = write_report(found, shlex.join(["nnunet_xlstm", *_resume(args, study.folder)[3:]]), comparison)
    header, rows = text_rows(found)
    for line in text_table([header, *rows]):
        print(line)
    for text in (conclusion(found), *remarks(found)):
        print(f"\n{text}")
    print(f"\ntables: {study.folder / 'table.csv'}, {study.folder / 'results.csv'}\npage:   {page}")
    if comparison is not None:
        print(f"all pairs, rankings: {comparison}")
