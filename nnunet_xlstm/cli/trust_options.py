"""Options by which a user trusts what a file would otherwise be refused for."""

import argparse


def add_allow_import(parser: argparse.ArgumentParser) -> None:
    """Add --allow-import; `args.allow_import` is a list of packages."""
    parser.add_argument(
        "--allow-import",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package whose network classes the file may name, beside ours, nnU-Net's and torch.nn: it is imported; "
        "may be given again",
    )


def add_trust_options(parser: argparse.ArgumentParser) -> None:
    """Add --allow-pickle and --allow-import."""
    parser.add_argument(
        "--allow-pickle", action="store_true", help="unpickle objects in the file, which can run any code"
    )
    add_allow_import(parser)
