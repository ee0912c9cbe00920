"""Draw the cases of a folder: which, of which models, the worst first, and what could not be drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.choices import FOCUSES, PLANES, STYLES
from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import ConfigError, DatasetError, failed_text
from nnunet_xlstm.evaluation.summary import read_scores
from nnunet_xlstm.figures.overlay import CT_WINDOW
from nnunet_xlstm.io.protect import protect_inputs
from nnunet_xlstm.io.read import visible_files
from nnunet_xlstm.io.write import try_writing
from nnunet_xlstm.parallel import for_each
from nnunet_xlstm.view.drawings import REFERENCE, Drawing, OneModel, SeveralModels, Surfaces
from nnunet_xlstm.view.files import find_files

ONE = "prediction"  # the name of a model that has none


@dataclass(frozen=True, kw_only=True)
class ViewRequest:
    """What is drawn.

    Attributes:
        images: as nnU-Net names them; None with `mesh`.
        out: folder of the pictures.
        reference: folder of label maps, or None.
        predictions: folder, or NAME=FOLDER for each of several models.
        dataset_json: for names, file ending, and whether the images are CT.
        style: of choices.STYLES.
        focus: of choices.FOCUSES; None: as the style needs.
        channel: of the images.
        ct_window: center and width in HU; None: a usual one for CT, else by the image.
        plane: of choices.PLANES, for the sheet of several models.
        mesh: surfaces in place of planes.
        cases: names; empty: all.
        worst: how many cases with the lowest mean Dice; None: all.
        summary: summary.json with the Dice of one model; None: in the folder of the predictions.
    """

    images: Path | None
    out: Path
    reference: Path | None = None
    predictions: Sequence[str] = ()
    dataset_json: Path | None = None
    style: str = STYLES[0]
    focus: str | None = None
    channel: int = 0
    ct_window: Sequence[float] | None = None
    plane: str = PLANES[0]
    mesh: bool = False
    cases: Sequence[str] = ()
    worst: int | None = None
    summary: Path | None = None


def view(request: ViewRequest) -> list[str]:
    """Write a picture of each case, and sheets; return lines of text.

    Raises:
        ConfigError: options that do not fit together, or a picture that would replace a file that is read.
        DatasetError: folders that do not fit together, or cases that could not be drawn (the others are).
        WriteError: a picture cannot be written.
    """
    models = _models(request.predictions)
    if request.summary is not None and len(models) > 1:
        raise ConfigError("--summary is of one model; with several, each -pred folder has its own summary.json")
    drawing = _drawing(request, models)
    if unknown := sorted(set(request.cases) - set(drawing.cases)):
        raise ConfigError(
            f"--cases {', '.join(unknown)}: not among the {len(drawing.cases)} cases; give names without endings"
        )
    cases = sorted(set(request.cases) or drawing.cases)
    notes: dict[str, dict[str, str]] = {}
    if request.worst is not None:
        notes = _worst(request.worst, request.summary, models, cases)
        cases = list(notes)
    folders = [folder for folder in (request.images, request.reference, *models.values()) if folder is not None]
    read = [path for folder in folders for path in visible_files(folder)]
    pictures = {case: request.out / f"{case}.png" for case in cases}
    outputs = [request.out / "_sheet.png", *pictures.values()]
    protect_inputs(outputs, [*read, *filter(None, [request.dataset_json])])
    try_writing(outputs[:2])
    results = dict(
        for_each(
            lambda case: drawing.draw(pictures[case], case, notes.get(case, {})),
            cases,
            desc="view",
            caught=(DatasetError,),
        )
    )
    failed = {case: text for case, text in results.items() if text is not None}
    drawn = [case for case in cases if case not in failed]
    lines = [str(path) for path in drawing.sheets(request.out, drawn, notes)] if drawn else []
    said = f"{len(drawn)} picture{'s' * (len(drawn) != 1)} in {request.out}"
    if failed:
        raise DatasetError(f"{failed_text(failed, len(cases), 'drawn')}\n{said}")
    return [*lines, said]


def _models(texts: Sequence[str]) -> dict[str, Path]:
    """Return name -> folder; of several, a folder without a name has its own."""
    if len(texts) == 1 and "=" not in texts[0]:
        return {ONE: Path(texts[0])}
    found = {}
    for name, sign, folder in (text.partition("=") for text in texts):
        found[name.strip() if sign else Path(name).resolve().name] = Path(folder if sign else name)
    if len(found) < len(texts) or not all(found) or REFERENCE in found:
        raise ConfigError(
            f"-pred {' '.join(texts)}: give every model a name of its own, NAME=DIR, and none 'reference'"
        )
    return found


def _drawing(request: ViewRequest, models: Mapping[str, Path]) -> Drawing:
    names: Mapping[int, str] = {}
    channels: tuple[str, ...] = ()
    ending = ".nii.gz"
    if request.dataset_json is not None:
        file = DatasetFile.read(request.dataset_json)
        ending, names = file.file_ending(), file.scored_labels().plain_names()
        channels = file.channels() if file.has_channels else ()
    is_ct = request.channel < len(channels) and channels[request.channel].upper() == "CT"
    window = request.ct_window or (CT_WINDOW if is_ct else None)
    if window and window[1] <= 0:
        raise ConfigError(f"--ct-window {window[0]:g} {window[1]:g}: the width must be more than 0")
    if request.mesh:
        return Surfaces(request.reference, models, names)
    if request.images is None:
        raise ConfigError("-i is missing: give the folder of the images (only --mesh needs none)")
    one = not models or list(models) == [ONE]
    if request.style == "errors" and (request.reference is None or not models):
        missing = "-ref and -pred" if one else "-ref"
        raise ConfigError(f"--style errors compares predictions with their reference; give {missing}")
    focus = request.focus or FOCUSES[request.style == "errors"]
    options = {"names": names, "ct_window": window, "style": request.style, "focus": focus}
    files = find_files(request.images, request.reference, models, ending, request.channel)
    return OneModel(files, options) if one else SeveralModels(files, options, request.plane)


def _worst(n: int, summary: Path | None, models: Mapping[str, Path], cases: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return case -> model -> its Dice as text, of the n cases with the lowest mean over models, worst first."""
    if n < 1:
        raise ConfigError(f"--worst {n}: give the number of cases, 1 or more")
    sources = {name: summary or folder for name, folder in models.items()} or ({ONE: summary} if summary else {})
    if not sources:
        raise ConfigError("--worst needs scores: give --summary FILE, or -pred with a summary.json in it")
    dice = {name: mean_dice(path) for name, path in sources.items()}
    for name, known in dice.items():
        if missing := [case for case in cases if math.isnan(known.get(case, math.nan))]:
            whose = "" if name == ONE else f"model '{name}': "
            raise DatasetError(
                f"{whose}no score of {', '.join(missing[:5])} among {len(known)} cases; evaluate these predictions"
            )
    mean = {case: sum(known[case] for known in dice.values()) / len(dice) for case in cases}
    order = sorted(cases, key=lambda case: (mean[case], case))[:n]
    return {case: {name: f"Dice {known[case]:.3f}" for name, known in dice.items()} for case in order}


def mean_dice(path: Path) -> dict[str, float]:
    """Return case -> mean Dice over the classes, of a summary.json or the folder that holds it.

    Raises:
        ConfigError: it holds no Dice.
        DatasetError: it cannot be read.
    """
    scores = read_scores(path)
    if "Dice" not in scores.values:
        raise ConfigError(f"{path}: holds no Dice; give a summary.json of `nnunet_xlstm evaluate`")
    return dict(zip(scores.cases, scores.case_average("Dice").tolist(), strict=True))
