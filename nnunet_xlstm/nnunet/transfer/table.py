"""The report of a transfer: a row per tensor, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LOADED, ADAPTED, SKIPPED, MISSING = ACTIONS = ("loaded", "adapted", "skipped", "missing")
MEANING = {
    LOADED: "as it was in the source",
    ADAPTED: "from the source, changed to fit",
    SKIPPED: "the source has it; not used",
    MISSING: "the source does not have it; starts anew",
}
HEADER = ["stage", *ACTIONS, "parameters", "share from source"]  # of `by_stage`
DETAILS = 12  # tensors that the printed report names, per action


@dataclass(frozen=True)
class Row:
    """One tensor of the target, or one of the source that has no place there (target_shape None)."""

    name: str
    stage: str
    action: str
    source_shape: tuple[int, ...] | None
    target_shape: tuple[int, ...] | None
    parameters: int
    note: str = ""


@dataclass(frozen=True)
class Table:
    """All rows. `wanted`: the stages that the transfer was meant to fill."""

    rows: Sequence[Row]
    wanted: set[str]

    def share(self) -> float:
        """Return the share of the parameters in the wanted stages of the target that came from the source."""
        wanted = [row for row in self.rows if row.stage in self.wanted and row.target_shape is not None]
        arrived = sum(row.parameters for row in wanted if row.action in (LOADED, ADAPTED))
        return arrived / max(1, sum(row.parameters for row in wanted))

    def empty_stages(self) -> list[str]:
        """Return the wanted stages of the target in which nothing arrived."""
        filled = {row.stage for row in self.rows if row.action in (LOADED, ADAPTED)}
        return sorted(self.wanted - filled)

    def to_json(self) -> dict[str, Any]:
        """Return plain types: the share, counts by stage, and all rows."""
        return {
            "share": self.share(),
            "wanted": sorted(self.wanted),
            "meaning": MEANING,
            "stages": [dict(zip(HEADER, row, strict=True)) for row in self.by_stage()],
            "rows": [asdict(row) for row in self.rows],
        }

    def by_stage(self) -> list[list[str | float]]:
        """Return, per stage, tensors by action, parameters in the target, and the share that came from the source."""
        result: list[list[str | float]] = []
        for stage in dict.fromkeys(row.stage for row in self.rows):
            rows = [row for row in self.rows if row.stage == stage]
            parameters = sum(row.parameters for row in rows if row.target_shape is not None)
            arrived = sum(row.parameters for row in rows if row.action in (LOADED, ADAPTED))
            counts = [sum(row.action == action for row in rows) for action in ACTIONS]
            result.append([stage, *counts, parameters, round(arrived / parameters, 4) if parameters else 0.0])
        return result

    def details(self) -> list[str]:
        """Return a line per tensor of the wanted stages that did not arrive unchanged."""
        lines = []
        for action in (ADAPTED, SKIPPED, MISSING):
            rows = [row for row in self.rows if row.action == action and (row.stage in self.wanted or row.note)]
            for row in rows[:DETAILS]:
                shapes = f"{_text(row.source_shape)} -> {_text(row.target_shape)}"
                lines.append(f"{action}: {row.name} {shapes}" + (f" ({row.note})" if row.note else ""))
            if len(rows) > DETAILS:
                lines.append(f"{action}: and {len(rows) - DETAILS} more; all are in the JSON file")
        return lines


def _text(shape: Iterable[int] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "scalar"
