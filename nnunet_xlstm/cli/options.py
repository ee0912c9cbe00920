"""Options that several commands share."""

import argparse
from pathlib import Path


def add_subject_options(parser: argparse._ActionsContainer) -> None:
    """Adds --test-subjects, --subjects and --subject to a parser or a group of one."""
    parser.add_argument(
        "--test-subjects",
        type=Path,
        metavar="FILE",
        help="JSON list, or an object with the key test_subjects; default: test_subjects.json of the data set",
    )
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--subjects",
        type=Path,
        metavar="FILE",
        help='JSON {"case": "subject"} or CSV with the columns case,subject; default: pool_cases.json, or every case '
        "is a subject",
    )
    whose.add_argument(
        "--subject", metavar="REGEX", help=r"what in a case's name is the subject, such as '(patient\d+)'"
    )


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
