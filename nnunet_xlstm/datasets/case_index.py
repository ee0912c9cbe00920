"""pool_cases.json: of every case its source, subject, modality and frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_xlstm.choices import MODALITIES
from nnunet_xlstm.io.paths import FILE_NAME
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.validate import (
    ANY_TEXT,
    OBJECT,
    TEXT,
    Key,
    ListOf,
    Record,
    TableOf,
    Value,
    check,
    excerpt,
    null_or,
    number,
    one_of,
    optional,
    refuse,
)

NAME = "pool_cases.json"
FORMAT = 1
LEFT_OUT = ("tags", "channel_frames")  # where they are empty
SAMPLING = ("sqrt", "modality", "uniform")


@dataclass(frozen=True)
class CaseRecord:
    """One case.

    Attributes:
        subject: unique over all sources: equal texts are one person.
        frame, frames: its number from 0 and how many the sequence has; None for an image without time.
        images: the files it was made from, before frames were split or series converted.
        valid: targets of the pool that are annotated in it; None in a pool without labels.
        tags: of DICOM: keyword -> text, what tells sequence and view.
        channel_frames: of a sequence, the frames from 0 that its channels are, in their order.
    """

    source: str
    subject: str
    modality: str
    frame: int | None = None
    frames: int | None = None
    images: tuple[str, ...] = ()
    valid: tuple[str, ...] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    channel_frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class PoolCases:
    """The content of the file.

    Attributes:
        inputs: what the commands that make the file remember of every input; nobody else reads it.
    """

    cases: Mapping[str, CaseRecord]
    sampling: str = "sqrt"
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def column(self, name: str) -> dict[str, Any]:
        """Case -> its source, subject, modality, ..."""
        return {case: getattr(record, name) for case, record in self.cases.items()}

    def subject_numbers(self) -> dict[str, int]:
        """Case -> a number of its subject."""
        numbers = {subject: i for i, subject in enumerate(sorted({record.subject for record in self.cases.values()}))}
        return {case: numbers[record.subject] for case, record in self.cases.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file; what a case does not have is left out, but for null."""
        cases = {
            case: {name: value for name, value in asdict(record).items() if value or name not in LEFT_OUT}
            for case, record in sorted(self.cases.items())
        }
        return {
            "format": FORMAT,
            "sampling": self.sampling,
            "cases": cases,
            "inputs": dict(sorted(self.inputs.items())),
        }


CASE = Record(
    {
        "source": Key(TEXT),
        "subject": Key(TEXT),
        "modality": Key(one_of(MODALITIES)),
        "frame": optional(null_or(number(0, whole=True))),
        "frames": optional(null_or(number(1, whole=True))),
        "images": optional(ListOf(ANY_TEXT)),
        "valid": optional(null_or(ListOf(TEXT))),
        "tags": optional(TableOf(ANY_TEXT, "an object keyword -> text")),
        "channel_frames": optional(ListOf(number(0, whole=True))),
    }
)
FILE = Record(
    {
        "format": Key(Value(f"{FORMAT}, which this version reads; run the command that made it", FORMAT.__eq__)),
        "sampling": optional(one_of(SAMPLING)),
        "cases": Key(TableOf(CASE, "an object case -> its record", key=FILE_NAME)),
        "inputs": optional(OBJECT),
    },
    open=True,
)


def read_pool_cases(path: Path) -> PoolCases:
    """Read the file and check it.

    Raises:
        DatasetError: not readable, another format, a row that is wrong, or a case that is no name of a file.
    """
    content = read_json(path, dict)
    check(content, FILE, str(path))
    refuse(_time_faults(content["cases"]), str(path))
    rows = {case: _record(values) for case, values in content["cases"].items()}
    return PoolCases(rows, content.get("sampling", "sqrt"), content.get("inputs", {}))


def _time_faults(cases: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for case, record in cases.items():
        frame, frames = record.get("frame"), record.get("frames")
        if (frame is None) != (frames is None) or (frame is not None and frame >= frames):
            yield f"cases.{case} has frame {excerpt(frame)} of {excerpt(frames)}; give one below, or null for both"


def _record(values: Mapping[str, Any]) -> CaseRecord:
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return CaseRecord(**plain)
