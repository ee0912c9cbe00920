"""`nnunet_xlstm pool`: several data sets as one, by reference."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.output import print_summary
from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "pool build POOL.json writes nnUNet_raw/DatasetXXX_NAME from the data sets and folders that POOL.json names: "
        "images stay where they are, test subjects stay out, folds are by subject. Where the file names targets, their "
        "labels are remapped. Run it again after a change. pool check POOL.json counts the cases and volumes of every "
        "target and says where sources contradict each other, before anything is built."
    )
    parser.add_argument("action", choices=("build", "check"))
    parser.add_argument("file", type=Path, metavar="POOL.json", help="what to unite: docs/reference/pool.md")
    parser.add_argument("-d", type=int, metavar="ID", help="number of the data set (build)")
    parser.add_argument("--name", help="of the data set; default: the name in POOL.json")
    parser.add_argument("-np", type=int, default=1, metavar="N", help="files at a time (%(default)s)")


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.action == "check":
        from nnunet_xlstm.pools.check import check_pool

        print_report(check_pool(args.file, args.np))
        return 0
    from nnunet_xlstm.pools.build import build_pool

    if args.d is None:
        raise ConfigError("pool build: give the number of the data set with -d")
    dataset, summary = build_pool(args.file, args.d, args.name, args.np)
    print_summary(dataset, summary, args.d)
    return 0


def print_report(report) -> None:
    """Counts per target, pairs that are annotated together, and conflicts."""
    from nnunet_xlstm.cli.output import text_table

    rows = [("target", "annotated", "present", "median ml")]
    for t in report.targets:
        rows.append((t.name, str(t.cases), str(t.present), "-" if t.median_ml is None else f"{t.median_ml:.3g}"))
    for line, t in zip(text_table(rows), [None, *report.targets], strict=True):
        print(line + (f"  {', '.join(f'{source} {n}' for source, n in t.sources.items())}" if t else "  by source"))
    pairs = [f"{a} + {b}: {count}" for (a, b), count in report.together.items() if count]
    never = sum(not count for count in report.together.values())
    print(f"\nannotated in the same cases ({never} pairs of targets never are):")
    print("\n".join(f"  {pair}" for pair in pairs) or "  no two targets")
    print("\nconflicts:" if report.conflicts else "\nno conflicts")
    for conflict in report.conflicts:
        print(f"  {conflict}")
