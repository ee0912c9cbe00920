"""`nnunet_xlstm evaluate`: score a folder of predictions."""

import argparse
from pathlib import Path

from nnunet_xlstm.choices import BOTH_EMPTY, HD95, NSD_TOLERANCE_MM, ONE_EMPTY
from nnunet_xlstm.cli.options import add_dataset_json, add_output, add_processes, add_reference
from nnunet_xlstm.errors import DatasetError, failed_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Scores every prediction against the reference of the same name: Dice, IoU, HD, HD95, ASSD, NSD and volumes "
        "per case and class. Writes summary.json in nnU-Net's layout with more keys, and a CSV and an HTML page of "
        "the same name beside it."
    )
    add_reference(parser, required=True)
    parser.add_argument("-pred", type=Path, required=True, metavar="DIR", help="predicted segmentations")
    add_dataset_json(parser, "labels or regions", required=True)
    add_output(parser, "default: summary.json in the -pred folder", "FILE", required=False)
    add_processes(parser)
    parser.add_argument("--chill", action="store_true", help="leave out references that have no prediction")
    parser.add_argument(
        "--nsd-tolerance", type=float, default=NSD_TOLERANCE_MM, metavar="MM", help="of NSD (%(default)s mm)"
    )
    text = "larger directed percentile, or of both together"
    parser.add_argument("--hd95", choices=HD95, default=HD95[0], help=text)
    text = "distances where one mask is empty: the image's diagonal (default), infinite, or left out"
    parser.add_argument("--one-empty", choices=ONE_EMPTY, default=ONE_EMPTY[0], help=text)
    text = "scores where both masks are empty: left out of means (default) or perfect"
    parser.add_argument("--both-empty", choices=BOTH_EMPTY, default=BOTH_EMPTY[0], help=text)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.datasets.dataset_json import DatasetFile
    from nnunet_xlstm.evaluation.folder import find_pairs
    from nnunet_xlstm.evaluation.run import Outputs, evaluate, text_lines
    from nnunet_xlstm.evaluation.score import Settings

    files = Outputs.at(args.out or args.pred / "summary.json")
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
        processes=args.processes,
    )
    print("\n".join(text_lines(summary)))
    if failed:
        print(f"\nincomplete: {len(failed)} of {len(pairs)} cases are missing in these numbers")
    print(f"\nsummary: {files.summary}\ntable:   {files.table}\npage:    {files.page}")
    if failed:
        raise DatasetError(
            f"{failed_text(failed, len(pairs), 'scored')}\nThe others are in {files.summary}, which says that these "
            "are missing; mend them and run the command again: it scores these alone."
        )
    return 0
