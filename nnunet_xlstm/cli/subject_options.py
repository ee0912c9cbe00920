"""Options that say who the subjects of a data set are, and which of them are for testing."""

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
