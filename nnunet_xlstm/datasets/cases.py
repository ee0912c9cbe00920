"""The cases of a raw data set, as nnU-Net finds them; and the files beside them that it would take for more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_xlstm.datasets.dataset_json import CaseFiles, DatasetFile
from nnunet_xlstm.errors import DatasetError

APPLE_DOUBLE = "._"  # macOS leaves such a file beside each one that it copies to another file system
COLORS = (".png", ".bmp", ".tif")  # nnU-Net's NaturalImage2DIO takes the colours of one file as channels
CHANNEL = r"(.+)_(\d{4})"


@dataclass
class Images:
    """The files of imagesTr or imagesTs.

    Attributes:
        cases: case -> number of a channel -> path.
        apple, unnumbered: files that nnU-Net takes for cases: of macOS, and without a channel number such as _0000.
        broken: links to files that are not there, which nnU-Net does not see.
        others: files of other endings, which it does not see either.
    """

    cases: dict[str, dict[int, str]] = field(default_factory=dict)
    apple: list[str] = field(default_factory=list)
    unnumbered: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def left_out(self) -> list[tuple[str, str]]:
        """Return (path, why it is no image of a case) of what could have been meant as one."""
        reasons = {
            "its name does not end with the number of a channel, such as _0000": self.unnumbered,
            "a link to a file that is not there": self.broken,
        }
        return [(path, why) for why, paths in reasons.items() for path in paths]


def list_images(folder: Path, ending: str) -> Images:
    """Sort the files of a folder; an absent folder has none.

    Raises:
        OSError: it cannot be read.
    """
    found = Images()
    for name, path in _files(folder):
        hit = re.fullmatch(CHANNEL + re.escape(ending), name)
        if not name.endswith(ending):
            found.others.append(path)
        elif not os.path.isfile(path):
            found.broken.append(path)
        elif name.startswith(APPLE_DOUBLE):
            found.apple.append(path)
        elif hit is None or name.startswith("."):
            found.unnumbered.append(path)
        else:
            found.cases.setdefault(hit.group(1), {})[int(hit.group(2))] = path
    return found


def list_labels(folder: Path, ending: str) -> dict[str, str]:
    """Return case -> path of its label map, without hidden files, which nnU-Net does not look for.

    Raises:
        OSError: the folder cannot be read.
    """
    return {
        name.removesuffix(ending): path
        for name, path in _files(folder)
        if name.endswith(ending) and not name.startswith(".")
    }


def case_files(folder: Path, images: Images, ending: str) -> dict[str, CaseFiles]:
    """Return case -> its images in the order of their channels, and where its label map is or should be.

    Args:
        folder: of the labels.
        images: of these cases.
        ending: of label maps.
    """
    labels = os.path.abspath(folder)
    return {
        case: CaseFiles(tuple(path for _, path in sorted(channels.items())), os.path.join(labels, f"{case}{ending}"))
        for case, channels in images.cases.items()
    }


def find_cases(file: DatasetFile) -> tuple[dict[str, CaseFiles], list[tuple[str, str]]]:
    """Return the training cases: of the table `dataset`, whose paths may hold variables, else of imagesTr.

    Returns:
        The cases, and (path, why) of files in imagesTr that are none.

    Raises:
        DatasetError: a table or an ending that is wrong, no case, or one with more or fewer images than channels.
        OSError: imagesTr cannot be read.
    """
    cases, left_out, n = file.table(), [], len(file.channels())
    if cases is None:
        ending = file.file_ending()
        images = list_images(file.folder / "imagesTr", ending)
        left_out = images.left_out()
        cases = case_files(file.folder / "labelsTr", images, ending)
        for case, channels in images.cases.items():
            if fault := numbering_fault(channels):
                raise DatasetError(f"{file.folder}: case {case} {fault}")
    for case, files in cases.items():
        if len(files.images) != n:
            raise DatasetError(f"{file.folder}: case {case} {count_fault(files, n)}")
    if not cases:
        raise DatasetError(f"{file.folder}: holds no training image")
    return cases, left_out


def numbering_fault(channels: Mapping[int, str]) -> str:
    """Say what is wrong with the numbers of a case's channels; empty where they are 0, 1, 2, ..."""
    if sorted(channels) == list(range(len(channels))):
        return ""
    found = ", ".join(f"{c:04d}" for c in sorted(channels))
    return f"has the channels {found}; number them 0000, 0001, ... without a gap"


def count_fault(files: CaseFiles, n: int) -> str:
    """Say that a case has more or fewer images than the `n` channels."""
    text = f"has {len(files.images)} image file{'s' * (len(files.images) != 1)} for the {n} channels of channel_names"
    if len(files.images) == 1 and files.images[0].lower().endswith(COLORS):
        text += (
            "; nnU-Net takes the colours of one file as channels, but here each needs a file of its own, "
            "CASE_0000, CASE_0001, ..."
        )
    return text


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and absolute path of each file, by name."""
    if folder.is_dir():
        for name in sorted(os.listdir(folder)):
            path = os.path.abspath(folder / name)
            if not os.path.isdir(path):
                yield name, path
