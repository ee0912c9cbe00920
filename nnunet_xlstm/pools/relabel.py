"""The label map of one case in a pool: native ids to codes in one look-up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.images import read_label_map
from nnunet_xlstm.imaging.label_look_up import look_up
from nnunet_xlstm.pools.manifest import PoolManifest
from nnunet_xlstm.pools.mapping import SourceMapping


@dataclass(frozen=True)
class Relabel:
    """How one case's label map is made.

    Attributes:
        path: of the native label map.
        not_annotated: targets that nobody looked for in this case.
    """

    path: str
    source: SourceMapping
    pool: PoolManifest
    not_annotated: frozenset[str] = frozenset()

    @classmethod
    def of(cls, pool: PoolManifest, source: str, case: str, path: str) -> Relabel:
        """Plan the label map of a case of a source."""
        mapping = pool.sources[source]
        missing = frozenset(target for target, cases in mapping.not_annotated.items() if case in cases)
        return cls(path, mapping, pool, missing)

    def fingerprint(self) -> str:
        """Name the job in later runs."""
        codes = tuple(sorted(self.pool.table(self.source).items()))
        targets = sorted(self.source.targets.items())  # a name alone changes what is annotated, and no code
        return repr((self.path, codes, targets, sorted(self.not_annotated), sorted(self.source.optional)))

    def make(self) -> tuple[sitk.Image, tuple[str, ...]]:
        """Return the map of codes, and the targets that are annotated in it.

        Raises:
            DatasetError: the file cannot be read, or holds a value that is no label.
        """
        image = read_label_map(Path(self.path))
        array = sitk.GetArrayViewFromImage(image)
        absent = self._absent(array)
        try:
            result = sitk.GetImageFromArray(look_up(array, self.pool.table(self.source, absent)))
        except DatasetError as error:
            raise DatasetError(
                f"{self.path} {error}; its labels are {dict(self.source.labels)}: correct the file or its dataset.json"
            ) from error
        result.CopyInformation(image)
        return result, tuple(target for target in self.source.targets if target not in absent)

    def _absent(self, array: np.ndarray) -> frozenset[str]:
        """Targets that are not annotated: by POOL.json, or as an optional label is nowhere."""
        missing = {i for i in self.source.optional if not (array == i).any()}
        return self.not_annotated | {t for t, ids in self.source.targets.items() if missing & set(ids)}
