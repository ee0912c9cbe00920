"""The label map of one case in a pool: native ids to codes in one look-up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.images import read_label_map
from nnunet_xlstm.imaging.label_look_up import look_up
from nnunet_xlstm.pools.codes import Codes
from nnunet_xlstm.pools.label_rules import SourceLabels


@dataclass(frozen=True)
class Relabel:
    """How one case's label map is made.

    Attributes:
        path: of the native label map.
        codes: (id, code) for every id where all targets are annotated.
        not_annotated: targets that nobody looked for in this case.
    """

    path: str
    labels: SourceLabels
    pool: Codes
    codes: tuple[tuple[int, int], ...]
    not_annotated: frozenset[str] = frozenset()

    def stamp(self) -> str:
        """Names the job in later runs."""
        targets = sorted(self.labels.targets.items())  # a name alone changes what is annotated, and no code
        return repr((self.path, self.codes, targets, sorted(self.not_annotated), sorted(self.labels.optional)))

    def make(self) -> tuple[sitk.Image, tuple[str, ...]]:
        """The map of codes, and the targets that are annotated in it.

        Raises:
            DatasetError: the file cannot be read, or holds a value that is no label.
        """
        image = read_label_map(Path(self.path))
        array = sitk.GetArrayViewFromImage(image)
        valid = self._valid(array)
        table = dict(self.codes)
        if len(valid) < len(self.labels.targets):
            kept = {t: self.labels.targets[t] for t in valid}
            table |= self.pool.table(kept, (i for i in table if i != self.labels.ignore))
        try:
            result = sitk.GetImageFromArray(look_up(array, table))
        except DatasetError as error:
            raise DatasetError(
                f"{self.path} {error}; its labels are {dict(self.labels.labels)}: correct the file or its dataset.json"
            ) from error
        result.CopyInformation(image)
        return result, valid

    def _valid(self, array: np.ndarray) -> tuple[str, ...]:
        absent = {i for i in self.labels.optional if not (array == i).any()}
        return tuple(
            t for t, ids in self.labels.targets.items() if t not in self.not_annotated and not absent & set(ids)
        )
