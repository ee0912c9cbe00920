"""The results of the demo: Dice, the intensity baseline on the same cases, and pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.demo.inputs import Dataset
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.figures.overlay import CT_WINDOW, draw_overlay
from nnunet_xlstm.imaging.images import read_image, read_label_map
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.phantoms.intensity_baseline import intensity_classifier_dice

MAX_PICTURES = 4
MAX_BASELINE_CASES = 40

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """The scores that nnU-Net's evaluation wrote, and their cases: `part` is "Tr" (validation) or "Ts"."""

    content: dict[str, Any]
    part: str
    predictions: Path

    def dice_by_case(self, ending: str) -> dict[str, float | None]:
        """Return case -> mean Dice over its structures, sorted by name."""
        result = {}
        for row in self.content["metric_per_case"]:
            values = [_finite(metrics["Dice"]) for metrics in row["metrics"].values()]
            known = [value for value in values if value is not None]
            case = Path(row["prediction_file"]).name.removesuffix(ending)
            result[case] = round(float(np.mean(known)), 4) if known else None
        return dict(sorted(result.items()))


def quality(dataset: Dataset, scores: Scores, baseline: dict[str, Any] | None) -> dict[str, Any]:
    """Return the part of the summary about quality; a Dice is None where no scored case holds the structure."""
    names = dataset.classes.names
    if baseline is not None:
        per_name = {name: _finite(baseline["per_structure"].get(int(key))) for key, name in names.items()}
        baseline = {"mean": _finite(baseline["mean"]), "per_structure": per_name, "rule": baseline["rule"]}
    return {
        "dataset": dataset.folder.name,
        "scored_on": "test cases" if scores.part == "Ts" else "validation cases of fold 0",
        "n_scored": len(scores.content["metric_per_case"]),
        "mean_dice": _finite(scores.content["foreground_mean"]["Dice"]),
        "dice": {name: _finite(scores.content["mean"][key]["Dice"]) for key, name in names.items()},
        "dice_by_case": scores.dice_by_case(dataset.ending),
        "intensity_baseline": baseline,
    }


def intensity_baseline(dataset: Dataset, scores: Scores, preprocessed: Path) -> dict[str, Any] | None:
    """Return the intensity classifier on the same cases; None where labels are regions or partly unknown."""
    if not dataset.has_plain_labels():
        return None
    train = read_json(preprocessed / dataset.folder.name / "splits_final.json")[0]["train"]
    test = list(scores.dice_by_case(dataset.ending))
    try:
        return intensity_classifier_dice(
            _arrays(dataset, train[:MAX_BASELINE_CASES], "Tr"), _arrays(dataset, test[:MAX_BASELINE_CASES], scores.part)
        )
    except DatasetError as error:  # nnU-Net reads some formats that SimpleITK does not
        logger.warning("No intensity baseline: %s", error)
        return None


def _arrays(dataset: Dataset, cases: Sequence[str], part: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    files = dataset.files(part)
    for case in cases:
        image = sitk.GetArrayFromImage(read_image(Path(files[case].images[0]))).astype(np.float32)
        label = sitk.GetArrayFromImage(read_label_map(Path(files[case].label)))
        if image.shape != label.shape:
            raise DatasetError(f"case '{case}': image {image.shape} and label map {label.shape} differ in shape")
        yield image, label


def draw_pictures(dataset: Dataset, scores: Scores, folder: Path) -> list[tuple[str, Path]]:
    """(caption, PNG) of the first scored cases."""
    is_ct = dataset.file.channels()[0].upper() == "CT"
    pictures, files = [], dataset.files(scores.part)
    for case, dice in list(scores.dice_by_case(dataset.ending).items())[:MAX_PICTURES]:
        caption = case if dice is None else f"{case}: mean Dice {dice:.3f}"
        prediction = scores.predictions / f"{case}{dataset.ending}"
        try:
            path = draw_overlay(
                folder / f"{case}.png",
                read_image(Path(files[case].images[0])),
                read_label_map(Path(files[case].label)),
                read_label_map(prediction),
                names=dataset.classes.plain_names(),
                title=caption,
                ct_window=CT_WINDOW if is_ct else None,
            )
        except DatasetError as error:  # as for the baseline
            logger.warning("No picture of %s: %s", case, error)
            continue
        pictures.append((caption, path))
    return pictures


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)
