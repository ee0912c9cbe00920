"""`nnunet_xlstm pool`: several data sets as one, by reference."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.options import add_new_dataset, add_processes
from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "pool build POOL.json writes nnUNet_raw/DatasetXXX_NAME from the data sets and folders that POOL.json names: "
        "images stay where they are, test subjects stay out, folds are by subject. Where the file names targets, their "
        "labels are remapped. Run it again after a change. pool check POOL.json counts the cases and volumes of every "
        "target and says where sources contradict each other, before anything is built."
    )
    parser.add_argument("action", choices=("build", "check"))
    parser.add_argument("file", type=Path, metavar="POOL.json", help="what to unite: docs/reference/pool.md")
    add_new_dataset(parser, "the name in POOL.json", required=False)
    add_processes(parser, "files")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.datasets.build import summary_lines
    from nnunet_xlstm.pools.build import build_pool
    from nnunet_xlstm.pools.check import check_pool

    if args.action == "check":
        print("\n".join(check_pool(args.file, args.processes).lines()))
        return 0
    if args.number is None:
        raise ConfigError("pool build: give the number of the data set with -d")
    dataset, summary = build_pool(args.file, args.number, args.name, args.processes)
    print("\n".join(summary_lines(dataset, summary, args.number)))
    return 0
