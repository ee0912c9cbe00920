"""`nnunet_xlstm evaluate`: score a folder of predictions."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.output import text_table
from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Scores every prediction against the reference of the same name: Dice, IoU, HD, HD95, ASSD, NSD and volumes "
        "per case and class. Writes summary.json in nnU-Net's layout with more keys, and a CSV and an HTML page of "
        "the same name beside it."
    )
    parser.add_argument("-ref", type=Path, required=True, metavar="DIR", help="reference segmentations")
    parser.add_argument("-pred", type=Path, required=True, metavar="DIR", help="predicted segmentations")
    parser.add_argument("-djfile", type=Path, required=True, metavar="FILE", help="dataset.json: labels or regions")
    parser.add_argument("-o", type=Path, metavar="FILE", help="default: summary.json in the -pred folder")
    parser.add_argument("-np", type=int, default=1, metavar="N", help="cases at a time (%(default)s)")
    parser.add_argument("--chill", action="store_true", help="leave out references that have no prediction")
    parser.add_argument("--nsd-tolerance", type=float, default=2.0, metavar="MM", help="of NSD (%(default)s mm)")
    parser.add_argument(
        "--hd95", choices=("max", "pooled"), default="max", help="larger directed percentile, or of both together"
    )
    parser.add_argument(
        "--one-empty",
        choices=("diagonal", "inf", "nan"),
        default="diagonal",
        help="distances where one mask is empty: the image's diagonal (default), infinite, or left out",
    )
    parser.add_argument(
        "--both-empty",
        choices=("nan", "perfect"),
        default="nan",
        help="scores where both masks are empty: left out of means (default) or perfect",
    )


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    from nnunet_xlstm.datasets.dataset_json import DatasetFile
    from nnunet_xlstm.errors import DatasetError, failed_text
    from nnunet_xlstm.evaluation.folder import find_pairs
    from nnunet_xlstm.evaluation.run import Outputs, evaluate
    from nnunet_xlstm.evaluation.score import Settings
    from nnunet_xlstm.evaluation.summary import EXTRAS

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.np < 1:
        raise ConfigError(f"-np {args.np}: give the number of cases to score at a time, 1 or more")
    files = Outputs.at(args.o or args.pred / "summary.json")
    settings = Settings(args.nsd_tolerance, args.hd95, args.both_empty, args.one_empty)
    dataset = DatasetFile.read(args.djfile)
    pairs = find_pairs(args.ref, args.pred, dataset.file_ending(), args.chill)
    summary, failed = evaluate(
        pairs,
        dataset.scored_labels(),
        settings,
        files.summary,
        f"Evaluation of {'/'.join(args.pred.resolve().parts[-2:])}",
        inputs=[args.djfile / "dataset.json" if args.djfile.is_dir() else args.djfile],
        processes=args.np,
        progress=True,
    )
    for line in table(summary):
        print(line)
    if failed:
        print(f"\nincomplete: {len(failed)} of {len(pairs)} cases are missing in these numbers")
    print(f"\nsummary: {files.summary}\ntable:   {files.table}\npage:    {files.page}")
    missed, false = (sum(row[n] for row in summary[EXTRAS]["counts"].values()) for n in ("n_missed", "n_false"))
    if missed or false:
        print(f"\nmissed structures: {missed}, false ones: {false}; their distances: {args.one_empty} (see flags)")
    if failed:
        raise DatasetError(
            f"{failed_text(failed, len(pairs), 'scored')}\nThe others are in {files.summary}, which says that these "
            "are missing; mend them and run the command again: it scores these alone."
        )
    return 0


def table(summary: dict) -> list[str]:
    """Means per class as lines of text."""
    shown = ("Dice", "HD95", "ASSD", "NSD", "AVD", "RVE")
    names = summary["nnunet_xlstm"]["classes"]
    rows = [(names[key], row) for key, row in summary["mean"].items()] + [("mean", summary["foreground_mean"])]
    cells = [[name, *("-" if row[m] is None else f"{row[m]:.3f}" for m in shown)] for name, row in rows]
    return text_table([["class", *shown], *cells])
