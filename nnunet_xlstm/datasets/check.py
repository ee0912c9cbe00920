"""`nnunet_xlstm check`: what is wrong with a raw data set, found by reading all of it before nnU-Net does."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.cases import Images, case_files, list_images, list_labels, numbering_fault
from nnunet_xlstm.datasets.check_case import CaseJob, CaseResult, Finding, Findings, check_case, reader_of
from nnunet_xlstm.datasets.dataset_json import NAME, CaseFiles, DatasetFile, Labels
from nnunet_xlstm.datasets.raw_dataset import SPLITS, nnunet_folder, read_folds
from nnunet_xlstm.datasets.subjects import N_FOLDS
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.parallel import for_each

REQUIRED = ("channel_names", "labels", "numTraining", "file_ending")
# of nnU-Net's readers (nnunetv2/imageio/reader_writer_registry.py)
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class CheckReport:
    """What was found, errors first; and how many cases were read."""

    folder: Path
    train: int
    test: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings are no warnings."""
        return sum(not finding.is_warning for finding in self.findings)


def find_dataset(name: str) -> Path:
    """Return the folder of a raw data set.

    Args:
        name: its path, or its number or name in nnUNet_raw.

    Raises:
        DatasetError: there is none, or more than one of this number.
    """
    by_number = re.fullmatch(r"\d{1,3}", name)
    if not by_number and Path(name).is_dir():
        return Path(name)
    raw = nnunet_folder("nnUNet_raw")
    if by_number:
        found = sorted(path for path in raw.glob(f"Dataset{int(name):03d}_*") if path.is_dir())
    else:
        found = [raw / name] if (raw / name).is_dir() else []
    if len(found) == 1:
        return found[0]
    what = f"{', '.join(path.name for path in found)} all have it" if found else "there is none in " + str(raw)
    raise DatasetError(f"-d {name}: give the number or name of a raw data set, or its folder; {what}")


def check_dataset(folder: Path, processes: int = 1) -> CheckReport:
    """Read dataset.json, every image and every label map of a raw data set to its end.

    Args:
        folder: of the raw data set.
        processes: cases at a time.

    Raises:
        DatasetError: dataset.json cannot be read. OSError: a folder cannot be read.
    """
    folder = Path(os.path.abspath(folder))
    file, found = DatasetFile.read(folder), Findings(folder)
    questions = (file.channels, file.labels, file.file_ending)
    channels, labels, ending = (_answer(question, found) for question in questions)
    _check_header(file, labels, channels, ending, found)
    train = _training_cases(file, ending, found)
    test = _test_cases(ending, found) if ending else {}
    if train is None:
        train = {}
    else:
        _check_count(file, train, found)
        _check_splits(folder, train, found)
    first = next((path for files in train.values() for path in files.images), None)
    reader = reader_of(file.content.get("overwrite_image_reader_writer"), ending or "", first)
    n, known = len(channels) if channels else None, labels.known if labels else None
    jobs = [CaseJob(folder, case, files, n, known, reader) for case, files in (*train.items(), *test.items())]
    results = [result for _, result in for_each(check_case, jobs, processes, desc="cases")] if jobs else []
    for result in results:
        found.found += result.findings
    _check_together(results[: len(train)], jobs, results, labels, found)
    return CheckReport(folder, len(train), len(test), tuple(sorted(found.found, key=lambda f: f.is_warning)))


# dataset.json ---------------------------------------------------------------------------------------------------------


def _answer(question: Callable[[], Any], found: Findings) -> Any:
    """Return what dataset.json says, or None and an error where it is wrong."""
    try:
        return question()
    except DatasetError as error:
        found.error(NAME, str(error))
        return None


def _check_header(
    file: DatasetFile, labels: Labels | None, channels: Sequence[str] | None, ending: str | None, found: Findings
) -> None:
    for key in REQUIRED:
        if key not in file.content:
            found.error(NAME, f"the key {key} is missing, which nnU-Net asks for")
    numbers = list(file.content.get("channel_names") or ()) if channels else []
    if numbers != [str(i) for i in range(len(numbers))]:
        found.error(
            NAME, f"channel_names is numbered {', '.join(numbers)}; nnU-Net goes by its order: write 0, 1, 2 ..."
        )
    reader = file.content.get("overwrite_image_reader_writer", "None")
    if ending and reader == "None" and ending.lower() not in ENDINGS:
        found.error(NAME, f"nnU-Net has no reader for file_ending {ending}; it reads {', '.join(ENDINGS)}")
    for text in _label_faults(file, labels) if labels else ():
        found.error(NAME, text)


def _label_faults(file: DatasetFile, labels: Labels) -> Iterator[str]:
    """Yield what nnU-Net's LabelManager and its check of integrity find wrong with the ids."""
    if file.content["labels"].get("background") != 0:
        yield 'labels: "background" must be there, with the id 0'
    ids = sorted({i for group in labels.ids.values() for i in group})
    if ids != list(range(len(ids))):
        yield f"labels: the ids are {', '.join(map(str, ids))}; they must be 0, 1, 2 ... without a gap"
    if labels.ignore is not None and labels.ignore != max(ids, default=0) + 1:
        yield f"labels: ignore is {labels.ignore}; it must be one above all others, {max(ids, default=0) + 1}"
    order = file.content.get("regions_class_order")
    regions = [name for name, group in labels.ids.items() if group != (0,)]
    if labels.has_regions and (not isinstance(order, list) or len(order) != len(regions)):
        yield f"regions_class_order must list one id for each of the {len(regions)} regions, in their order"


def _check_count(file: DatasetFile, train: Mapping[str, CaseFiles], found: Findings) -> None:
    told = file.content.get("numTraining")
    if told is not None and (type(told) is not int or told != len(train)):
        found.error(NAME, f"numTraining is {told!r}, there are {len(train)} training cases")
    if not train:
        found.error("imagesTr", "holds no training case")
    elif len(train) < N_FOLDS and not (found.folder / SPLITS).is_file():
        found.warning(
            "imagesTr",
            f"nnU-Net's {N_FOLDS} folds need {N_FOLDS} cases, there are {len(train)}: train with fold all, or write a "
            f"{SPLITS}",
        )


def _check_splits(folder: Path, train: Mapping[str, CaseFiles], found: Findings) -> None:
    if not (folder / SPLITS).is_file():
        return
    try:
        folds = read_folds(folder / SPLITS)
    except DatasetError as error:
        found.error(SPLITS, str(error))
        return
    named = {case for fold in folds for part in ("train", "val") for case in fold[part]}
    if missing := sorted(named - train.keys()):
        found.error(SPLITS, f"names {_shown(missing)}, which {'are no cases' if len(missing) > 1 else 'is no case'}")
    for i, fold in enumerate(folds):
        if both := sorted(set(fold["train"]) & set(fold["val"])):
            found.error(SPLITS, f"fold {i} has {_shown(both)} for training and for validation")
        for part in ("train", "val"):
            if not fold[part]:
                found.error(SPLITS, f"fold {i} has no case under {part}")


# Files ----------------------------------------------------------------------------------------------------------------


def _training_cases(file: DatasetFile, ending: str | None, found: Findings) -> dict[str, CaseFiles] | None:
    """Those of the table or of imagesTr; None where dataset.json does not tell."""
    if "dataset" in file.content:
        table = _answer(file.table, found)
        if table is None:
            return None
        users = Counter(path for files in table.values() for path in files.images)
        for path, count in users.items():
            if count > 1:
                found.warning(path, f"is named {count} times in `dataset` of {NAME}")
        return table
    for name in ("imagesTr", "labelsTr"):
        if not (file.folder / name).is_dir():
            found.error(name, "there is no such folder")
    if ending is None:
        return None
    return _listed_cases("Tr", ending, "there is no image of this case; nnU-Net leaves it out", found)[0]


def _test_cases(ending: str, found: Findings) -> dict[str, CaseFiles]:
    """Those of imagesTs; their label is empty where labelsTs has none."""
    cases, labels = _listed_cases("Ts", ending, "there is no image of this case", found)
    return {case: files if case in labels else CaseFiles(files.images, "") for case, files in cases.items()}


def _listed_cases(
    part: str, ending: str, without_image: str, found: Findings
) -> tuple[dict[str, CaseFiles], dict[str, str]]:
    images = list_images(found.folder / f"images{part}", ending)
    _check_names(images, f"images{part}", ending, found)
    labels = list_labels(found.folder / f"labels{part}", ending)
    for case in sorted(labels.keys() - images.cases.keys()):
        found.warning(labels[case], without_image)
    return case_files(found.folder / f"labels{part}", images, ending), labels


def _check_names(images: Images, name: str, ending: str, found: Findings) -> None:
    if images.apple:
        found.error(
            name,
            f"macOS left {_shown(images.apple)}, which nnU-Net takes for cases, and stops: delete all such files with "
            f"find {found.folder} -name '._*' -delete",
        )
    for path in images.unnumbered:
        found.error(path, f"nnU-Net takes it for a case and stops: its name must end with a channel, _0000{ending}")
    for path in images.broken:
        found.error(path, "is a link to a file that is not there; nnU-Net leaves it out without a word")
    for case, channels in images.cases.items():
        if fault := numbering_fault(channels):
            found.error(channels[min(channels)], f"case {case} {fault}")
    others = [path for path in images.others if not os.path.basename(path).startswith(".")]
    if others := [path for path in others if not path.endswith(".json")]:  # which holds a TIFF's spacing
        found.warning(
            name,
            f"nnU-Net leaves out what does not end with {ending}: {_shown(others)}",
        )


def _shown(paths: Sequence[str]) -> str:
    """Return the name of the first, and how many more there are."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return os.path.basename(paths[0]) + more


# All cases together ---------------------------------------------------------------------------------------------------


def _check_together(
    train: Sequence[CaseResult],
    jobs: Sequence[CaseJob],
    results: Sequence[CaseResult],
    labels: Labels | None,
    found: Findings,
) -> None:
    dimensions = Counter(result.dimension for result in results if result.dimension)
    usual = dimensions.most_common(1)[0][0] if dimensions else 0
    for job, result in zip(jobs, results, strict=True):
        if result.dimension not in (0, usual):
            found.error(job.files.images[0], f"has {result.dimension} dimensions, most other cases have {usual}")
    read = [result.present for result in train if result.present is not None]
    if labels is None or len(read) < len(train):
        return  # a label may be in a map that could not be read
    present = frozenset().union(*read)
    for name, group in labels.ids.items():
        if train and not present & set(group) and group != (0,):
            found.warning(NAME, f"labels: no training case has a voxel of {name!r}, {list(group)}")
