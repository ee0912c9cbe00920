"""How the targets of a pool share one label map: an integer code per set of targets, and nnU-Net's regions of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from nnunet_xlstm.catalogue.entries import PoolTarget
from nnunet_xlstm.catalogue.schema import GROUPS
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.validate import unknown
from nnunet_xlstm.pools.mapping import SourceMapping, TargetIds, map_source
from nnunet_xlstm.pools.spec import Pool

MAX_CODE = 30_000  # nnU-Net keeps label maps as int16
Groups = Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class PoolManifest:
    """What the outputs of a network trained on a pool mean, and what each source labels.

    Attributes:
        targets: in the order of painting, which is that of `labels` and of the network's outputs.
        codes: value of a merged label map, 1, 2, 3 ... -> the targets there; the sets of all sources, and one for every
            representative.
        hierarchy: chains; the first target includes the others, which are painted over it in this order.
        mutually_exclusive: groups of targets that cannot overlap.
        merge: `unified`: a target is the same in all sources; `none`: each source has its own.
        representative: target -> the code that stands for it in a merged map: with all targets that include it.
    """

    targets: tuple[PoolTarget, ...]
    codes: Mapping[int, tuple[str, ...]]
    hierarchy: tuple[tuple[str, ...], ...]
    mutually_exclusive: tuple[tuple[str, ...], ...]
    merge: str
    sources: Mapping[str, SourceMapping]
    representative: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the targets, in their order."""
        return tuple(target.name for target in self.targets)

    @property
    def ignore(self) -> int:
        """Code of voxels that do not count; nnU-Net wants it above all labels."""
        return max(self.codes) + 1

    def source(self, name: str) -> SourceMapping:
        """Return a source.

        Raises:
            DatasetError: there is none of this name; the message lists them.
        """
        if name not in self.sources:
            raise DatasetError(unknown(name, self.sources, "source"))
        return self.sources[name]

    def labels(self) -> dict[str, int | list[int]]:
        """Return the `labels` of dataset.json: each target a region, in the order of painting."""
        result: dict[str, int | list[int]] = {"background": 0}
        for name in self.names:
            region = [code for code, members in self.codes.items() if name in members]
            result[name] = region[0] if len(region) == 1 else region
        has_ignore = any(source.ignore is not None for source in self.sources.values())
        return result | ({"ignore": self.ignore} if has_ignore else {})

    def class_order(self) -> list[int]:
        """Return nnU-Net's regions_class_order."""
        return [self.representative[name] for name in self.names]

    def table(self, source: SourceMapping, absent: Collection[str] = ()) -> dict[int, int]:
        """Return native id -> code of one source; an id that belongs to no target becomes background.

        Args:
            source: of this pool.
            absent: targets that are not annotated.
        """
        code_of = {frozenset(members): code for code, members in self.codes.items()}
        table = {i: code_of.get(source.members(i) - set(absent), 0) for i in source.ids}
        return table if source.ignore is None else table | {source.ignore: self.ignore}


# From POOL.json -------------------------------------------------------------------------------------------------------


def plan_manifest(pool: Pool) -> PoolManifest:
    """Join the labels of all sources on disk.

    Raises:
        DatasetError: a source without labels, or whose labels do not fit; chains that contradict each other.
    """
    names = tuple(target.name for target in pool.targets)
    mappings = {source.name: map_source(source, names) for source in pool.sources}
    if pool.merge == "unified":
        return make_manifest(pool.targets, mappings, pool.hierarchy, pool.mutually_exclusive)
    targets, hierarchy, mutually_exclusive, renamed = [], [], [], {}
    for name, source in mappings.items():

        def rename(target: str, name: str = name) -> str:
            return f"{name}__{target}"

        kept = [t for t in pool.targets if t.name in source.targets]
        targets += [PoolTarget(rename(t.name), t.group, t.modality, t.region) for t in kept]
        hierarchy += [tuple(map(rename, chain)) for chain in _within(pool.hierarchy, source.targets, chains=True)]
        mutually_exclusive += [tuple(map(rename, group)) for group in _within(pool.mutually_exclusive, source.targets)]
        renamed[name] = source.renamed(rename)
    return make_manifest(targets, renamed, hierarchy, mutually_exclusive, pool.merge)


def _within(groups: Groups, names: Collection[str], chains: bool = False) -> tuple[tuple[str, ...], ...]:
    """Return the groups without targets that are not there; one of one says nothing, nor a chain without its first."""
    kept = [tuple(t for t in group if t in names) for group in groups if not chains or group[0] in names]
    return tuple(group for group in kept if len(group) > 1)


def make_manifest(
    targets: Iterable[PoolTarget],
    sources: Mapping[str, SourceMapping],
    hierarchy: Groups = (),
    mutually_exclusive: Groups = (),
    merge: str = "unified",
) -> PoolManifest:
    """Give codes to the sets of targets that occur in any source; targets without any source are left out.

    Raises:
        DatasetError: the chains contradict each other, or there are too many sets.
    """
    used = set().union(*(source.targets for source in sources.values()))
    by_name = {target.name: target for target in targets if target.name in used}
    hierarchy, mutually_exclusive = _within(hierarchy, used, chains=True), _within(mutually_exclusive, used)
    order = painting_order(list(by_name), {name: target.group for name, target in by_name.items()}, hierarchy)
    mappings = [source.targets for source in sources.values()]
    including = {name: frozenset({name} | _including(name, mappings, hierarchy)) for name in by_name}
    sets = {members for source in sources.values() for members in _sets_of(source)} | set(including.values())
    rank = {name: i for i, name in enumerate(by_name)}
    ordered = sorted(sets, key=lambda members: (len(members), sorted(rank[name] for name in members)))
    if len(ordered) >= MAX_CODE:
        raise DatasetError(f"{len(ordered)} different sets of targets; a label map holds {MAX_CODE}: use fewer targets")
    representative = {name: ordered.index(members) + 1 for name, members in including.items()}
    if all(sum(name in members for members in ordered) == 1 for name in by_name):
        # nnU-Net trains regions, and so sigmoids, only where one has two labels: give one a second, unused
        ordered.append(frozenset({order[0]}))
    return PoolManifest(
        targets=tuple(by_name[name] for name in order),
        codes={code: tuple(t for t in order if t in members) for code, members in enumerate(ordered, start=1)},
        hierarchy=hierarchy,
        mutually_exclusive=mutually_exclusive,
        merge=merge,
        sources=sources,
        representative=representative,
    )


def _sets_of(source: SourceMapping) -> set[frozenset[str]]:
    """Return the sets of targets that a voxel may have, also in cases where some targets are not annotated."""
    uncertain = {t for t, ids in source.targets.items() if t in source.not_annotated or source.optional & set(ids)}
    sets = set()
    for members in map(source.members, set().union(*source.targets.values())):
        doubt = sorted(members & uncertain)
        absent = chain.from_iterable(combinations(doubt, n) for n in range(len(doubt) + 1))
        sets |= {members - set(missing) for missing in absent}
    return sets - {frozenset()}


def _including(target: str, sources: Sequence[TargetIds], hierarchy: Groups) -> set[str]:
    """Targets that hold every voxel of this one: by a chain, or as a union in every source that has both."""
    by_chain = {chain[0] for chain in hierarchy if target in chain[1:]}
    both = [
        (other, set(source[target]) < set(source[other]))
        for source in sources
        if target in source
        for other in source
        if other != target
    ]
    return by_chain | ({other for other, inside in both if inside} - {other for other, inside in both if not inside})


def painting_order(targets: Sequence[str], groups: Mapping[str, str], hierarchy: Groups) -> list[str]:
    """Order targets by group, then as listed; but never before a target that a chain names earlier.

    Raises:
        DatasetError: the chains contradict each other.
    """
    rank = {t: (GROUPS.index(groups[t]), i) for i, t in enumerate(targets)}
    after: dict[str, set[str]] = {t: set() for t in targets}
    for one in hierarchy:
        for i, later in enumerate(one[1:], start=1):
            after[later] |= set(one[:i])
    order: list[str] = []
    waiting = sorted(targets, key=rank.__getitem__)
    while ready := next((t for t in waiting if after[t] <= set(order)), None):
        order.append(ready)
        waiting.remove(ready)
    if left := [t for t in targets if t in waiting]:
        raise DatasetError(
            f"hierarchy: {', '.join(left)} would each have to be painted before the other; drop one chain"
        )
    return order
