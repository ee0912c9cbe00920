"""Values of a label map exchanged by a table, in one pass over the voxels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nnunet_xlstm.errors import DatasetError

MAX_TABLE = 1 << 20  # ids in a table of all ids up to the highest; an id of 2^31 would cost 8 GB
UNKNOWN = -1


def look_up(label: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Exchange native ids for codes, in the smallest unsigned type; background stays 0.

    Args:
        label: map of ids.
        table: id -> code, 0 to 65535.

    Raises:
        DatasetError: an id that the table does not hold, with the number of its voxels.
    """
    ids = np.array(sorted({0, *table}))
    codes = np.array([table.get(i, 0) for i in ids.tolist()])
    for wrong in (int(label.min(initial=0)), int(label.max(initial=0))):
        if not 0 <= wrong <= ids[-1]:
            raise DatasetError(_no_label(label, wrong))
    kind = np.uint8 if codes.max() <= np.iinfo(np.uint8).max else np.uint16
    if ids[-1] > MAX_TABLE:
        return _look_up_sparse(label, ids, codes.astype(kind))
    lut = np.full(ids[-1] + 1, UNKNOWN, np.int32)
    lut[ids] = codes
    if (lut == UNKNOWN).any():
        present = sum(np.bincount(np.ravel(part).astype(np.intp, copy=False), minlength=len(lut)) for part in label)
        if wrong := np.flatnonzero((present > 0) & (lut == UNKNOWN)).tolist():
            raise DatasetError(_no_label(label, wrong[0]))
    lut = lut.clip(0).astype(kind)
    if label.dtype == kind == np.uint8:  # the usual case; twice as fast as take, four times as indexing
        translated = label.tobytes().translate(lut.tobytes().ljust(256, b"\0"))
        return np.frombuffer(translated, np.uint8).reshape(label.shape)
    return lut.take(label.astype(np.intp, copy=False))  # numpy 1 takes no uint64


def _look_up_sparse(label: np.ndarray, ids: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Look up as `look_up`, for ids so high that a table up to the highest would be large."""
    result = np.empty(label.shape, codes.dtype)
    for i, part in enumerate(label):
        place = np.searchsorted(ids, part)
        if (wrong := ids[place] != part).any():
            raise DatasetError(_no_label(label, int(np.asarray(part)[wrong].flat[0])))
        result[i] = codes[place]
    return result


def _no_label(label: np.ndarray, value: int) -> str:
    return f"holds the value {value} in {int((label == value).sum())} voxels, which is no label"
