"""`nnunet_xlstm view`: pictures of images with their segmentations, of one model or several side by side."""

import argparse
from pathlib import Path

from nnunet_xlstm.choices import FOCUSES, PLANES, STYLES
from nnunet_xlstm.cli.options import add_dataset_json, add_input, add_output, add_reference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Draws each case in three planes with true proportions: one PNG per case. With --worst K, only the K worst "
        "cases and _sheet.png, a contact sheet of them. A label has one colour in all pictures. With several models, "
        "the same planes of all side by side: a row per plane in the picture of a case, a row per case in _sheet.png; "
        "with --mesh their surfaces, from the same camera."
    )
    add_input(parser, "images, as nnU-Net names them; not needed with --mesh", required=False)
    add_output(parser, "where the pictures go")
    add_reference(parser)
    text = "predicted segmentations; several models: NAME=DIR for each"
    parser.add_argument("-pred", nargs="+", default=[], metavar="[NAME=]DIR", help=text)
    add_dataset_json(parser, "names, file ending, CT or not")
    parser.add_argument("--style", choices=STYLES, default=STYLES[0], help="(%(default)s)")
    text = "planes through the middle of the structure, or the most errors (default with --style errors)"
    parser.add_argument("--focus", choices=FOCUSES, help=text)
    parser.add_argument("--channel", type=int, default=0, metavar="N", help="image channel shown (%(default)s)")
    text = "HU; default for CT: 50 700"
    parser.add_argument("--ct-window", type=float, nargs=2, metavar=("CENTER", "WIDTH"), help=text)
    parser.add_argument("--plane", choices=PLANES, default=PLANES[0], help="of _sheet.png of several models")
    parser.add_argument("--mesh", action="store_true", help="surfaces of the reference and of each model, 3D alone")
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="only these")
    text = "only the K lowest mean Dice of --summary, or of all models"
    parser.add_argument("--worst", type=int, metavar="K", help=text)
    parser.add_argument("--summary", type=Path, metavar="FILE", help="default: summary.json in the -pred folder")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.view.run import ViewRequest, view

    names = {"input": "images", "ref": "reference", "pred": "predictions", "djfile": "dataset_json"}
    request = ViewRequest(**{names.get(key, key): value for key, value in vars(args).items() if key != "debug"})
    print("\n".join(view(request)))
    return 0
