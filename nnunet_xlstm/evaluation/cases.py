"""Which files of a folder are label maps, and of which case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.evaluation.summary import case_name
from nnunet_xlstm.io.read import visible_files

ENDINGS = (
    ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz", ".hdr", ".tif", ".tiff",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One case to score: its name and its two files."""

    case: str
    reference: Path
    prediction: Path


def find_cases(source: Path) -> dict[str, Path]:
    """Return case name -> file: the file itself, or all label maps in a folder by name.

    Raises:
        DatasetError: there is nothing at `source`, the folder has no label map, or two of one name.
    """
    if source.is_file():
        return {case_name(source): source}
    if not source.is_dir():
        raise DatasetError(f"{source}: no such file or folder; give a label map or a folder of them")
    cases: dict[str, Path] = {}
    for path in visible_files(source):
        if not path.name.lower().endswith(ENDINGS):
            continue
        other = cases.setdefault(case_name(path), path)
        if other != path:
            raise DatasetError(
                f"{other.name} and {path.name} in {source} are both case '{case_name(path)}'; rename or remove one"
            )
    if not cases:
        raise DatasetError(f"{source}: there is no label map in it; files must end with one of {', '.join(ENDINGS)}")
    return cases
