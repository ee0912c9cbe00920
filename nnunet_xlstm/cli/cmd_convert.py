"""`nnunet_xlstm convert`: public data sets as nnU-Net raw data sets."""

import argparse

from nnunet_xlstm.cli.options import add_input, add_new_dataset, add_processes
from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Makes nnUNet_raw/DatasetXXX_NAME from a public data set as it is downloaded, for the sets that nnU-Net has no "
        "converter for. Images stay where they are, labels get consecutive ids, every grid and value is checked. "
        "Nothing is downloaded. Run it again to go on after an interruption."
    )
    parser.add_argument("entry", nargs="?", metavar="NAME", help="entry of the catalogue, or the path of your own")
    parser.add_argument("--list", action="store_true", help="list the catalogue and who converts what")
    add_input(parser, "folder that the official download unpacks to", required=False)
    add_new_dataset(parser, "NAME", required=False)
    parser.add_argument(
        "--subject",
        metavar="REGEX",
        help="finds the subject in the name of a case (its first group, or all); default: as the catalogue says",
    )
    parser.add_argument("--test", action="store_true", help="also make imagesTs, and labelsTs where they are public")
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.catalogue.convert import catalogue_lines, check_served, convert, find_entry
    from nnunet_xlstm.datasets.build import summary_lines

    if args.list:
        print("\n".join(catalogue_lines()))
        return 0
    if args.entry is not None:
        check_served(find_entry(args.entry), args.input, args.number)
    needed = {"NAME": args.entry, "-i": args.input, "-d": args.number}
    if missing := [option for option, value in needed.items() if value is None]:
        raise ConfigError(f"give {', '.join(missing)}; `nnunet_xlstm convert --list` shows what there is")
    options = {"subject": args.subject, "test": args.test, "processes": args.processes}
    dataset, summary = convert(args.entry, args.input, args.number, args.name, **options)
    print("\n".join(summary_lines(dataset, summary, args.number)))
    return 0
