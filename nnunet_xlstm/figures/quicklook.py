"""Pictures of a folder: which files belong to a case, one picture each, and a sheet of the worst."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.figures.overlay import Case, draw_overlay
from nnunet_xlstm.imaging.grid import check_same_grid
from nnunet_xlstm.imaging.images import read_image, read_label_map
from nnunet_xlstm.io.read import visible_files

logger = logging.getLogger(__name__)

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
            DatasetError: a file cannot be read, or a label map is not on the image's grid; names the case.
        """
        try:
            image = read_image(self.image)
            maps = [None if path is None else read_label_map(path) for path in (self.reference, self.prediction)]
            for label_map, what in zip(maps, ("reference", "prediction"), strict=True):
                if label_map is not None:
                    check_same_grid(image, label_map, ("image", what))
        except DatasetError as error:
            raise DatasetError(f"case '{self.case}': {error}") from error
        return Case(image, *maps, title)


def find_files(
    images: Path, references: Path | None, predictions: Path | None, ending: str, channel: int = 0
) -> list[Files]:
    """The predicted cases, or without predictions all that have an image of the channel (and a reference).

    Args:
        images: nnU-Net's layout, `<case>_0000<ending>`; references, predictions: `<case><ending>`.

    Raises:
        DatasetError: a folder does not exist, or a prediction has no image or no reference.
    """
    suffix = f"_{channel:04d}{ending}"
    for folder in (images, references, predictions):
        if folder is not None and not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; give folders of images and of label maps")
    with_image = _names(images, suffix)
    if not with_image:
        raise DatasetError(f"{images}: holds no *{suffix}; give nnU-Net's image folder, and check --channel")
    predicted = with_image if predictions is None else _names(predictions, ending)
    cases = predicted if references is None else predicted & _names(references, ending)
    for what, missing in (("image", cases - with_image), ("reference", predicted - cases if predictions else set())):
        if missing:
            raise DatasetError(
                f"no {what} of {', '.join(sorted(missing)[:5])}; give the folder that belongs to the others"
            )
    if not cases:
        raise DatasetError(f"no case of {images} has a label map *{ending} in every folder given; check the names")
    if with_image - cases:
        logger.info("%d of %d images have no label map and are not drawn", len(with_image - cases), len(with_image))
    found = []
    for case in sorted(cases):
        maps = (None if folder is None else folder / f"{case}{ending}" for folder in (references, predictions))
        found.append(Files(case, images / f"{case}{suffix}", *maps))
    return found


def _names(folder: Path, ending: str) -> set[str]:
    return {path.name.removesuffix(ending) for path in visible_files(folder) if path.name.endswith(ending)}


def draw_case(row: Files, out: Path, *, title: str = "", **options) -> Path:
    """Write the picture of a case, named after it, to a folder; `options` as `draw_overlay`.

    Raises:
        DatasetError: names the case. WriteError: the picture cannot be written.
    """
    case = row.load(title or row.case)
    path = out / f"{row.case}.png"
    return draw_overlay(path, case.image, case.reference, case.prediction, title=case.title, **options)


def worst(files: Sequence[Files], scores: Mapping[str, float], k: int) -> list[Files]:
    """The k cases with the lowest score, from the worst on.

    Raises:
        DatasetError: a case has no score.
    """
    missing = sorted(row.case for row in files if math.isnan(scores.get(row.case, math.nan)))
    if missing:
        raise DatasetError(
            f"no score of {', '.join(missing[:5])} among {len(scores)} cases; evaluate these predictions"
        )
    return sorted(files, key=lambda row: (scores[row.case], row.case))[:k]


def loaders(files: Sequence[Files], titles: Mapping[str, str]) -> list[Callable[[], Case]]:
    """For `draw_sheet`: each reads its case when called."""
    return [lambda row=row: row.load(titles.get(row.case, row.case)) for row in files]
