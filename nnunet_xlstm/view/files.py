"""Which files belong to a case: image, reference, and the prediction of each model."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.figures.side_by_side import ModelsCase
from nnunet_xlstm.imaging.grid import check_same_grid
from nnunet_xlstm.imaging.images import read_image, read_label_map
from nnunet_xlstm.io.read import visible_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        case: its name.
        image: of the channel that is shown.
        reference: label map, or None.
        predictions: model -> label map.
    """

    case: str
    image: Path
    reference: Path | None
    predictions: Mapping[str, Path]

    def load(self, notes: Mapping[str, str] | None = None) -> ModelsCase:
        """Read all; `notes`: model -> what is said above its picture.

        Raises:
            DatasetError: a file cannot be read, or a label map is not on the image's grid; names the case.
        """
        try:
            image = read_image(self.image)
            reference = None if self.reference is None else read_label_map(self.reference)
            found = {model: read_label_map(path) for model, path in self.predictions.items()}
            for what, label_map in (("reference", reference), *found.items()):
                if label_map is not None:
                    check_same_grid(image, label_map, ("image", what))
        except DatasetError as error:
            raise DatasetError(f"case '{self.case}': {error}") from error
        return ModelsCase(image, reference, found, self.case, notes or {})


def find_files(
    images: Path, references: Path | None, predictions: Mapping[str, Path], ending: str, channel: int = 0
) -> dict[str, CaseFiles]:
    """Return the files of the cases that all models predict; without models, of all images (with a reference).

    Args:
        images: nnU-Net's layout, `<case>_0000<ending>`.
        references: `<case><ending>`; None for none.
        predictions: model -> folder, likewise.
        ending: of all files.
        channel: of the images.

    Raises:
        DatasetError: a folder does not exist, a prediction has no image or no reference, or a model lacks a case.
    """
    suffix = f"_{channel:04d}{ending}"
    for folder in (images, references, *predictions.values()):
        if folder is not None and not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; give folders of images and of label maps")
    with_image = _names(images, suffix)
    if not with_image:
        raise DatasetError(f"{images}: holds no *{suffix}; give nnU-Net's image folder, and check --channel")
    predicted = {model: _names(folder, ending) for model, folder in predictions.items()}
    check_same_cases(predicted)
    wanted = next(iter(predicted.values()), with_image)
    cases = wanted if references is None else wanted & _names(references, ending)
    for what, missing in (("image", cases - with_image), ("reference", wanted - cases if predictions else set())):
        if missing:
            raise DatasetError(
                f"no {what} of {', '.join(sorted(missing)[:5])}; give the folder that belongs to the others"
            )
    if not cases:
        raise DatasetError(f"no case of {images} has a label map *{ending} in every folder given; check the names")
    if with_image - cases:
        logger.info("%d of %d images have no label map and are not drawn", len(with_image - cases), len(with_image))
    return {
        case: CaseFiles(
            case,
            images / f"{case}{suffix}",
            None if references is None else references / f"{case}{ending}",
            {model: folder / f"{case}{ending}" for model, folder in predictions.items()},
        )
        for case in sorted(cases)
    }


def _names(folder: Path, ending: str) -> set[str]:
    return {path.name.removesuffix(ending) for path in visible_files(folder) if path.name.endswith(ending)}


def check_same_cases(cases: Mapping[str, Collection[str]]) -> None:
    """Check that all models have the same cases.

    Args:
        cases: model -> its cases.

    Raises:
        DatasetError: a model lacks a case of another.
    """
    everything = set().union(*cases.values())
    for model, own in cases.items():
        if missing := sorted(everything - set(own)):
            raise DatasetError(
                f"model '{model}' has no prediction of {', '.join(missing[:5])}, which others have; predict the same "
                "cases"
            )
