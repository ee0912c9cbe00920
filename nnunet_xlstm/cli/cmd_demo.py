"""`nnunet_xlstm demo`: phantoms (or your dataset) through plan, train, predict and evaluate, with a report."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.output import text_table
from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Makes beating-heart phantoms and runs the stock nnU-Net commands on them with the tiny xLSTM-UNet: plan, "
        "train, predict, evaluate. Needs no data, no download and no GPU; about 4 minutes on 2 quiet CPU cores. "
        "Nothing is written outside --out."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("nnunet_xlstm_demo"), metavar="DIR", help="where everything goes (%(default)s)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="a raw nnU-Net dataset (DatasetXXX_Name) instead")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="auto: cuda if there is one, else cpu"
    )
    parser.add_argument("--seed", type=_natural, default=0, help="of the phantoms and the training (%(default)s)")
    parser.add_argument("--epochs", type=_positive, help="of 50 iterations (7 for phantoms, 10 for --data)")
    parser.add_argument("--cases", type=_positive, help="phantoms to train on (60)")


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    from tqdm.contrib.logging import logging_redirect_tqdm

    from nnunet_xlstm.demo.run import run_demo

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with logging_redirect_tqdm():
        result = run_demo(args.out, args.data, _device(args.device), args.seed, args.epochs, args.cases)
    for line in table(result.summary):
        print(line)
    print(f"\nsummary: {result.summary_json}\npage:    {result.page}")
    return 0


def table(summary: dict) -> list[str]:
    """The result as lines of text: a row per structure, the mean, and what intensity alone reaches."""
    from nnunet_xlstm.demo.page import format_dice

    baseline = summary["intensity_baseline"] or {"per_structure": {}, "mean": None}
    rows = [(name, value, baseline["per_structure"].get(name)) for name, value in summary["dice"].items()]
    rows.append(("mean", summary["mean_dice"], baseline["mean"]))
    cells = [[name, format_dice(ours), format_dice(other)] for name, ours, other in rows]
    lines = [f"{summary['dataset']}: Dice, mean over {summary['n_scored']} {summary['scored_on']}", ""]
    lines += text_table([["structure", "xLSTM-UNet", "best intensity classifier"], *cells])
    stages = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in summary["seconds"].items())
    return [*lines, "", f"{summary['total_seconds']:.0f} s on {summary['device']}: {stages}"]


def _device(name: str) -> str:
    """Device of nnU-Net's -device; asks torch only where it must."""
    if name in ("cpu", "mps"):
        return name
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise ConfigError(
            "--device cuda: torch finds no CUDA GPU here; use --device cpu, or see `nnunet_xlstm status`."
        )
    return "cpu"


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number; use 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if _natural(text) == 0:
        raise argparse.ArgumentTypeError("0 is too few; use 1 or more")
    return int(text)
