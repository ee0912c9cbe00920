"""One prediction of a pool's network: read, restricted, counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.images import read_label_map
from nnunet_xlstm.pools.manifest import PoolManifest
from nnunet_xlstm.pools.mapping import SourceMapping
from nnunet_xlstm.pools.restrict.painting import THRESHOLD, layers_of, masks_of, merged_of, paint, resolve_exclusive
from nnunet_xlstm.pools.restrict.probabilities import read_probabilities


@dataclass(frozen=True)
class Count:
    """Of one target in one case; ml is None for 2D images."""

    voxels: int
    components: int
    ml: float | None


@dataclass(frozen=True)
class Prediction:
    """What a prediction says.

    Attributes:
        image: the merged map, whose geometry the results get.
        columns: probabilities (targets, columns): of voxels, or 0 and 1 of the codes of the merged map.
        scatter: values (columns) -> array (z, y, x).
        before: every target as the network has it.
    """

    image: sitk.Image
    columns: np.ndarray
    scatter: Callable[[np.ndarray], np.ndarray]
    before: Mapping[str, Count]


@dataclass(frozen=True)
class Result:
    """A label map, with all targets also a mask each; and every target as it is then."""

    label: np.ndarray
    masks: Mapping[str, np.ndarray]
    after: Mapping[str, Count]


def read_prediction(path: Path, probabilities: Path | None, pool: PoolManifest, allowed: Collection[str]) -> Prediction:
    """Read a prediction, from its probabilities or else from its merged map alone.

    Raises:
        ValueError: a file is damaged, or they do not belong together.
    """
    image = read_label_map(path)
    codes = sitk.GetArrayFromImage(image)
    codes = codes.astype(np.int64) if codes.dtype == np.uint64 else codes  # which numpy counts
    present = _codes(path, codes, pool)
    if probabilities is None:
        return _from_codes(image, codes, present, pool)
    return _from_probabilities(image, probabilities, pool, allowed)


def restrict_case(
    pool: PoolManifest, allowed: Collection[str], prediction: Prediction, source: SourceMapping | None
) -> Result:
    """Return the ids of a source, or all targets where there is none.

    Args:
        pool: of the network.
        allowed: targets that may be there.
        prediction: of one case.
        source: whose ids are wanted; None for all targets.
    """
    active, p = resolve_exclusive(prediction.columns, pool.names, allowed, pool.mutually_exclusive)
    if source is None:
        label = prediction.scatter(merged_of(pool, active)).astype(np.min_scalar_type(len(pool.names)))
        rows = masks_of(pool, active, allowed)
        masks = {name: prediction.scatter(row) for name, row in zip(pool.names, rows, strict=True)}
        return Result(label, masks, {name: count(mask, prediction.image) for name, mask in masks.items()})
    ids = prediction.scatter(paint(active, p, layers_of(pool, source, allowed)))
    label = ids.astype(np.min_scalar_type(max(source.labels.values())))
    after = {}
    for name in pool.names:
        own = source.targets.get(name, ()) if name in allowed else ()
        after[name] = count(np.isin(label, own) if own else np.zeros(label.shape, bool), prediction.image)
    return Result(label, {}, after)


def count(mask: np.ndarray, image: sitk.Image) -> Count:
    """Components touch by face, edge or corner."""
    voxels = int(np.count_nonzero(mask))
    ml = None if mask.ndim == 2 else voxels * float(np.prod(image.GetSpacing())) / 1000
    if not voxels:
        return Count(0, 0, ml)
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    return Count(voxels, int(ndimage.label(mask[box], np.ones([3] * mask.ndim))[1]), ml)


def _codes(path: Path, codes: np.ndarray, pool: PoolManifest) -> np.ndarray:
    """Codes in a merged map.

    Raises:
        ValueError: a value that is no code.
    """
    known = np.array([0, *pool.codes])
    lowest, highest = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
    if lowest >= 0 and highest <= known.max():
        present = np.flatnonzero(np.bincount(codes.ravel(), minlength=1))
    else:
        present = np.unique(codes)
    if unknown := sorted(set(present.tolist()) - set(known.tolist())):
        raise DatasetError(
            f"{path}: holds the value {unknown[0]}, which is no code of the pool (0 to {known.max()}): the map and "
            "dataset.json are not of one prediction; predict again"
        )
    return present


def _from_codes(image: sitk.Image, codes: np.ndarray, present: np.ndarray, pool: PoolManifest) -> Prediction:
    columns = np.array(
        [[name in pool.codes.get(code, ()) for code in present.tolist()] for name in pool.names], np.float32
    )

    def scatter(values: np.ndarray) -> np.ndarray:
        table = np.zeros(int(present.max(initial=0)) + 1, values.dtype)
        table[present] = values
        return table[codes]

    before = {name: count(scatter(row > THRESHOLD), image) for name, row in zip(pool.names, columns, strict=True)}
    return Prediction(image, columns, scatter, before)


def _from_probabilities(image: sitk.Image, path: Path, pool: PoolManifest, allowed: Collection[str]) -> Prediction:
    """Read the file twice, one output at a time: first where any target is, then what all of them are there."""
    shape = image.GetSize()[::-1]
    anywhere, before = np.zeros(shape, bool), {}
    for name, values in zip(pool.names, read_probabilities(path, len(pool.names), shape), strict=True):
        mask = values > THRESHOLD
        before[name] = count(mask, image)
        if name in allowed:
            anywhere |= mask
    where = np.flatnonzero(anywhere)
    columns = np.zeros((len(pool.names), len(where)), np.float32)
    for row, values in enumerate(read_probabilities(path, len(pool.names), shape)):
        if pool.names[row] in allowed:
            columns[row] = values.ravel()[where]

    def scatter(values: np.ndarray) -> np.ndarray:
        result = np.zeros(anywhere.size, values.dtype)
        result[where] = values
        return result.reshape(shape)

    return Prediction(image, columns, scatter, before)


def add_up(counts: Sequence[Count]) -> dict[str, float | int | None]:
    """Sum over cases, and count in how many there was any."""
    known = [c.ml for c in counts if c.ml is not None]
    return {
        "cases": sum(c.voxels > 0 for c in counts),
        "voxels": sum(c.voxels for c in counts),
        "components": sum(c.components for c in counts),
        "ml": sum(known) if known else None,
    }
