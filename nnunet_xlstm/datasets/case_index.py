"""pool_cases.json: of every case its source, subject, modality and frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_xlstm.choices import MODALITIES
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.paths import check_file_name
from nnunet_xlstm.io.read import read_json

NAME = "pool_cases.json"
FORMAT = 1
SAMPLING = ("sqrt", "modality", "uniform")


@dataclass(frozen=True)
class CaseRow:
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

    cases: Mapping[str, CaseRow]
    sampling: str = "sqrt"
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def column(self, name: str) -> dict[str, Any]:
        """Case -> its source, subject, modality, ..."""
        return {case: getattr(row, name) for case, row in self.cases.items()}

    def subject_numbers(self) -> dict[str, int]:
        """Case -> a number of its subject."""
        numbers = {subject: i for i, subject in enumerate(sorted({row.subject for row in self.cases.values()}))}
        return {case: numbers[row.subject] for case, row in self.cases.items()}

    def to_json(self) -> dict[str, Any]:
        cases = {}
        for case, row in sorted(self.cases.items()):
            cases[case] = asdict(row) | {"images": list(row.images)}
            for name in ("tags", "channel_frames"):
                if not cases[case][name]:
                    del cases[case][name]
        return {
            "format": FORMAT,
            "sampling": self.sampling,
            "cases": cases,
            "inputs": dict(sorted(self.inputs.items())),
        }


def read_pool_cases(path: Path) -> PoolCases:
    """Read the file and check it.

    Raises:
        DatasetError: not readable, another format, a row that is wrong, or a case that is no name of a file.
    """
    content = read_json(path, dict)
    known = content.get("format")
    if known != FORMAT or not isinstance(content.get("cases"), dict):
        raise DatasetError(
            f"{path}: format {known!r}; this version reads format {FORMAT}; run the command that made it"
        )
    sampling = content.get("sampling", "sqrt")
    if sampling not in SAMPLING:
        raise DatasetError(f"{path}: sampling {sampling!r}; use one of {', '.join(SAMPLING)}")
    rows = {case: _row(path, case, values) for case, values in content["cases"].items()}
    inputs = content.get("inputs", {})
    if not isinstance(inputs, dict):
        raise DatasetError(f"{path}: inputs must be a table; it holds a {type(inputs).__name__}")
    return PoolCases(rows, sampling, inputs)


def _row(path: Path, case: str, values: Any) -> CaseRow:
    check_file_name(case, f"{path}, cases")
    try:
        row = CaseRow(**values)
    except TypeError as error:
        raise DatasetError(f"{path}: case '{case}' has other keys than source, subject, ... ({error})") from error
    times = (row.frame, row.frames)
    good_times = times == (None, None) or (all(type(t) is int for t in times) and 0 <= row.frame < row.frames)
    texts = (row.source, row.subject)
    if not all(isinstance(t, str) and t for t in texts) or row.modality not in MODALITIES or not good_times:
        raise DatasetError(
            f"{path}: case '{case}': source and subject must be texts, modality one of {', '.join(MODALITIES)}, and "
            f"frame a number below frames, or both null; got {values}"
        )
    if row.valid is not None and not is_text_list(row.valid):
        raise DatasetError(f"{path}: case '{case}': valid must be a list of targets, or null; got {row.valid!r}")
    if not is_text_list(row.images):
        raise DatasetError(f"{path}: case '{case}': images must be a list of paths; got {row.images!r}")
    if not isinstance(row.tags, dict) or not all(isinstance(text, str) for text in row.tags.values()):
        raise DatasetError(f"{path}: case '{case}': tags must map keywords to texts; got {row.tags!r}")
    if not isinstance(row.channel_frames, (list, tuple)) or not all(
        type(t) is int and t >= 0 for t in row.channel_frames
    ):
        raise DatasetError(f"{path}: case '{case}': channel_frames must be frames from 0; got {row.channel_frames!r}")
    valid = None if row.valid is None else tuple(row.valid)
    return replace(row, images=tuple(row.images), valid=valid, channel_frames=tuple(row.channel_frames))


def is_text_list(value: Any) -> bool:
    """Return whether a value is a list of texts."""
    return isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)
