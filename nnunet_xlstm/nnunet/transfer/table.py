"""The report of a transfer: a row per tensor, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

LOADED, ADAPTED, SKIPPED, MISSING = ACTIONS = ("loaded", "adapted", "skipped", "missing")
MEANING = {
    LOADED: "as it was in the source",
    ADAPTED: "from the source, changed to fit",
    SKIPPED: "the source has it; not used",
    MISSING: "the source does not have it; starts anew",
}
DETAILS = 12  # tensors that the printed report names, per action


@dataclass(frozen=True)
class Row:
    """One tensor of the target, or one of the source that has no place there (target_shape None)."""

    name: str
    part: str
    action: str
    source_shape: tuple[int, ...] | None
    target_shape: tuple[int, ...] | None
    numbers: int
    note: str = ""


@dataclass(frozen=True)
class Table:
    """All rows. `wanted`: the parts that the transfer was meant to fill."""

    rows: tuple[Row, ...]
    wanted: frozenset[str]

    def share(self) -> float:
        """Of the numbers in the wanted parts of the target, those that came from the source."""
        wanted = [row for row in self.rows if row.part in self.wanted and row.target_shape is not None]
        arrived = sum(row.numbers for row in wanted if row.action in (LOADED, ADAPTED))
        return arrived / max(1, sum(row.numbers for row in wanted))

    def empty_parts(self) -> list[str]:
        """The wanted parts of the target in which nothing arrived."""
        filled = {row.part for row in self.rows if row.action in (LOADED, ADAPTED)}
        return sorted(self.wanted - filled)

    def to_json(self) -> dict:
        """Plain types: the share, counts by part, and all rows."""
        return {
            "share": self.share(),
            "wanted": sorted(self.wanted),
            "meaning": MEANING,
            "parts": [dict(zip(self.header(), row, strict=True)) for row in self.by_part()],
            "rows": [asdict(row) for row in self.rows],
        }

    @staticmethod
    def header() -> list[str]:
        return ["part", *(f"{action}" for action in ACTIONS), "numbers", "share from source"]

    def by_part(self) -> list[list]:
        """Per part: tensors by action, numbers in the target, and the share of them that came from the source."""
        result = []
        for part in dict.fromkeys(row.part for row in self.rows):
            rows = [row for row in self.rows if row.part == part]
            numbers = sum(row.numbers for row in rows if row.target_shape is not None)
            arrived = sum(row.numbers for row in rows if row.action in (LOADED, ADAPTED))
            counts = [sum(row.action == action for row in rows) for action in ACTIONS]
            result.append([part, *counts, numbers, round(arrived / numbers, 4) if numbers else 0.0])
        return result

    def details(self) -> list[str]:
        """A line per tensor of the wanted parts that did not arrive unchanged."""
        lines = []
        for action in (ADAPTED, SKIPPED, MISSING):
            rows = [row for row in self.rows if row.action == action and (row.part in self.wanted or row.note)]
            for row in rows[:DETAILS]:
                shapes = f"{_text(row.source_shape)} -> {_text(row.target_shape)}"
                lines.append(f"{action}: {row.name} {shapes}" + (f" ({row.note})" if row.note else ""))
            if len(rows) > DETAILS:
                lines.append(f"{action}: and {len(rows) - DETAILS} more; all are in the JSON file")
        return lines


def _text(shape: Iterable[int] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "scalar"
