"""The key `pool` of dataset.json: what the targets of a pool are, and how each source's labels make them.

`pool build` writes it; nnU-Net copies dataset.json beside a model and beside its predictions, where it is read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "pool"


@dataclass(frozen=True)
class PoolTarget:
    """A target: its group (organ, vessel, lesion), and the modalities and regions of the body that can show it."""

    name: str
    group: str
    modality: tuple[str, ...]
    region: tuple[str, ...]


@dataclass(frozen=True)
class PoolSource:
    """A data set of the pool.

    Attributes:
        field_of_view: regions that its scans may show.
        labels: name -> id, as in its own dataset.json.
        targets: target -> ids; several are a union.
    """

    modality: str
    field_of_view: tuple[str, ...]
    labels: Mapping[str, int]
    targets: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class PoolTargets:
    """The content of the key.

    Attributes:
        targets: in the order of painting, which is that of the network's outputs.
        codes: value of the label map -> its targets.
        over: chains; the first target includes the others, which are painted over it in this order.
        exclusive: groups of targets that cannot overlap.
        merge: `unified` or `none` (targets are then called SOURCE__target).
    """

    targets: tuple[PoolTarget, ...]
    codes: Mapping[int, tuple[str, ...]]
    over: tuple[tuple[str, ...], ...]
    exclusive: tuple[tuple[str, ...], ...]
    merge: str
    sources: Mapping[str, PoolSource]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(target.name for target in self.targets)

    @classmethod
    def from_dataset_json(cls, content: Mapping[str, Any], where: str) -> PoolTargets:
        """Read and check.

        Raises:
            ValueError: there is no such key, or it is damaged.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get(KEY), Mapping):
            raise ValueError(
                f"{where}: has no key `{KEY}`: its data set is no pool with labels; make one with `nnunet_xlstm pool "
                "build`, and predict with a model that was trained on it"
            )
        pool = content[KEY]
        try:
            found = cls(
                tuple(
                    PoolTarget(t["name"], t["group"], tuple(t["modality"]), tuple(t["region"])) for t in pool["targets"]
                ),
                {int(code): tuple(names) for code, names in pool["codes"].items()},
                tuple(map(tuple, pool["over"])),
                tuple(map(tuple, pool["exclusive"])),
                str(pool["merge"]),
                {
                    name: PoolSource(
                        str(row["modality"]),
                        tuple(row["field_of_view"]),
                        {label: int(i) for label, i in row["labels"].items()},
                        {t: tuple(map(int, ids)) for t, ids in row["targets"].items()},
                    )
                    for name, row in pool["sources"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{where}: the key `{KEY}` is damaged ({error!r}); build the pool again") from error
        named = {name for names in found.codes.values() for name in names}
        named |= {name for group in (*found.over, *found.exclusive) for name in group}
        named |= {name for source in found.sources.values() for name in source.targets}
        if unknown := named - set(found.names):
            raise ValueError(f"{where}: the key `{KEY}` names {min(unknown)}, which is none of its targets")
        return found

    def to_json(self) -> dict[str, Any]:
        """Inverse of `from_dataset_json`: the value of the key."""
        return {
            "targets": [
                {"name": t.name, "group": t.group, "modality": list(t.modality), "region": list(t.region)}
                for t in self.targets
            ],
            "codes": {str(code): list(names) for code, names in sorted(self.codes.items())},
            "over": [list(chain) for chain in self.over],
            "exclusive": [list(group) for group in self.exclusive],
            "merge": self.merge,
            "sources": {
                name: {
                    "modality": source.modality,
                    "field_of_view": list(source.field_of_view),
                    "labels": dict(source.labels),
                    "targets": {t: list(ids) for t, ids in source.targets.items()},
                }
                for name, source in self.sources.items()
            },
        }
