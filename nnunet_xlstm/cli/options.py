"""Options that commands share, alike in every command, and the checks of their values."""

import argparse
from pathlib import Path
from typing import Any

from nnunet_xlstm.choices import DEVICES
from nnunet_xlstm.errors import ConfigError

Parser = argparse._ActionsContainer  # a parser, or a group of one


def at_least(low: int) -> type[argparse.Action]:
    """Return an action for `add_argument(..., type=int, action=at_least(1))`.

    Raises:
        ConfigError: when arguments are parsed: the value is below `low`.
    """

    class AtLeast(argparse.Action):
        def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
            if value < low:
                raise ConfigError(f"{option} {value} is too small; give {low} or more")
            setattr(namespace, self.dest, value)

    return AtLeast


def add_dataset(parser: Parser, what: str = "raw data set: id, name or folder", required: bool = True) -> None:
    """Add -d; `args.dataset` is a text."""
    parser.add_argument("-d", dest="dataset", required=required, metavar="DATASET", help=what)


def add_new_dataset(parser: Parser, name: str, required: bool = True) -> None:
    """Add -d and --name of a data set that is made; `args.number`, `args.name`. `name`: what the name is by default."""
    parser.add_argument("-d", dest="number", type=int, required=required, metavar="ID", help="number of the data set")
    parser.add_argument("--name", help=f"of the data set ({name})")


def add_input(parser: Parser, what: str, metavar: str = "DIR", **options: Any) -> None:
    """Add -i; `args.input` is a path, or a list of paths with `nargs`."""
    parser.add_argument("-i", dest="input", type=Path, metavar=metavar, help=what, **({"required": True} | options))


def add_output(parser: Parser, what: str, metavar: str = "DIR", **options: Any) -> None:
    """Add -o; `args.out` is a path."""
    parser.add_argument("-o", dest="out", type=Path, metavar=metavar, help=what, **({"required": True} | options))


def add_reference(parser: Parser, required: bool = False) -> None:
    """Add -ref, as nnU-Net's evaluation calls it."""
    parser.add_argument("-ref", type=Path, required=required, metavar="DIR", help="reference segmentations")


def add_dataset_json(parser: Parser, what: str, required: bool = False) -> None:
    """Add -djfile, as nnU-Net's evaluation calls it."""
    parser.add_argument("-djfile", type=Path, required=required, metavar="FILE", help=f"dataset.json: {what}")


def add_processes(parser: Parser, what: str = "cases") -> None:
    """Add -np; `args.processes` is 1 or more."""
    parser.add_argument(
        "-np",
        dest="processes",
        type=int,
        action=at_least(1),
        default=1,
        metavar="N",
        help=f"{what} at a time (%(default)s)",
    )


def add_seed(parser: Parser, what: str) -> None:
    """Add --seed; `args.seed` is 0 or more. `what`: what is drawn."""
    parser.add_argument("--seed", type=int, action=at_least(0), default=0, metavar="N", help=f"of {what} (%(default)s)")


def add_device(parser: Parser) -> None:
    """Add --device; `resolve_device` turns `args.device` into one that torch has."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto: cuda if there is one, else cpu")


def resolve_device(name: str) -> str:
    """Return "cpu", "cuda" or "mps"; torch is asked only where it must be.

    Raises:
        ConfigError: cuda was asked for, and torch finds no CUDA GPU.
    """
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


def add_subjects(parser: Parser) -> None:
    """Add --subjects and --subject, one of which may be given."""
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


def add_test_subjects(parser: Parser) -> None:
    """Add --test-subjects."""
    parser.add_argument(
        "--test-subjects",
        type=Path,
        metavar="FILE",
        help="JSON list, or an object with the key test_subjects; default: test_subjects.json of the data set",
    )


def add_allow_import(parser: Parser) -> None:
    """Add --allow-import; `args.allow_import` is a list of packages."""
    parser.add_argument(
        "--allow-import",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package whose network classes the file may name, beside ours, nnU-Net's and torch.nn: it is imported; "
        "may be given again",
    )


def add_trust(parser: Parser) -> None:
    """Add --allow-pickle and --allow-import."""
    parser.add_argument(
        "--allow-pickle", action="store_true", help="unpickle objects in the file, which can run any code"
    )
    add_allow_import(parser)


def pairs(option: str, texts: list[str]) -> dict[str, str]:
    """Split texts such as OLD=NEW.

    Raises:
        ConfigError: one has no "=", or a first part comes twice.
    """
    found = dict(text.split("=", 1) for text in texts if "=" in text)
    if len(found) != len(texts):
        raise ConfigError(f"{option} {' '.join(texts)}: give pairs such as OLD=NEW, each once")
    return found
