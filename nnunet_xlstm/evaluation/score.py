"""All metrics of one case: overlap and volumes from one pass over the voxels, surfaces class by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.ndimage import find_objects

from nnunet_xlstm.choices import BOTH_EMPTY, HD95, NSD_TOLERANCE_MM, ONE_EMPTY
from nnunet_xlstm.datasets.dataset_json import Labels
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.evaluation.summary import METRICS
from nnunet_xlstm.evaluation.surface import surface_distances

DISTANCES = ("HD", "HD95", "ASSD")
VOLUMES = ("VolumeRef", "VolumePred", "SVD", "AVD")
PERFECT = {"Dice": 1.0, "IoU": 1.0, "NSD": 1.0, "RVE": 0.0} | dict.fromkeys(DISTANCES, 0.0)
SCORES_OF_BOTH_EMPTY = {"nan": None, "perfect": PERFECT}
MAX_ID = 65535


@dataclass(frozen=True)
class Settings:
    """Choices that the metrics leave open, written into every result.

    Attributes:
        nsd_tolerance: mm.
        hd95: "max" (the larger of the two directed percentiles) or "pooled".
        both_empty: "nan" (left out of all means, as in nnU-Net) or "perfect" (Dice 1, distances 0).
        one_empty: distances where one mask is empty (Dice is 0): "diagonal" of the image, "inf" or "nan".
    """

    nsd_tolerance: float = NSD_TOLERANCE_MM
    hd95: str = HD95[0]
    both_empty: str = BOTH_EMPTY[0]
    one_empty: str = ONE_EMPTY[0]

    def __post_init__(self) -> None:
        for name, valid in (("hd95", HD95), ("both_empty", BOTH_EMPTY), ("one_empty", ONE_EMPTY)):
            if getattr(self, name) not in valid:
                raise DatasetError(f"{name} '{getattr(self, name)}' is unknown; use {' or '.join(valid)}")
        if not (math.isfinite(self.nsd_tolerance) and self.nsd_tolerance >= 0):
            raise DatasetError(f"nsd_tolerance {self.nsd_tolerance}: give a distance in mm, 0 or more")

    def definition(self) -> dict[str, object]:
        """Return the settings and what they mean, for summary.json."""
        return asdict(self) | {
            "surface": "centres of border voxels (a face neighbour outside the mask or the array), in mm",
            "HD95": {
                "max": "larger of the two directed 95th percentiles, linear interpolation (MONAI)",
                "pooled": "95th percentile of both directed sets together (MedPy)",
            }[self.hd95],
            "ASSD": "mean of both directed sets together",
            "NSD": f"share of border voxels within {self.nsd_tolerance:g} mm",
            "diagonal": "distance between the centres of opposite corner voxels",
            "mean": "over the cases that have a value",
        }


CaseScores = tuple[dict[str, dict[str, float]], dict[str, dict[str, str]]]


def score_case(
    reference: np.ndarray,
    prediction: np.ndarray,
    classes: Labels,
    spacing: Sequence[float],
    settings: Settings = Settings(),  # noqa: B008 (frozen)
) -> CaseScores:
    """Score one label map against its reference.

    Args:
        reference: label ids, 2D or 3D; surfaces of a single slice are those of a 2D image.
        prediction: label ids, of the same shape.
        classes: of the data set.
        spacing: mm per voxel along each axis of the arrays.
        settings: of the metrics.

    Returns:
        Class key -> metric -> value, and class key -> metric -> why the value is not a finite number.

    Raises:
        DatasetError: shapes differ, or a map holds an id that the data set does not have.
    """
    if reference.shape != prediction.shape:
        raise DatasetError(
            f"the reference has shape {reference.shape}, the prediction {prediction.shape}; they must lie on one grid, "
            "so resample the prediction with nearest neighbours"
        )
    voxel_ml = float(np.prod(spacing)) / 1000 if reference.ndim == 3 else math.nan
    reference, prediction, spacing = _without_flat_axes(reference, prediction, spacing)
    boxes = _boxes(reference, prediction)
    table, ids = _joint_histogram(reference, prediction, boxes)
    _check_ids(ids, table, classes)
    counted = np.array([i != classes.ignore for i in ids])
    table = table[counted]  # rows are the reference: ignored voxels count nowhere
    diagonal = float(np.linalg.norm((np.array(reference.shape) - 1) * np.asarray(spacing, dtype=float)))
    ignored = reference == classes.ignore if classes.ignore is not None and not counted.all() else None
    metrics: dict[str, dict[str, float]] = {}
    flags: dict[str, dict[str, str]] = {}
    for key, members in classes.scored.items():
        in_ref, in_pred = np.isin(ids[counted], members), np.isin(ids, members)
        tp, fn = int(table[in_ref][:, in_pred].sum()), int(table[in_ref][:, ~in_pred].sum())
        fp, tn = int(table[~in_ref][:, in_pred].sum()), int(table[~in_ref][:, ~in_pred].sum())
        row = _overlap(tp, fp, fn, tn) | _volumes(tp + fn, tp + fp, voxel_ml)
        if tp + fn and tp + fp:
            box = _union([boxes[i] for i in members if i in boxes])
            in_reference, in_prediction = _mask(reference[box], members), _mask(prediction[box], members)
            if ignored is not None:
                in_reference, in_prediction = in_reference & ~ignored[box], in_prediction & ~ignored[box]
            row |= _distances(in_reference, in_prediction, spacing, settings)
            why: dict[str, str] = {}
        else:
            row, why = _empty(row, tp + fn > 0, tp + fp > 0, diagonal, settings)
        if math.isnan(voxel_ml):
            why = why | dict.fromkeys(VOLUMES, "undefined: a 2D image has no volume")
        metrics[key], flags[key] = {name: row[name] for name in METRICS}, why
    return metrics, flags


def _without_flat_axes(
    reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Take axes of length 1 out: in their direction every voxel would be a border."""
    axes = [axis for axis, n in enumerate(reference.shape) if n > 1] or [0]
    view = tuple(slice(None) if axis in axes else 0 for axis in range(reference.ndim))
    return reference[view], prediction[view], [spacing[axis] for axis in axes]


def _joint_histogram(
    reference: np.ndarray, prediction: np.ndarray, boxes: Mapping[int, tuple[slice, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """Count voxels per (id of the reference, id of the prediction); return the table and the ids, 0 first.

    Slice by slice, to need little memory, and without the voxels that are 0 in both, to need little time.
    """
    ids = np.array(sorted({0, *boxes}))
    rank = np.zeros(ids[-1] + 1, dtype=np.intp)
    rank[ids] = np.arange(len(ids))
    n = len(ids)
    table = np.zeros(n * n, dtype=np.int64)
    box = _union(list(boxes.values())) if boxes else slice(0)
    for r, p in zip(reference[box], prediction[box], strict=True):
        found = (r != 0) | (p != 0)
        table += np.bincount(rank[r[found]] * n + rank[p[found]], minlength=n * n)
    table[0] = reference.size - table.sum()
    return table.reshape(n, n), ids


def _check_ids(ids: np.ndarray, table: np.ndarray, classes: Labels) -> None:
    allowed = sorted(classes.known)
    for what, counts in (("reference", table.sum(1)), ("prediction", table.sum(0))):
        known = classes.known - ({classes.ignore} if what == "prediction" else set())
        unknown = [int(i) for i, n in zip(ids, counts, strict=True) if n and int(i) not in known]
        if unknown:
            raise DatasetError(
                f"the {what} holds the label {unknown[0]}, which dataset.json does not have for it (it has {allowed}); "
                "correct the label map, or give the dataset.json that belongs to it"
            )


def _boxes(reference: np.ndarray, prediction: np.ndarray) -> dict[int, tuple[slice, ...]]:
    """Return label id -> the smallest box that holds it in either map."""
    boxes: dict[int, list[tuple[slice, ...]]] = {}
    for what, labels in (("reference", reference), ("prediction", prediction)):
        low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
        if low < 0 or high > MAX_ID:
            raise DatasetError(f"the {what} has label ids from {low} to {high}; they must be 0 to {MAX_ID}")
        for i, box in enumerate(find_objects(labels), 1):
            if box is not None:
                boxes.setdefault(i, []).append(box)
    return {i: _union(found) for i, found in boxes.items()}


def _union(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _overlap(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    total = tp + fp + fn
    return {
        "Dice": 2 * tp / (total + tp) if total else math.nan,
        "IoU": tp / total if total else math.nan,
        "FP": fp,
        "TP": tp,
        "FN": fn,
        "TN": tn,
        "n_pred": tp + fp,
        "n_ref": tp + fn,
    }


def _volumes(n_ref: int, n_pred: int, voxel_ml: float) -> dict[str, float]:
    reference, prediction = n_ref * voxel_ml, n_pred * voxel_ml
    return {
        "VolumeRef": reference,
        "VolumePred": prediction,
        "SVD": prediction - reference,
        "AVD": abs(prediction - reference),
        "RVE": abs(n_pred - n_ref) / n_ref if n_ref else math.nan,
    }


def _mask(labels: np.ndarray, members: Sequence[int]) -> np.ndarray:
    return np.isin(labels, members) if len(members) > 1 else labels == members[0]


def _distances(
    reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], settings: Settings
) -> dict[str, float]:
    found = surface_distances(reference, prediction, spacing)
    return {
        "HD": found.hd(),
        "HD95": found.hd95(settings.hd95 == "pooled"),
        "ASSD": found.assd(),
        "NSD": found.nsd(settings.nsd_tolerance),
    }


def _empty(
    row: dict[str, float], has_ref: bool, has_pred: bool, diagonal: float, settings: Settings
) -> tuple[dict[str, float], dict[str, str]]:
    """Return values and their flags where a mask is empty."""
    if not has_ref and not has_pred:
        values = SCORES_OF_BOTH_EMPTY[settings.both_empty]
        if values is not None:
            return row | values, dict.fromkeys(values, "both empty: counted as perfect")
        undefined = ("Dice", "IoU", "RVE", "NSD", *DISTANCES)
        return row | dict.fromkeys(undefined, math.nan), dict.fromkeys(undefined, "undefined: both empty")
    which = "reference" if has_pred else "prediction"
    value = {"diagonal": diagonal, "inf": math.inf, "nan": math.nan}[settings.one_empty]
    text = {"diagonal": "image diagonal", "inf": "infinite", "nan": "undefined"}[settings.one_empty]
    flags = dict.fromkeys(DISTANCES, f"{text}: the {which} is empty")
    if not has_ref:
        flags["RVE"] = "undefined: the reference is empty"
    return row | dict.fromkeys(DISTANCES, value) | {"NSD": 0.0}, flags
