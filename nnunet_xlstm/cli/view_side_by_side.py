"""`nnunet_xlstm view` with several models: slices or surfaces side by side."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.view_options import chosen, mean_dice, shown_as
from nnunet_xlstm.errors import ConfigError, DatasetError, failed_text

ALL = "reference"


def run(args: argparse.Namespace) -> int:
    """Draw what the options ask for."""
    from tqdm import tqdm

    from nnunet_xlstm.io.protect import protect_inputs
    from nnunet_xlstm.io.read import visible_files
    from nnunet_xlstm.io.write import try_writing

    models = _models(args.pred or [])
    if args.summary is not None and len(models) > 1:
        raise ConfigError("--summary is of one model; with several, each -pred folder has its own summary.json")
    names, ending, window = shown_as(args)
    work = _Meshes(args, models, names) if args.mesh else _Slices(args, models, names, ending, window)
    kept = chosen(args.cases, list(work.cases))
    notes, order = _scores(args, models, kept)
    cases = [case for case in order or sorted(kept) if case in work.cases]
    folders = [folder for folder in (args.i, args.ref, *models.values()) if folder is not None]
    read = [path for folder in folders for path in visible_files(folder)]
    pictures = [args.o / f"{case}.png" for case in cases]
    protect_inputs([args.o / "_sheet.png", *pictures], [*read, *filter(None, [args.djfile])])
    try_writing(pictures[:1])
    failed = {}
    with tqdm(cases, unit="case", desc="view", disable=None) as bar:
        for case in bar:
            try:
                work.draw(args.o / f"{case}.png", case, notes.get(case, {}))
            except DatasetError as error:
                failed[case] = str(error)
    drawn = [case for case in cases if case not in failed]
    for path in work.sheets(args.o, drawn, notes) if drawn else ():
        print(path)
    print(f"{len(drawn)} picture{'s' * (len(drawn) != 1)} in {args.o}")
    if failed:
        raise DatasetError(failed_text(failed, len(cases), "drawn"))
    return 0


def _models(texts: list[str]) -> dict[str, Path]:
    """Name -> folder; a folder without a name has its own."""
    pairs = [text.partition("=") for text in texts]
    rows = [
        (name.strip(), Path(folder)) if sign else (Path(name).resolve().name, Path(name))
        for name, sign, folder in pairs
    ]
    found = dict(rows)
    if len(found) < len(rows) or not all(found) or ALL in found:
        raise ConfigError(
            f"-pred {' '.join(texts)}: give every model a name of its own, NAME=DIR, and none 'reference'"
        )
    return found


def _scores(args: argparse.Namespace, models: dict[str, Path], cases: set[str]) -> tuple[dict, list[str]]:
    """Case -> model -> its Dice as text, and the worst cases first; both empty without --worst."""
    if args.worst is None:
        return {}, []
    if args.worst < 1:
        raise ConfigError(f"--worst {args.worst}: give the number of cases, 1 or more")
    if not models:
        raise ConfigError("--worst needs scores: give -pred with a summary.json in it")
    dice = {name: mean_dice(args.summary or folder) for name, folder in models.items()}
    for name, known in dice.items():
        if missing := sorted(case for case in cases if not known.get(case, float("nan")) >= 0):
            raise ConfigError(f"model '{name}': no score of {', '.join(missing[:5])}; evaluate these predictions")
    mean = {case: sum(known[case] for known in dice.values()) / len(dice) for case in cases}
    order = sorted(cases, key=lambda case: (mean[case], case))[: args.worst]
    return {case: {name: f"Dice {known[case]:.3f}" for name, known in dice.items()} for case in order}, order


class _Slices:
    """Pictures of slices."""

    def __init__(self, args, models, names, ending, window):
        from nnunet_xlstm.figures.model_files import find_model_files

        if args.style == "errors" and args.ref is None:
            raise ConfigError("--style errors compares predictions with their reference; give -ref")
        focus = args.focus or ("errors" if args.style == "errors" else "structure")
        self.options = {"names": names, "ct_window": window, "style": args.style, "focus": focus}
        self.plane = args.plane
        files = find_model_files(args.i, args.ref, models, ending, args.channel)
        self.cases = {row.case: row for row in files}

    def draw(self, path: Path, case: str, notes: dict[str, str]) -> None:
        from nnunet_xlstm.figures.side_by_side import draw_models

        draw_models(path, self.cases[case].load(notes), **self.options)

    def sheets(self, out: Path, cases: list[str], notes: dict) -> list[Path]:
        from nnunet_xlstm.figures.side_by_side import draw_models_sheets

        loaders = [lambda case=case: self.cases[case].load(notes.get(case, {})) for case in cases]
        return draw_models_sheets(out, loaders, plane=self.plane, **self.options)


class _Meshes:
    """Pictures of surfaces."""

    def __init__(self, args, models, names):
        from nnunet_xlstm.evaluation.cases import find_cases
        from nnunet_xlstm.figures.model_files import check_same_cases
        from nnunet_xlstm.meshes.run import Settings

        if not models and args.ref is None:
            raise ConfigError("--mesh: give label maps with -ref, -pred or both")
        self.settings, self.names = Settings(), names
        predicted = {name: find_cases(folder) for name, folder in models.items()}
        if predicted:
            check_same_cases({name: list(found) for name, found in predicted.items()})
        reference = {} if args.ref is None else find_cases(args.ref)
        cases = next(iter(predicted.values()), reference)
        if args.ref is not None and (missing := sorted(set(cases) - set(reference))):
            raise DatasetError(f"no reference of {', '.join(missing[:5])}; give the folder that belongs to the others")
        columns = ({ALL: reference} if args.ref is not None else {}) | predicted
        self.cases = {case: {name: found[case] for name, found in columns.items()} for case in cases}

    def draw(self, path: Path, case: str, notes: dict[str, str]) -> None:
        from nnunet_xlstm.meshes.run import read_mesh
        from nnunet_xlstm.meshes.side_by_side import draw_meshes

        found = {name: read_mesh(file, self.settings) for name, file in self.cases[case].items()}
        titles = {name: "\n".join(filter(None, [name, notes.get(name)])) for name in found}
        labels = sorted({label for _, present in found.values() for label in present})
        meshes = {titles[name]: mesh for name, (mesh, _) in found.items()}
        draw_meshes(path, meshes, labels, names=self.names, title=case)

    def sheets(self, out: Path, cases: list[str], notes: dict) -> list[Path]:
        return []
