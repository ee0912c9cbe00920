"""`nnunet_xlstm convert`: a public data set, as it is downloaded, as an nnU-Net v2 raw data set."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_xlstm.catalogue.convert_case import CaseJob, consecutive_ids, convert_case, convert_test_case
from nnunet_xlstm.catalogue.entries import DataSet, count_sets, load_dataset, read_dataset, shipped
from nnunet_xlstm.catalogue.layout import NativeCase, find_native
from nnunet_xlstm.datasets.build import Summary, build
from nnunet_xlstm.datasets.ingest import ENDING, readable_in_place
from nnunet_xlstm.datasets.raw_dataset import RawDataset, channel_names, open_dataset
from nnunet_xlstm.datasets.subjects import CaseNames, safe_name, subject_of, subject_pattern
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.series import Reasons
from nnunet_xlstm.parallel import for_each

CREATED_BY = "nnunet_xlstm convert"
# How nnU-Net's converters are called; those that are modules have different arguments.
MODULE = "python -m nnunetv2.dataset_conversion."
CALLS = {
    "nnUNetv2_convert_MSD_dataset": "nnUNetv2_convert_MSD_dataset -i {input} -overwrite_id {number}",
    "Dataset027_ACDC": MODULE + "Dataset027_ACDC -i {input} -d {number}",
    "Dataset114_MNMs": MODULE + "Dataset114_MNMs -i {input} -d {number}",
    "Dataset115_EMIDEC": MODULE + "Dataset115_EMIDEC -i {input} -t TEST_DIR -d {number}",
    "Dataset219_Amos2022_task2": MODULE + "Dataset219_Amos2022_task2 {input} -d {number}",
}
log = logging.getLogger(__name__)


def convert(
    name: str,
    root: Path,
    number: int,
    dataset_name: str | None = None,
    *,
    subject: str | None = None,
    test: bool = False,
    processes: int = 1,
) -> tuple[RawDataset, Summary]:
    """Make the raw data set, or what is missing of it. Nothing is downloaded, and nothing below `root` is changed.

    Args:
        name: an entry of the catalogue, or the path of a file like its files.
        root: folder that the official download unpacks to.
        number: of the data set, from 1 to 999.
        dataset_name: of DatasetXXX_Name; None takes the name of the entry.
        subject: regular expression that finds the subject in a case's name; default: the entry's, else the case.
        test: also imagesTs, and labelsTs where the labels are public.
        processes: cases at a time.

    Raises:
        ValueError, OSError: another converter serves; nothing is found; a value that is no label; no room.
    """
    entry = find_entry(name)
    check_served(entry, root, number)
    subject = subject or (entry.layout or {}).get("subject")
    pattern = subject_pattern(subject) if subject else None
    files = find_native(entry, root, test)
    dataset = open_dataset(number, dataset_name, re.sub(r"^Dataset\d{3}_", "", entry.name), CREATED_BY)
    header = dataset_header(entry)
    if (other := dataset.earlier_header().get("name", entry.name)) != entry.name:
        raise DatasetError(f"{dataset.folder} holds {other}; give {entry.name} another -d")
    declared = entry.channels[0]["modality"]
    modality = declared if isinstance(declared, str) else declared[0]
    dataset.read()  # refuses a data set that another command made

    def job(case: NativeCase) -> CaseJob:
        person = subject_of(pattern, case.case) if pattern else case.case
        return CaseJob(case.name, dataset.folder.name, person, modality, case.images, case.labels, entry)

    train = [job(case) for case in files.train]
    tests = _named_apart([job(case) for case in files.test], train)
    _compare_counts(entry, train, tests)
    _check_room(train, tests, dataset)
    for note in entry.notes:
        log.info("note: %s", note)
    dataset.mark_owned()
    left_out = [*files.left_out, *_convert_tests(tests, dataset, processes)]
    summary = build(
        dataset, header, train, left_out, sampling="uniform", keep_others=False, processes=processes, make=convert_case
    )
    return dataset, summary


def find_entry(name: str) -> DataSet:
    """Of the catalogue, or of a file like its files.

    Raises:
        ValueError: there is none, or the file is wrong; OSError: the file cannot be read.
    """
    return read_dataset(Path(name)) if name.endswith(".json") else load_dataset(name)


def check_served(entry: DataSet, root: Path | None = None, number: int | None = None) -> None:
    """Refuse what `convert` cannot make, and say what can.

    Raises:
        DatasetError: another converter serves, with its command line; there are no masks; the layout is not known.
    """
    if entry.no_masks:
        raise DatasetError(
            f"{entry.name} has {entry.no_masks}: there is no label map to convert. For its images alone call: "
            f"nnunet_xlstm unlabelled -i {root or 'DIR'} --modality {min(entry.modalities)} -d {number or 'ID'}. "
            "If you have made masks, describe them in a copy of the entry, and give its path as the name"
        )
    if entry.nnunet_converter:
        call = CALLS.get(entry.nnunet_converter, f"{MODULE}{entry.nnunet_converter} --help").format(
            input=root or "DIR", number=number or "ID"
        )
        raise DatasetError(f"nnU-Net itself converts {entry.name}, with {entry.nnunet_converter}. Call: {call}")
    if not entry.layout:
        raise DatasetError(
            f"the layout of {entry.name} is not known. Write the patterns of your files under `layout` in a copy of "
            f"dataset_json/{entry.name}.json, as docs/reference/dataset-json.md says, and give its path as the name"
        )


def dataset_header(entry: DataSet) -> dict[str, Any]:
    """Return what dataset.json says beside the cases: labels, channels, and where all of it came from.

    A CT channel is called CT, so that nnU-Net takes its CT normalisation; `image_channels` keeps the authors' names.

    Raises:
        ValueError: a name that nnU-Net gives a meaning of its own.
    """
    if taken := {"background", "ignore"} & entry.labels.keys():
        raise DatasetError(f"{entry.name}: nnU-Net keeps the name {min(taken)} for itself; name the label differently")
    names = [channel_names([c["name"]], c["modality"] == "CT")["0"] for c in entry.channels]
    return {
        "name": entry.name,
        "description": entry.title,
        "reference": entry.url,
        "licence": entry.licence,
        "citation": entry.citation,
        "catalogue": {
            "name": entry.name,
            "version": entry.version,
            "labels": entry.labels,
            "label_aliases": dict(entry.label_aliases or {}),
            "optional_labels": list(entry.optional_labels),
            "verified": entry.verified,
        },
        "channel_names": dict(zip(map(str, range(len(names))), names, strict=True)),
        "image_channels": [c["name"] for c in entry.channels],
        "labels": {"background": 0} | consecutive_ids(entry),
    }


def _compare_counts(entry: DataSet, train: Sequence[CaseJob], tests: Sequence[CaseJob]) -> None:
    """Compare the numbers with those of the entry, whose authors may count cases or subjects."""
    for what, jobs, count in (("training", train, entry.cases["train"]), ("test", tests, entry.cases["test"])):
        subjects = len({job.subject for job in jobs})
        if jobs and count is not None and count not in (len(jobs), subjects):
            of = f" of {subjects} subjects" if subjects < len(jobs) else ""
            log.warning(
                "%d %s cases%s are found, the catalogue counts %d for %s: is the download complete, and are these "
                "the files of one version?", len(jobs), what, of, count, entry.name,
            )  # fmt: skip


def _check_room(train: Sequence[CaseJob], tests: Sequence[CaseJob], dataset: RawDataset) -> None:
    """Say how much will be written: label maps about as large as the native ones, and images that are converted.

    Raises:
        OSError: there is less room.
    """
    folder = dataset.folder
    missing = [job for job in train if not _is_there(folder / "labelsTr", job.name)]
    missing += [job for job in tests if not _is_there(folder / "imagesTs", job.name, "_0000")]
    written = [path for job in missing for path in job.labels.values()]
    written += [path for job in missing for path in job.images if not _stays(path)]
    need = sum(os.path.getsize(path) for path in written if os.path.isfile(path))
    made = f"{len(missing)} of {len(train) + len(tests)} training and test cases are to be made:"
    dataset.check_room(made, need)


def _is_there(folder: Path, case: str, channel: str = "") -> bool:
    return (folder / f"{safe_name(case)}{channel}{ENDING}").is_file()


def _stays(path: str) -> bool:
    """Whether nothing is written for this image: nnU-Net reads it where it is, or it is damaged and is left out."""
    try:
        return readable_in_place(path)
    except DatasetError:
        return True


def _named_apart(tests: Sequence[CaseJob], train: Sequence[CaseJob]) -> list[CaseJob]:
    """Test cases as files can be called; those that have the name of a training case get `_test` after it."""
    names = CaseNames()
    for job in train:
        names.take(safe_name(job.name))
    taken = {safe_name(job.name).casefold() for job in train}
    same = {job.name for job in tests if safe_name(job.name).casefold() in taken}
    if same:
        log.warning(
            "%d test cases have the names of training cases (%s, ...): in imagesTs they are called %s_test, ...",
            len(same), min(same), min(same),
        )  # fmt: skip
    return [replace(job, name=names.give(job.name + "_test" * (job.name in same), job.key)) for job in tests]


def _convert_tests(jobs: Sequence[CaseJob], dataset: RawDataset, processes: int) -> Reasons:
    if not jobs:
        return []
    convert_one = partial(convert_test_case, folder=dataset.folder)
    results = for_each(convert_one, jobs, processes, desc="test cases")
    return [reason for _, reasons in results for reason in reasons]


def catalogue_rows(entries: Mapping[str, DataSet]) -> list[tuple[str, ...]]:
    """Name, training cases, access, who converts, title; a header first."""
    rows: list[tuple[str, ...]] = [("name", "cases", "access", "converted by", "title")]
    for name, entry in entries.items():
        count = entry.cases["train"]
        by = entry.no_masks or entry.nnunet_converter or (CREATED_BY if entry.layout else "layout not known")
        rows.append((name, "?" if count is None else str(count), entry.access or "?", by, entry.title))
    return rows


def catalogue_lines() -> list[str]:
    """Return the shipped catalogue as lines of text: a row for each entry, and how many there are."""
    entries = {name: load_dataset(name) for name in shipped()}
    rows = catalogue_rows(entries)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{name:{widths[0]}}  {cases:>{widths[1]}}  {access:{widths[2]}}  {by:{widths[3]}}  {title}"
        for name, cases, access, by, title in rows
    ]
    return [*lines, "", count_sets(entries.values())]
