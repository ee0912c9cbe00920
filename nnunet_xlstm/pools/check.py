"""What a pool with labels holds before it is built: counts of each target, what is annotated together, conflicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.datasets.items import Item
from nnunet_xlstm.datasets.raw_dataset import nnunet_folder
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.tables import text_table
from nnunet_xlstm.parallel import for_each
from nnunet_xlstm.pools.build import items_of_pool
from nnunet_xlstm.pools.manifest import PoolManifest, plan_manifest
from nnunet_xlstm.pools.relabel import Relabel
from nnunet_xlstm.pools.spec import read_pool


@dataclass(frozen=True)
class TargetCount:
    """One target of the pool.

    Attributes:
        sources: source -> cases in which it is annotated.
        present: cases in which it has voxels.
        median_ml: of those.
    """

    name: str
    sources: dict[str, int]
    present: int
    median_ml: float | None

    @property
    def cases(self) -> int:
        """Cases of all sources in which it is annotated."""
        return sum(self.sources.values())


@dataclass(frozen=True)
class PoolReport:
    """What `pool check` prints; `together` counts cases in which both of two targets are annotated."""

    targets: tuple[TargetCount, ...]
    together: dict[tuple[str, str], int]
    conflicts: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the report as lines of text: counts per target, pairs annotated together, and conflicts."""
        rows = [("target", "annotated", "present", "median ml")]
        for t in self.targets:
            rows.append((t.name, str(t.cases), str(t.present), "-" if t.median_ml is None else f"{t.median_ml:.3g}"))
        sources = ["by source", *(", ".join(f"{name} {n}" for name, n in t.sources.items()) for t in self.targets)]
        lines = [f"{line}  {text}".rstrip() for line, text in zip(text_table(rows), sources, strict=True)]
        pairs = [f"{a} + {b}: {count}" for (a, b), count in self.together.items() if count]
        never = sum(not count for count in self.together.values())
        lines += ["", f"annotated in the same cases ({never} pairs of targets never are):"]
        lines += [f"  {pair}" for pair in pairs] or ["  no two targets"]
        lines += ["", "conflicts:" if self.conflicts else "no conflicts"]
        return [*lines, *(f"  {conflict}" for conflict in self.conflicts)]


def check_pool(path: Path, processes: int = 1) -> PoolReport:
    """Read every label map of the pool once.

    Raises:
        ValueError, OSError: as in build_pool; or a pool without labels.
    """
    pool = read_pool(path, nnunet_folder("nnUNet_raw"))
    if not pool.targets:
        raise DatasetError(f"{path}: a pool of images without labels; there is nothing to check but what `build` says")
    plan = plan_manifest(pool)
    items, _ = items_of_pool(pool, plan)
    relabels = [item.relabel for item in items if isinstance(item.relabel, Relabel)]  # all of them
    found = [volume for _, volume in for_each(volumes, relabels, processes, desc="label maps", unit="label map")]
    return report(plan, items, found)


def report(plan: PoolManifest, items: Sequence[Item], found: Sequence[dict[str, float]]) -> PoolReport:
    """Count from the annotated targets of each item, each with its volume in ml."""
    targets = []
    for target in plan.names:
        volumes = [volume[target] for volume in found if volume.get(target)]
        annotated = Counter(item.source for item, volume in zip(items, found, strict=True) if target in volume)
        sources = {name: annotated[name] for name, labels in plan.sources.items() if target in labels.targets}
        median = float(np.median(volumes)) if volumes else None
        targets.append(TargetCount(target, sources, len(volumes), median))
    together = {pair: sum(set(pair) <= volume.keys() for volume in found) for pair in combinations(plan.names, 2)}
    empty = [f"{t.name}: annotated in {t.cases} cases and present in none" for t in targets if not t.present]
    return PoolReport(tuple(targets), together, (*_conflicts(plan), *empty))


def volumes(job: Relabel) -> dict[str, float]:
    """Annotated target -> ml."""
    image, valid = job.make()
    voxels = np.bincount(sitk.GetArrayViewFromImage(image).ravel(), minlength=1)
    ml = float(np.prod(image.GetSpacing())) / 1000
    codes = job.pool.codes
    return {
        t: ml * float(sum(voxels[code] for code in range(1, len(voxels)) if t in codes.get(code, ()))) for t in valid
    }


def _conflicts(plan: PoolManifest) -> Iterator[str]:
    """Where sources, chains and groups say different things of one target."""
    ids = {name: {t: set(i) for t, i in labels.targets.items()} for name, labels in plan.sources.items()}
    for a, b in combinations(plan.names, 2):
        both = {name: _relation(own[a], own[b]) for name, own in ids.items() if a in own and b in own}
        if len(set(both.values())) > 1:
            said = "; ".join(f"{a} {relation} {b} in {name}" for name, relation in both.items())
            yield f"definitions differ: {said}. Map the labels alike, or use `merge: none`"
    for name, own in ids.items():
        for group in plan.mutually_exclusive:
            for a, b in combinations([t for t in group if t in own], 2):
                if shared := own[a] & own[b]:
                    yield f"{name}: {a} and {b} are exclusive but share the label {min(shared)}"
        for first, *rest in plan.hierarchy:
            for later in rest:
                if first in own and later in own and not own[later] <= own[first]:
                    yield f"{name}: {first} lacks the labels of {later}, which the pool paints as a part of it"
        for target in plan.targets:
            if target.name not in own:
                continue
            modality, seen = plan.sources[name].modality, plan.sources[name].field_of_view
            if modality not in target.modality:
                yield f"{name}: labels {target.name} on {modality}, the pool expects it on {', '.join(target.modality)}"
            if not set(target.region) & set(seen):
                yield f"{name}: labels {target.name} ({', '.join(target.region)}) but shows {', '.join(seen)}"


def _relation(a: set[int], b: set[int]) -> str:
    for holds, word in ((a == b, "is"), (a < b, "is part of"), (a > b, "includes"), (a & b, "overlaps")):
        if holds:
            return word
    return "is apart from"
