"""`nnunet_xlstm demo`: phantoms (or your dataset) through plan, train, predict and evaluate, with a report."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.options import add_device, add_output, add_seed, at_least, resolve_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Makes beating-heart phantoms and runs the stock nnU-Net commands on them with the tiny xLSTM-UNet: plan, "
        "train, predict, evaluate. Needs no data, no download and no GPU; about 4 minutes on 2 quiet CPU cores. "
        "Nothing is written outside the -o folder."
    )
    add_output(parser, "where everything goes (%(default)s)", required=False, default=Path("nnunet_xlstm_demo"))
    parser.add_argument("--data", type=Path, metavar="DIR", help="a raw nnU-Net dataset (DatasetXXX_Name) instead")
    add_device(parser)
    add_seed(parser, "the phantoms and the training")
    for option, text in (
        ("--epochs", "of 50 iterations (7 for phantoms, 10 for --data)"),
        ("--cases", "phantoms to train on (60)"),
    ):
        parser.add_argument(option, type=int, action=at_least(1), metavar="N", help=text)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    from nnunet_xlstm.demo.page import text_lines
    from nnunet_xlstm.demo.run import run_demo

    with logging_redirect_tqdm():
        summary = run_demo(args.out, args.data, resolve_device(args.device), args.seed, args.epochs, args.cases)
    out = args.out.resolve()
    print("\n".join([*text_lines(summary), "", f"summary: {out / 'summary.json'}", f"page:    {out / 'index.html'}"]))
    return 0
