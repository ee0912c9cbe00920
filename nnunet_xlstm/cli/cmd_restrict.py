"""`nnunet_xlstm restrict`: predictions of a pool's network as label maps of one data set, or of all targets."""

import argparse

from nnunet_xlstm.choices import MODALITIES, REGIONS
from nnunet_xlstm.cli.options import add_input, add_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Takes what nnUNetv2_predict wrote with a model trained on a pool, best with --save_probabilities. With "
        "--source it writes label maps with the ids of that data set; else one mask per target, a merged map and a "
        "legend. Targets that the scans cannot contain are left out; restrict.json counts everything before and after."
    )
    add_input(parser, "predictions")
    add_output(parser, "where to write")
    parser.add_argument("--source", metavar="NAME", help="a source of the pool: its ids, modality and field of view")
    parser.add_argument("--modality", choices=MODALITIES, help="of the scans; default: that of the source")
    text = "all that the scans may show; default: that of the source"
    parser.add_argument("--region", nargs="+", choices=REGIONS, help=text)
    text = "all targets, although --source is given (default without)"
    parser.add_argument("--universal", action="store_true", help=text)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.pools.restrict.folder import LEGEND, REPORT, TABLE, restrict_folder
    from nnunet_xlstm.pools.restrict.painting import Request
    from nnunet_xlstm.pools.restrict.report import MASKS, text_lines

    regions = None if args.region is None else tuple(dict.fromkeys(args.region))
    request = Request(args.source, args.modality, regions, args.universal)
    report = restrict_folder(args.input, args.out, request, progress=True)
    print("\n".join(text_lines(report)))
    print(f"\nlabel maps: {args.out}, their ids: {args.out / LEGEND}")
    if report["mode"] == "universal":
        print(f"masks:      {args.out / MASKS}/TARGET")
    print(f"counts:     {args.out / REPORT}, per case: {args.out / TABLE}")
    return 0
