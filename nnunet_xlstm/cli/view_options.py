"""What the options of `view` mean, for one model and for several."""

import argparse
from pathlib import Path

from nnunet_xlstm.errors import ConfigError


def shown_as(args: argparse.Namespace) -> tuple[dict[int, str], str, tuple[float, float] | None]:
    """Names of the labels, ending of the files, and grey window, as options and dataset.json have them."""
    from nnunet_xlstm.datasets.dataset_json import DatasetFile
    from nnunet_xlstm.figures.quicklook import CT_WINDOW

    names, ending, channels = {}, ".nii.gz", ()
    if args.djfile is not None:
        file = DatasetFile.read(args.djfile)
        ending, names = file.file_ending(), file.scored_labels().plain_names()
        channels = file.channels() if file.has_channels else ()
    is_ct = args.channel < len(channels) and channels[args.channel].upper() == "CT"
    window = tuple(args.ct_window) if args.ct_window else CT_WINDOW if is_ct else None
    if window and window[1] <= 0:
        raise ConfigError(f"--ct-window {window[0]:g} {window[1]:g}: the width must be more than 0")
    return names, ending, window


def chosen(asked: list[str] | None, cases: list[str]) -> set[str]:
    """The cases that --cases names, or all.

    Raises:
        ConfigError: it names another.
    """
    if missing := set(asked or ()) - set(cases):
        raise ConfigError(
            f"--cases {', '.join(sorted(missing))}: not among the {len(cases)} cases; give names without endings"
        )
    return set(asked or cases)


def mean_dice(path: Path) -> dict[str, float]:
    """Case -> mean Dice over the classes, of a summary.json or the folder that holds it."""
    from nnunet_xlstm.evaluation.summary import read_scores

    scores = read_scores(path)
    if "Dice" not in scores.values:
        raise ConfigError(f"{path}: holds no Dice; give a summary.json of `nnunet_xlstm evaluate`")
    return dict(zip(scores.cases, scores.case_average("Dice").tolist(), strict=True))
