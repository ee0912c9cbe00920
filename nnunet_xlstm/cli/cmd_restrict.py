"""`nnunet_xlstm restrict`: predictions of a pool's network as label maps of one data set, or of all targets."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.output import text_table

SHOWN = 8  # labels in one line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from nnunet_xlstm.catalogue.schema import REGIONS
    from nnunet_xlstm.datasets.case_index import MODALITIES

    parser.description = (
        "Takes what nnUNetv2_predict wrote with a model trained on a pool, best with --save_probabilities. With "
        "--source it writes label maps with the ids of that data set; else one mask per target, a merged map and a "
        "legend. Targets that the scans cannot contain are left out; restrict.json counts everything before and after."
    )
    parser.add_argument("-i", type=Path, required=True, metavar="DIR", help="predictions")
    parser.add_argument("-o", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--source", metavar="NAME", help="a source of the pool: its ids, modality and field of view")
    parser.add_argument("--modality", choices=MODALITIES, help="of the scans; default: that of the source")
    parser.add_argument(
        "--region", nargs="+", choices=REGIONS, help="all that the scans may show; default: that of the source"
    )
    parser.add_argument(
        "--universal", action="store_true", help="all targets, although --source is given (default without)"
    )


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    from nnunet_xlstm.pools.restrict.folder import LEGEND, REPORT, TABLE, restrict_folder
    from nnunet_xlstm.pools.restrict.painting import Request
    from nnunet_xlstm.pools.restrict.report import MASKS

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    regions = None if args.region is None else tuple(dict.fromkeys(args.region))
    request = Request(args.source, args.modality, regions, args.universal)
    report = restrict_folder(args.i, args.o, request, progress=True)
    for line in table(report):
        print(line)
    for line in remarks(report):
        print(f"\n{line}")
    print(f"\nlabel maps: {args.o}, their ids: {args.o / LEGEND}")
    if report["mode"] == "universal":
        print(f"masks:      {args.o / MASKS}/TARGET")
    print(f"counts:     {args.o / REPORT}, per case: {args.o / TABLE}")
    return 0


def table(report: dict) -> list[str]:
    """Sums per target as lines of text, without those that are left out and were not predicted."""
    rows = [["target", "cases", "after", "voxels", "after", "components", "after", "left out because"]]
    for name, target in report["targets"].items():
        before, after = target["before"], target["after"]
        if target["why_left_out"] and not before["voxels"]:
            continue
        numbers = [str(row[key]) for key in ("cases", "voxels", "components") for row in (before, after)]
        rows.append([name, *numbers, target["why_left_out"] or ""])
    return text_table(rows)


def remarks(report: dict) -> list[str]:
    """What a user should know of the result."""
    false, lines = report["false_positives"], []
    if report["modality"] is None and report["regions"] is None:
        lines.append("Nothing is known of the scans, so nothing is suppressed: give --modality, --region or --source.")
    else:
        before, after = false["before"], false["after"]
        lines.append(
            f"false positives (what the scans cannot contain), before -> after: voxels {before['voxels']} -> "
            f"{after['voxels']}, components {before['components']} -> {after['components']}"
        )
    for ids in report["ids_of_same_targets"]:
        lines.append(f"The ids {', '.join(map(str, ids))} have the same targets: all are written as {ids[0]}.")
    if never := list(report["never_painted"]):
        more = f" and {len(never) - SHOWN} more" if len(never) > SHOWN else ""
        lines.append(f"Labels that no target makes, and that are never written: {', '.join(never[:SHOWN])}{more}.")
    return lines
