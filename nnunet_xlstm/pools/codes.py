"""Targets that overlap as one label map: an integer code per set of targets, and nnU-Net's regions made of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nnunet_xlstm.catalogue.schema import GROUPS
from nnunet_xlstm.errors import DatasetError

MAX_CODE = 30_000  # nnU-Net keeps label maps as int16

TargetIds = Mapping[str, Sequence[int]]  # target -> native ids of one source; several ids are a union


@dataclass(frozen=True)
class Codes:
    """How the targets of a pool share one label map.

    Attributes:
        order: targets in the order in which a merged map is painted.
        sets: code -> its targets, codes 1, 2, 3 ...; those of all sources, and one for every painted target.
        painted: target -> the code that stands for it in a merged map: with all targets that include it.
    """

    order: tuple[str, ...]
    sets: Mapping[int, frozenset[str]]
    painted: Mapping[str, int]

    def labels(self, ignore: bool = False) -> dict[str, int | list[int]]:
        """The `labels` of dataset.json: each target a region, in the order of painting."""
        regions = {t: [code for code, members in self.sets.items() if t in members] for t in self.order}
        result: dict[str, int | list[int]] = {"background": 0}
        result |= {t: codes[0] if len(codes) == 1 else codes for t, codes in regions.items()}
        return result | ({"ignore": self.ignore} if ignore else {})

    def class_order(self) -> list[int]:
        """nnU-Net's regions_class_order."""
        return [self.painted[t] for t in self.order]

    @property
    def ignore(self) -> int:
        """nnU-Net wants it above all labels."""
        return max(self.sets) + 1

    def table(self, targets: TargetIds, ids: Iterable[int]) -> dict[int, int]:
        """Native id -> code of one source; an id that belongs to no target becomes background."""
        code_of = {members: code for code, members in self.sets.items()}
        return {i: code_of.get(members_of(targets, i), 0) for i in ids}


def make_codes(
    targets: Sequence[str],
    groups: Mapping[str, str],
    sources: Iterable[TargetIds],
    over: Sequence[Sequence[str]],
    more: Iterable[frozenset[str]] = (),
) -> Codes:
    """Codes for the sets of targets that occur in any source.

    Args:
        targets: in the order of the pool.
        groups: target -> organ, vessel or lesion.
        over: chains; the first target includes the others, which are painted over it in this order.
        more: other sets of targets that get a code.

    Raises:
        ValueError: the chains contradict each other, or there are too many sets.
    """
    sources = list(sources)
    order = painting_order(targets, groups, over)
    including = {t: {t} | _including(t, sources, over) for t in targets}
    found = {members_of(source, i) for source in sources for ids in source.values() for i in ids}
    sets = found | set(more) | {frozenset(members) for members in including.values()}
    rank = {t: i for i, t in enumerate(targets)}
    ordered = sorted(sets, key=lambda members: (len(members), sorted(rank[t] for t in members)))
    if len(ordered) >= MAX_CODE:
        raise DatasetError(f"{len(ordered)} different sets of targets; a label map holds {MAX_CODE}: use fewer targets")
    code_of = {members: i for i, members in enumerate(ordered, start=1)}
    painted = {t: code_of[frozenset(members)] for t, members in including.items()}
    by_code = {code: members for members, code in code_of.items()}
    if all(sum(t in members for members in ordered) == 1 for t in targets):
        # nnU-Net trains regions, and so sigmoids, only where one has two labels: give one a second, unused
        by_code[len(by_code) + 1] = frozenset({order[0]})
    return Codes(tuple(order), by_code, painted)


def members_of(targets: TargetIds, number: int) -> frozenset[str]:
    """The targets that a native id belongs to."""
    return frozenset(t for t, ids in targets.items() if number in ids)


def _including(target: str, sources: Sequence[TargetIds], over: Sequence[Sequence[str]]) -> set[str]:
    """Targets that hold every voxel of this one: by a chain, or as a union in every source that has both."""
    by_chain = {chain[0] for chain in over if target in chain[1:]}
    both = [
        (other, set(source[target]) < set(source[other]))
        for source in sources
        if target in source
        for other in source
        if other != target
    ]
    return by_chain | ({other for other, inside in both if inside} - {other for other, inside in both if not inside})


def painting_order(targets: Sequence[str], groups: Mapping[str, str], over: Sequence[Sequence[str]]) -> list[str]:
    """By group, then as listed; but never before a target that a chain names earlier.

    Raises:
        ValueError: the chains contradict each other.
    """
    rank = {t: (GROUPS.index(groups[t]), i) for i, t in enumerate(targets)}
    after: dict[str, set[str]] = {t: set() for t in targets}
    for chain in over:
        for i, later in enumerate(chain[1:], start=1):
            after[later] |= set(chain[:i])
    ready = [(rank[t], t) for t in targets if not after[t]]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        _, done = heapq.heappop(ready)
        order.append(done)
        for t in targets:
            if done in after[t]:
                after[t].discard(done)
                if not after[t]:
                    heapq.heappush(ready, (rank[t], t))
    if left := [t for t in targets if t not in order]:
        raise DatasetError(f"over: {', '.join(left)} would each have to be painted before the other; drop one chain")
    return order
