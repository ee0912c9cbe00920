"""`nnunet_xlstm pool`: several data sets as one, by reference."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "pool build POOL.json writes nnUNet_raw/DatasetXXX_NAME from the data sets and folders that POOL.json names: "
        "images stay where they are, test subjects stay out, folds are by subject. Run it again after a change."
    )
    parser.add_argument("action", choices=("build",))
    parser.add_argument("file", type=Path, metavar="POOL.json", help="what to unite: docs/reference/pool.md")
    parser.add_argument("-d", type=int, required=True, metavar="ID", help="number of the data set")
    parser.add_argument("--name", help="of the data set; default: the name in POOL.json")
    parser.add_argument("-np", type=int, default=1, metavar="N", help="images at a time (%(default)s)")


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    from nnunet_xlstm.data.pool_sources import build_pool

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    dataset, summary = build_pool(args.file, args.d, args.name, args.np)
    print_summary(dataset, summary, args.d)
    return 0


def print_summary(dataset, summary, number: int) -> None:
    """What a run of `unlabelled` or `pool build` did, and what comes next."""
    if len(summary.sources) > 1:
        for source, (subjects, cases) in summary.sources.items():
            print(f"{source}: {subjects} subjects, {cases} cases")
    print(f"{dataset.folder}: {summary.subjects} subjects, {summary.cases} cases, {summary.new} of them new")
    if summary.excluded:
        print(f"left out: {summary.excluded}, see {dataset.folder / 'excluded.csv'}")
    if not summary.folds:
        print("fewer than five subjects: there are no folds by subject; train with fold `all`")
    planned = any(dataset.preprocessed.glob("*Plans*.json"))
    if planned and summary.changed:
        print("The data set has changed since it was planned: plan and preprocess again, with --clean")
    elif not planned:
        print(f"next: nnUNetv2_plan_and_preprocess -d {number} -pl nnUNetPlannerXLSTMUNet -c 3d_fullres")
