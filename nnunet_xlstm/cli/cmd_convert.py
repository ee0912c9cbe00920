"""`nnunet_xlstm convert`: public data sets as nnU-Net raw data sets."""

import argparse
from pathlib import Path

from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Makes nnUNet_raw/DatasetXXX_NAME from a public data set as it is downloaded, for the sets that nnU-Net has no "
        "converter for. Images stay where they are, labels get consecutive ids, every grid and value is checked. "
        "Nothing is downloaded. Run it again to go on after an interruption."
    )
    parser.add_argument("dataset", nargs="?", metavar="NAME", help="entry of the catalogue, or the path of your own")
    parser.add_argument("--list", action="store_true", help="list the catalogue and who converts what")
    parser.add_argument("--input", type=Path, metavar="DIR", help="folder that the official download unpacks to")
    parser.add_argument("-d", type=int, metavar="ID", help="number of the data set")
    parser.add_argument("--name", help="of the data set; default: NAME")
    parser.add_argument(
        "--subject",
        metavar="REGEX",
        help="finds the subject in the name of a case (its first group, or all); default: as the catalogue says",
    )
    parser.add_argument("--test", action="store_true", help="also make imagesTs, and labelsTs where they are public")
    parser.add_argument("-np", type=int, default=1, metavar="N", help="cases at a time (%(default)s)")


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    from nnunet_xlstm.catalogue.convert import check_served, convert, find_entry
    from nnunet_xlstm.cli.output import print_summary

    if args.list:
        print_catalogue()
        return 0
    if args.dataset is not None:
        check_served(find_entry(args.dataset), args.input, args.d)
    needed = {"NAME": args.dataset, "--input": args.input, "-d": args.d}
    if missing := [option for option, value in needed.items() if value is None]:
        raise ConfigError(f"give {', '.join(missing)}; `nnunet_xlstm convert --list` shows what there is")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    dataset, summary = convert(
        args.dataset, args.input, args.d, args.name, subject=args.subject, test=args.test, processes=args.np
    )
    print_summary(dataset, summary, args.d)
    return 0


def print_catalogue() -> None:
    """Print a line for every entry, then how many there are."""
    from nnunet_xlstm.catalogue.convert import catalogue_rows
    from nnunet_xlstm.catalogue.entries import count_sets, load_dataset, shipped

    entries = {name: load_dataset(name) for name in shipped()}
    rows = catalogue_rows(entries)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, cases, access, by, title in rows:
        print(f"{name:{widths[0]}}  {cases:>{widths[1]}}  {access:{widths[2]}}  {by:{widths[3]}}  {title}")
    print(f"\n{count_sets(entries.values())}")
