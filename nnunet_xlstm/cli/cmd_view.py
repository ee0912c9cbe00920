"""`nnunet_xlstm view`: pictures of images with their segmentations, of one model or several side by side."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.view_options import chosen, mean_dice, shown_as
from nnunet_xlstm.errors import ConfigError, DatasetError, failed_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Draws each case in three planes with true proportions: one PNG per case. With --worst K, only the K worst "
        "cases and _sheet.png, a contact sheet of them. A label has one colour in all pictures. With several models, "
        "the same planes of all side by side: a row per plane in the picture of a case, a row per case in _sheet.png; "
        "with --mesh their surfaces, from the same camera."
    )
    parser.add_argument("-i", type=Path, metavar="DIR", help="images, as nnU-Net names them; not needed with --mesh")
    parser.add_argument("-o", type=Path, required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument("-ref", type=Path, metavar="DIR", help="reference segmentations")
    parser.add_argument(
        "-pred", nargs="+", metavar="[NAME=]DIR", help="predicted segmentations; several models: NAME=DIR for each"
    )
    parser.add_argument("-djfile", type=Path, metavar="FILE", help="dataset.json: names, file ending, CT or not")
    parser.add_argument("--style", choices=("outline", "filled", "errors"), default="outline", help="(%(default)s)")
    parser.add_argument(
        "--focus",
        choices=("structure", "errors"),
        help="planes through the middle of the structure, or the most errors (default with --style errors)",
    )
    parser.add_argument("--channel", type=int, default=0, metavar="N", help="image channel shown (%(default)s)")
    parser.add_argument(
        "--ct-window", type=float, nargs=2, metavar=("CENTRE", "WIDTH"), help="HU; default for CT: 50 700"
    )
    parser.add_argument(
        "--plane", choices=("axial", "coronal", "sagittal"), default="axial", help="of _sheet.png of several models"
    )
    parser.add_argument("--mesh", action="store_true", help="surfaces of the reference and of each model, 3D alone")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="only these")
    parser.add_argument(
        "--worst", type=int, metavar="K", help="only the K lowest mean Dice of --summary, or of all models"
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="default: summary.json in the -pred folder")


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.i is None and not args.mesh:
        raise ConfigError("-i is missing: give the folder of the images (only --mesh needs none)")
    models = [text for text in args.pred or () if "=" in text or len(args.pred) > 1]
    if models or args.mesh:
        from nnunet_xlstm.cli import view_side_by_side

        return view_side_by_side.run(args)
    args.pred = None if args.pred is None else Path(args.pred[0])
    return _one_model(args)


def _one_model(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nnunet_xlstm.figures import quicklook
    from nnunet_xlstm.figures.overlay import draw_sheet
    from nnunet_xlstm.io.protect import protect_inputs
    from nnunet_xlstm.io.read import visible_files
    from nnunet_xlstm.io.write import try_writing

    focus = args.focus or ("errors" if args.style == "errors" else "structure")
    if args.style == "errors" and None in (args.ref, args.pred):
        raise ConfigError("--style errors compares a prediction with its reference; give -ref and -pred")
    names, ending, window = shown_as(args)
    files = quicklook.find_files(args.i, args.ref, args.pred, ending, args.channel)
    kept = chosen(args.cases, [row.case for row in files])
    files = [row for row in files if row.case in kept]
    titles = {}
    if args.worst is not None:
        files, titles = _worst(args, files)
    folders = [folder for folder in (args.i, args.ref, args.pred) if folder is not None]
    read = [path for folder in folders for path in visible_files(folder)]
    sheet = args.o / "_sheet.png"
    protect_inputs([sheet, *(args.o / f"{row.case}.png" for row in files)], [*read, *filter(None, [args.djfile])])
    try_writing([sheet])
    common = {"names": names, "ct_window": window, "style": args.style, "focus": focus}
    failed = {}
    with tqdm(files, unit="case", desc="view", disable=None) as bar:
        for row in bar:
            try:
                quicklook.draw_case(row, args.o, title=titles.get(row.case, ""), **common)
            except DatasetError as error:
                failed[row.case] = str(error)
    total, files = len(files), [row for row in files if row.case not in failed]
    if args.worst is not None and files:
        print(draw_sheet(sheet, quicklook.loaders(files, titles), **common))
    print(f"{len(files)} picture{'s' * (len(files) != 1)} in {args.o}")
    if failed:
        raise DatasetError(failed_text(failed, total, "drawn"))
    return 0


def _worst(args: argparse.Namespace, files: list) -> tuple[list, dict[str, str]]:
    """The worst cases, and titles with their mean Dice."""
    from nnunet_xlstm.figures.quicklook import worst

    if args.worst < 1:
        raise ConfigError(f"--worst {args.worst}: give the number of cases, 1 or more")
    if args.summary is None and args.pred is None:
        raise ConfigError("--worst needs scores: give --summary FILE, or -pred with a summary.json in it")
    dice = mean_dice(args.summary or args.pred)
    kept = worst(files, dice, args.worst)
    return kept, {row.case: f"{row.case}: mean Dice {dice.get(row.case, float('nan')):.3f}" for row in kept}
