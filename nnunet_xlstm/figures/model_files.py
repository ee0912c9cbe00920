"""Which files of several models belong to a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.figures.quicklook import find_files
from nnunet_xlstm.figures.side_by_side import ModelsCase
from nnunet_xlstm.imaging.grid import check_same_grid
from nnunet_xlstm.imaging.images import read_image, read_label_map


@dataclass(frozen=True)
class ModelFiles:
    """The files of one case; predictions: model -> label map."""

    case: str
    image: Path
    reference: Path | None
    predictions: Mapping[str, Path]

    def load(self, notes: Mapping[str, str] | None = None) -> ModelsCase:
        """Read all.

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


def find_model_files(
    images: Path, references: Path | None, predictions: Mapping[str, Path], ending: str, channel: int = 0
) -> list[ModelFiles]:
    """The cases that all models predict.

    Args:
        predictions: model -> folder. The others as `find_files`.

    Raises:
        DatasetError: a model lacks a case of another, or as `find_files`.
    """
    found = {
        model: {row.case: row for row in find_files(images, references, folder, ending, channel)}
        for model, folder in predictions.items()
    }
    check_same_cases({model: list(rows) for model, rows in found.items()})
    first = next(iter(found.values()))
    return [
        ModelFiles(case, row.image, row.reference, {model: rows[case].prediction for model, rows in found.items()})
        for case, row in first.items()
    ]


def check_same_cases(cases: Mapping[str, Sequence[str]]) -> None:
    """Raise DatasetError where a model lacks a case of another."""
    everything = set().union(*cases.values())
    for model, own in cases.items():
        if missing := sorted(everything - set(own)):
            raise DatasetError(
                f"model '{model}' has no prediction of {', '.join(missing[:5])}, which others have; predict the same "
                "cases"
            )
