"""`nnunet_xlstm study`: many trainings that differ in one thing, run, resumed and judged as one."""

import argparse
import sys
from pathlib import Path

from nnunet_xlstm.choices import SCHEDULERS, STUDIES
from nnunet_xlstm.cli.options import (
    add_dataset,
    add_device,
    add_output,
    add_subjects,
    add_test_subjects,
    at_least,
    resolve_device,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Trains every variant (a way to train) under the same conditions, predicts and scores, and writes tables, "
        "statistics, a figure and a page. Call it again to go on, or to add variants, labels, epochs, folds and seeds. "
        "few_label: N labelled subjects, for several N and draws, at equal iterations. cross_validation: the folds of "
        "splits_final.json. transfer: checkpoints and scratch, fine-tuned for several numbers of epochs. pool: one "
        "network of a pool, restricted to each source, against one trained on that source alone."
    )
    parser.add_argument("kind", choices=STUDIES)
    add_output(parser, "of the study")
    asked = parser.add_argument_group("what is studied (kept in DIR/study.json; say it once)")
    add_dataset(asked, required=False)
    text = "ways to train; the first is what the others are compared with"
    asked.add_argument("--variants", nargs="+", metavar="NAME[=CHECKPOINT]:TRAINER[@PLANS]", help=text)
    for option, text in (
        ("--labels", "few_label: numbers of labelled subjects"),
        ("--epochs", "transfer: lengths of fine-tuning"),
        ("--folds", "cross_validation (all), transfer: folds to train and score"),
    ):
        asked.add_argument(option, type=int, nargs="+", metavar="N", help=text)
    asked.add_argument("--pool", type=Path, metavar="POOL.json", help="pool: what -d was built from")
    text = "how often each run is repeated, with another seed (few_label 3, else 1)"
    asked.add_argument("--seeds", type=int, metavar="N", help=text)
    asked.add_argument("-c", dest="configuration", metavar="NAME", help="(3d_fullres)")
    text = "of every run; default: the trainers', if equal (cross_validation: each trainer's own)"
    asked.add_argument("--iterations", type=int, metavar="N", help=text)
    asked.add_argument("--config", type=Path, metavar="KEYS.json", help="keys of all trainers")
    add_test_subjects(asked)
    add_subjects(asked)
    asked.add_argument("--preset", type=Path, metavar="FILE.json", help="the same keys in a file; flags win over it")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="these runs (or patterns), and no report")
    parser.add_argument("--only-report", action="store_true", help="of what is finished; no run is started")
    parser.add_argument("--dry-run", action="store_true", help="check everything and list the runs; nothing is written")
    parser.add_argument("--emit", choices=SCHEDULERS, help="write a job array to DIR/jobs instead of running")
    text = "runs at a time (%(default)s)"
    parser.add_argument("--jobs", type=int, action=at_least(1), default=1, metavar="N", help=text)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.studies.kinds import KINDS
    from nnunet_xlstm.studies.request import Request
    from nnunet_xlstm.studies.run import Options, run_study

    out = args.out.resolve()
    inputs = [p for p in (args.preset, args.config, args.pool, args.subjects, args.test_subjects) if p]
    names = ("only", "only_report", "dry_run", "emit", "jobs", "device", "preset")
    options = Options(**{name: getattr(args, name) for name in names}, inputs=inputs)
    lines, failures = run_study(KINDS[args.kind], Request.of(vars(args)), out, options, resolve_device)
    if lines:
        print("\n".join(lines))
    for name in failures:
        print(f"failed: {name}, see {out / 'runs' / name / 'logs'}", file=sys.stderr)
    return 1 if failures else 0
