"""`nnunet_xlstm view`: pictures of images with their segmentations, and a sheet of the worst cases."""

import argparse
from pathlib import Path

from nnunet_xlstm.errors import ConfigError, DatasetError, failed_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Draws each case in three planes with true proportions: one PNG per case. With --worst K, only the K worst "
        "cases and _sheet.png, a contact sheet of them. A label has one colour in all pictures."
    )
    parser.add_argument("-i", type=Path, required=True, metavar="DIR", help="images, as nnU-Net names them")
    parser.add_argument("-o", type=Path, required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument("-ref", type=Path, metavar="DIR", help="reference segmentations")
    parser.add_argument("-pred", type=Path, metavar="DIR", help="predicted segmentations")
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
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="only these")
    parser.add_argument("--worst", type=int, metavar="K", help="only the K lowest mean Dice of --summary")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="default: summary.json in the -pred folder")


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    from tqdm import tqdm

    from nnunet_xlstm.evaluation.labels import read_dataset
    from nnunet_xlstm.figures import quicklook
    from nnunet_xlstm.figures.overlay import draw_sheet
    from nnunet_xlstm.io.files import protect_inputs, try_writing, visible_files

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    focus = args.focus or ("errors" if args.style == "errors" else "structure")
    if args.style == "errors" and None in (args.ref, args.pred):
        raise ConfigError("--style errors compares a prediction with its reference; give -ref and -pred")
    names, ending, channels = {}, ".nii.gz", ()
    if args.djfile is not None:
        dataset = read_dataset(args.djfile)
        ending, channels = dataset.file_ending, dataset.channels
        names = {ids[0]: dataset.classes.names[key] for key, ids in dataset.classes.labels.items() if len(ids) == 1}
    files = quicklook.find_files(args.i, args.ref, args.pred, ending, args.channel)
    if args.cases:
        missing = set(args.cases) - {row.case for row in files}
        if missing:
            raise ConfigError(
                f"--cases {', '.join(sorted(missing))}: not among the {len(files)} cases; give names without endings"
            )
        files = [row for row in files if row.case in args.cases]
    titles = {}
    if args.worst is not None:
        files, titles = _worst(args, files)
    folders = [folder for folder in (args.i, args.ref, args.pred) if folder is not None]
    read = [path for folder in folders for path in visible_files(folder)]
    sheet = args.o / "_sheet.png"
    protect_inputs([sheet, *(args.o / f"{row.case}.png" for row in files)], [*read, *filter(None, [args.djfile])])
    try_writing([sheet])
    is_ct = args.channel < len(channels) and channels[args.channel].upper() == "CT"
    window = tuple(args.ct_window) if args.ct_window else quicklook.CT_WINDOW if is_ct else None
    if window and window[1] <= 0:
        raise ConfigError(f"--ct-window {window[0]:g} {window[1]:g}: the width must be more than 0")
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
    from nnunet_xlstm.evaluation.summary import read_scores
    from nnunet_xlstm.figures.quicklook import worst

    if args.worst < 1:
        raise ConfigError(f"--worst {args.worst}: give the number of cases, 1 or more")
    if args.summary is None and args.pred is None:
        raise ConfigError("--worst needs scores: give --summary FILE, or -pred with a summary.json in it")
    scores = read_scores(args.summary or args.pred)
    if "Dice" not in scores.values:
        raise ConfigError(f"{args.summary or args.pred}: holds no Dice; give a summary.json of `nnunet_xlstm evaluate`")
    dice = dict(zip(scores.cases, scores.case_average("Dice").tolist(), strict=True))
    chosen = worst(files, dice, args.worst)
    return chosen, {row.case: f"{row.case}: mean Dice {dice.get(row.case, float('nan')):.3f}" for row in chosen}
