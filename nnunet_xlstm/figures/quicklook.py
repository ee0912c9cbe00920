"""Pictures of a folder: which files belong to a case, one picture each, and a sheet of the worst."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from nnunet_xlstm.figures.overlay import Case, draw_overlay

CT_WINDOW = (50.0, 700.0)  # centre and width in HU: blood with contrast, muscle and fat all differ


@dataclass(frozen=True)
class Files:
    """The files of one case; a label map may be None."""

    case: str
    image: Path
    reference: Path | None
    prediction: Path | None

    def load(self, title: str = "") -> Case:
        """Read all.

        Raises:
            ValueError: a file cannot be read.
        """
        return Case(*(None if p is None else _read(p) for p in (self.image, self.reference, self.prediction)), title)


def find_files(
    images: Path, references: Path | None, predictions: Path | None, ending: str, channel: int = 0
) -> list[Files]:
    """The cases that have an image of the channel and a label map in every folder that is given.

    Args:
        images: nnU-Net's layout, `<case>_0000<ending>`; references, predictions: `<case><ending>`.

    Raises:
        ValueError: a folder does not exist, or no case is in all of them.
    """
    suffix = f"_{channel:04d}{ending}"
    for folder in (images, references, predictions):
        if folder is not None and not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; give folders of images and of label maps")
    cases = {p.name.removesuffix(suffix) for p in images.iterdir() if p.name.endswith(suffix)}
    if not cases:
        raise ValueError(f"{images}: holds no *{suffix}; give nnU-Net's image folder, and check --channel")
    for folder in (references, predictions):
        if folder is not None:
            cases &= {p.name.removesuffix(ending) for p in folder.iterdir() if p.name.endswith(ending)}
    if not cases:
        raise ValueError(f"no case of {images} has a label map *{ending} in every folder given; check the names")
    found = []
    for case in sorted(cases):
        maps = (None if folder is None else folder / f"{case}{ending}" for folder in (references, predictions))
        found.append(Files(case, images / f"{case}{suffix}", *maps))
    return found


def draw_cases(
    files: Sequence[Files],
    out: Path,
    *,
    names: Mapping[int, str] | None = None,
    ct_window: tuple[float, float] | None = None,
    style: str = "outline",
    focus: str = "structure",
    titles: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """One PNG per case in `out`, named after it; yields each path when it is written. Arguments as `draw_overlay`."""
    for row in files:
        case = row.load((titles or {}).get(row.case, row.case))
        yield draw_overlay(
            out / f"{row.case}.png",
            case.image,
            case.reference,
            case.prediction,
            names=names,
            title=case.title,
            ct_window=ct_window,
            style=style,
            focus=focus,
        )


def worst(files: Sequence[Files], scores: Mapping[str, float], k: int) -> list[Files]:
    """The k cases with the lowest score, from the worst on; cases without a score come last."""
    rank = {row.case: scores.get(row.case, math.nan) for row in files}
    return sorted(files, key=lambda row: (math.isnan(rank[row.case]), rank[row.case], row.case))[:k]


def loaders(files: Sequence[Files], titles: Mapping[str, str]) -> list[Callable[[], Case]]:
    """For `draw_sheet`: each reads its case when called."""
    return [lambda row=row: row.load(titles.get(row.case, row.case)) for row in files]


def read_dataset(path: Path | None) -> tuple[dict[int, str], str, list[str]]:
    """Names of single labels, file ending and channel names of a dataset.json; defaults without one.

    Raises:
        ValueError: not readable.
    """
    if path is None:
        return {}, ".nii.gz", []
    path = path / "dataset.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}); give the dataset.json of the data set") from error
    names = {value: name for name, value in content.get("labels", {}).items() if isinstance(value, int) and value}
    channels = content.get("channel_names") or content.get("modality") or {}
    return names, content.get("file_ending", ".nii.gz"), [str(name) for name in channels.values()]


def _read(path: Path) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{path}: cannot be read as an image ({reason}); write the file again") from error
