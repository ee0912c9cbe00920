"""From the outputs of a network trained on a pool to label maps: which target is where, and which id that is.

The rule: a target is where its sigmoid is above 0.5; of a group whose targets exclude each other, only the likeliest;
organs are painted first, then vessels, then lesions, and what lies inside of another target after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_xlstm.pools.manifest import PoolManifest
from nnunet_xlstm.pools.mapping import SourceMapping

THRESHOLD = 0.5  # nnU-Net's own for regions


# What a scan can contain ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        source: of the pool, whose ids are written; in universal mode only its modality and field of view count.
        modality, regions: of the scans; None takes those of the source, or leaves them open.
        universal: all targets, each a mask of its own; so it is also where there is no source.
    """

    source: str | None = None
    modality: str | None = None
    regions: tuple[str, ...] | None = None
    universal: bool = False

    @property
    def native(self) -> str | None:
        """The source whose ids are written."""
        return None if self.universal else self.source


@dataclass(frozen=True)
class OmittedTarget:
    """Why a target is not written; `out_of_scope`: the scan cannot contain it, so that a prediction of it is false."""

    why: str
    out_of_scope: bool


def omitted_targets(pool: PoolManifest, request: Request) -> dict[str, OmittedTarget]:
    """Return the targets that are not written.

    The source fills what the request leaves open of the scans, but never speaks against a target that it labels itself.

    Args:
        pool: of the network.
        request: what is known of the scans, and what is wanted.

    Raises:
        DatasetError: no such source.
    """
    known = None if request.source is None else pool.source(request.source)
    result = {}
    for target in pool.targets:
        modality, regions = request.modality, request.regions
        labelled = known is not None and target.name in known.targets
        if known is not None and not labelled:
            modality = modality or known.modality
            regions = known.field_of_view if regions is None else regions
        if modality is not None and modality not in target.modality:
            result[target.name] = OmittedTarget(f"{modality} cannot show it", True)
        elif regions is not None and not set(regions) & set(target.region):
            why = f"lies in {', '.join(target.region)}, not in {', '.join(regions)}"
            result[target.name] = OmittedTarget(why, True)
        elif request.native is not None and not labelled:
            result[target.name] = OmittedTarget(f"{request.source} does not label it", False)
    return result


def out_of_scope_targets(pool: PoolManifest, source: str) -> frozenset[str]:
    """Return the targets that no scan of a source can contain, by its modality and its field of view."""
    return frozenset(name for name, row in omitted_targets(pool, Request(source)).items() if row.out_of_scope)


# Which targets are where ----------------------------------------------------------------------------------------------


def resolve_exclusive(
    probabilities: np.ndarray,
    names: Sequence[str],
    allowed: Collection[str],
    mutually_exclusive: Sequence[Sequence[str]],
) -> tuple[np.ndarray, np.ndarray]:
    """Find targets above the threshold, of each group only the likeliest; the first of the group where they are equal.

    Args:
        probabilities: (targets, voxels).
        names: of the targets, in the order of the rows.
        allowed: the others are nowhere and take part in no group.
        mutually_exclusive: groups of which one target at most may be at a voxel.

    Returns:
        bool (targets, voxels), and the probabilities with 0 for what is left out or lost.
    """
    p = probabilities.astype(np.float32)
    p[[name not in allowed for name in names]] = 0
    active = p > THRESHOLD
    for group in mutually_exclusive:
        rows = [names.index(name) for name in group if name in allowed]
        if len(rows) > 1:
            lost = active[rows].copy()
            best = np.where(lost, p[rows], -1).argmax(0)
            lost[best, np.arange(p.shape[1])] = False
            for row, where in zip(rows, lost, strict=True):
                active[row, where], p[row, where] = False, 0
    return active, p


def deepest_last(names: Sequence[str], inside: Mapping[str, Collection[str]]) -> list[str]:
    """Return the names in their order, but none before those that it is inside of."""
    order: list[str] = []
    for name in names:
        place = next((i for i, other in enumerate(order) if name in inside[other]), len(order))
        order.insert(place, name)
    return order


# A data set's own ids -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """What one target paints.

    Attributes:
        row: of the target among the outputs.
        ids: what it can be; of ids with the same targets the lowest.
        members: bool (ids, targets), the targets of each id.
        own: the ids are its own; else those of its parts.
    """

    row: int
    ids: np.ndarray
    members: np.ndarray
    own: bool


def layers_of(pool: PoolManifest, source: SourceMapping, allowed: Collection[str]) -> list[Layer]:
    """In the order of painting. An id belongs to the deepest target that has it.

    A target whose ids all belong to parts of it (kidney: left and right) has none of its own.
    """
    ids, names = source.targets, list(pool.names)
    group = {target.name: target.group for target in pool.targets}
    labelled = [name for name in names if name in ids]
    inside = {name: {other for other in labelled if set(ids[name]) < set(ids[other])} for name in labelled}
    order = deepest_last(labelled, inside)
    owner = {i: name for name in order for i in ids[name]}
    layers = []
    for name in order:
        if name not in allowed:
            continue
        own = [i for i in sorted(ids[name]) if owner[i] == name]
        parts = [i for i in sorted(ids[name]) if owner[i] in allowed]
        alike = [i for i in parts if group[owner[i]] == group[name]]
        by_members: dict[tuple[bool, ...], int] = {}
        for i in own or alike or parts:
            by_members.setdefault(tuple(other in allowed and i in ids.get(other, ()) for other in names), i)
        if by_members:
            members, numbers = np.array(list(by_members)), np.array(list(by_members.values()))
            layers.append(Layer(names.index(name), numbers, members, bool(own)))
    return layers


def paint(active: np.ndarray, probabilities: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    """Return ids (voxels) of the last target that is there.

    Where that can have several ids, it is the one whose targets are nearest to the probabilities (squared distance).
    A target without an id of its own takes that of the nearest part, and none where no part is nearer than others.

    Args:
        active: bool (targets, voxels), from `resolve_exclusive`.
        probabilities: (targets, voxels), from there too.
        layers: in the order of painting.
    """
    result = np.zeros(active.shape[1], np.int64)
    for layer in layers:
        where = np.flatnonzero(active[layer.row])
        # |p - members|^2 is smallest where the sum over members of (p - 1/2) is largest
        scores = layer.members.astype(np.float32) @ (probabilities[:, where] - np.float32(0.5))
        best = scores.argmax(0)
        if not layer.own:
            clear = (scores == scores.max(0)).sum(0) == 1
            where, best = where[clear], best[clear]
        result[where] = layer.ids[best]
    return result


# All targets ----------------------------------------------------------------------------------------------------------


def including(pool: PoolManifest) -> dict[str, set[str]]:
    """Target -> those that hold every voxel of it, as its code says: an organ its lesions, a union its parts."""
    return {name: set(pool.codes[pool.representative[name]]) - {name} for name in pool.names}


def masks_of(pool: PoolManifest, active: np.ndarray, allowed: Collection[str]) -> np.ndarray:
    """Bool (targets, voxels): each target with all that is inside of it.

    What a deeper target brings along overrides what excludes it: two targets of a group never overlap.
    """
    names, inside = list(pool.names), including(pool)
    rivals = {name: {other for group in pool.mutually_exclusive if name in group for other in group} for name in names}
    result = np.zeros_like(active)
    for name in deepest_last(names, inside):
        where = active[names.index(name)]
        painted = {name, *inside[name]} & set(allowed)
        for other in set().union(*(rivals[t] for t in painted)) - painted:
            result[names.index(other), where] = False
        for t in painted:
            result[names.index(t), where] = True
    return result


def merged_of(pool: PoolManifest, active: np.ndarray) -> np.ndarray:
    """Numbers (voxels) of the deepest target there, counted from 1 in the order of the pool."""
    names = list(pool.names)
    result = np.zeros(active.shape[1], np.int64)
    for name in deepest_last(names, including(pool)):
        row = names.index(name)
        result[active[row]] = row + 1
    return result
