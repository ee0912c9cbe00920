"""`nnunet_xlstm check`: read a raw data set to its end, before nnU-Net does."""

import argparse

from nnunet_xlstm.cli.options import add_dataset, add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Reads every image and label map of a raw data set to its end, and says what is wrong, a line for each: files "
        "that are missing or cut off, NaN, unknown label ids, grids that differ, a wrong number of channels or cases, "
        "files that macOS left. Errors come first, then warnings. Exit code 1 where there are errors."
    )
    add_dataset(parser)
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.datasets.check import check_dataset, find_dataset

    report = check_dataset(find_dataset(args.dataset), args.processes)
    for finding in report.findings:
        print(finding)
    warnings = len(report.findings) - report.errors
    print(
        f"{report.folder}: {report.train} training and {report.test} test cases read; errors: {report.errors}, "
        f"warnings: {warnings}"
    )
    return 1 if report.errors else 0
