"""A raw nnU-Net data set by reference: its folder, what is known of it, and all files beside its images."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.case_index import NAME, PoolCases, read_pool_cases
from nnunet_xlstm.datasets.dataset_json import NAME as DATASET_JSON
from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.datasets.ingest import ENDING, Entry
from nnunet_xlstm.datasets.subjects import folds_by_subject
from nnunet_xlstm.errors import DatasetError, UserError
from nnunet_xlstm.imaging.dicom.series import Reasons
from nnunet_xlstm.imaging.integrity import has_full_length
from nnunet_xlstm.io.paths import FILE_NAME, inside, is_file_name
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.tables import write_csv
from nnunet_xlstm.io.validate import ANY_TEXT, PLAIN_NAME, TEXT, Key, ListOf, Record, check, excerpt
from nnunet_xlstm.io.write import remove_leftovers, write_json

VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
SPLITS = "splits_final.json"
OWN_FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
MAX_ID = 999
BODY = {"background": 0, "foreground": 1}  # labels of a data set whose label maps are masks of the body
# nnU-Net chooses the normalisation by the channel's name; every other name is a z-score per case
RESERVED_CHANNELS = ("ct", "nonorm", "zscore", "rescale_to_0_1", "rgb_to_0_1")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawDataset:
    """Where a data set lies, raw and preprocessed, and the command that makes it."""

    folder: Path
    preprocessed: Path
    created_by: str

    def read(self) -> tuple[dict[str, Entry], dict[str, Any]]:
        """Finished cases, and what is remembered of the inputs; both empty for a new data set.

        All that the files name as the data set's own lies in its imagesTr and labelsTr; what else they name is read,
        never written or deleted.

        Raises:
            DatasetError: the folder holds a data set that another command made, a damaged file, or a file that names
                others outside of the folder.
        """
        self._check_folders()
        if not (self.folder / DATASET_JSON).is_file():
            if (self.folder / "imagesTr").is_dir() and not (self.folder / NAME).is_file():
                self._refuse()
            return {}, {}
        file = DatasetFile.read(self.folder)
        if file.content.get("made_by") != self.created_by:
            self._refuse()
        if not (self.folder / NAME).is_file():
            return {}, {}
        pool = read_pool_cases(self.folder / NAME)
        file.table()  # checks the rows
        rows = file.content.get("dataset", {})
        entries = {
            case: Entry(tuple(rows[case]["images"]), rows[case]["label"], record)
            for case, record in pool.cases.items()
            if case in rows
        }
        for entry in entries.values():
            for name in _own_files(entry):
                self._own(name)
        for key, memory in pool.inputs.items():
            where = f"{self.folder / NAME} (delete it, and the command starts anew)"
            check(memory, MEMORY, where, path=f"inputs[{excerpt(key)}]")
        return entries, dict(pool.inputs)

    def earlier_header(self) -> Mapping[str, Any]:
        """Return dataset.json as an earlier run of this command wrote it; empty where there is none.

        Raises:
            DatasetError: dataset.json is damaged.
        """
        content = read_json(self.folder / DATASET_JSON, dict) if (self.folder / DATASET_JSON).is_file() else {}
        return content if content.get("made_by") == self.created_by else {}

    def _refuse(self) -> None:
        raise DatasetError(f"{self.folder}: holds a data set that `{self.created_by}` did not make; give another -d")

    def mark_owned(self) -> None:
        """From now on the folder is known as ours, also if the run is killed before its first case is saved."""
        if not (self.folder / NAME).is_file():
            write_json(self.folder / NAME, PoolCases({}).to_json())

    def has_files(self, entry: Entry) -> bool:
        """Whether all that belongs to a case is still there."""
        return all((self.folder / name).is_file() for name in (*entry.images, entry.label))

    def has_whole_files(self, entry: Entry) -> bool:
        """Whether all that belongs to a case is there, and what was written here as long as its header says."""
        return self.has_files(entry) and all(has_full_length(self.folder / name) for name in _own_files(entry))

    def remove(self, entry: Entry) -> None:
        """Delete the files of a case that lie in this data set; what it refers to elsewhere stays."""
        for name in _own_files(entry):
            self._own(name).unlink(missing_ok=True)

    def _check_folders(self) -> None:
        """Refuse a folder to write into that is a link that leads out of the data set."""
        for name in OWN_FOLDERS:
            inside(self.folder, f"{name}/file", f"{self.folder / name} is a link")

    def _own(self, name: str) -> Path:
        """Return the path of a file that the data set's own dataset.json names without a folder before it.

        Raises:
            DatasetError: it is not that of a file in imagesTr or labelsTr.
        """
        where = f"{self.folder / DATASET_JSON}, `dataset`"
        folder, _, file = name.partition("/")
        if folder not in OWN_FOLDERS[:2] or not is_file_name(file):
            raise DatasetError(
                f"{where}: {name!r} is neither an absolute path nor a file in imagesTr or labelsTr; the table was "
                f"changed by other hands: restore it, or remove {self.folder} and make the data set anew"
            )
        return inside(self.folder, name, where)

    def check_room(self, what: str, need: int) -> None:
        """Say how much will be written.

        Args:
            what: becomes how large, for the log.
            need: bytes.

        Raises:
            UserError: there is less room.
        """
        existing = next(parent for parent in (self.folder, *self.folder.absolute().parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        log.info("%s about %.1f MB in %s; %.0f MB are free", what, need / 1e6, self.folder, free / 1e6)
        if need > free:
            raise UserError(f"{self.folder}: {need / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB free; make room")

    def remove_leftovers(self) -> None:
        """Delete the files that a killed run was about to write."""
        self._check_folders()
        for folder in (self.folder, *(self.folder / name for name in OWN_FOLDERS), self.preprocessed):
            remove_leftovers(folder)

    def save(self, header: Mapping[str, Any], entries: Mapping[str, Entry], sampling: str, inputs: Mapping) -> None:
        """dataset.json and pool_cases.json, in an order in which a kill between them loses nothing."""
        cases = sorted(entries)
        pool = PoolCases({case: entries[case].record for case in cases}, sampling, inputs)
        write_json(self.folder / NAME, pool.to_json())
        content = {
            "labels": BODY,
            **header,
            "numTraining": len(cases),
            "file_ending": ENDING,
            "overwrite_image_reader_writer": "SimpleITKIO",
            "made_by": self.created_by,
            "dataset": {case: {"images": list(entries[case].images), "label": entries[case].label} for case in cases},
        }
        write_json(self.folder / DATASET_JSON, content)

    def finish(self, entries: Mapping[str, Entry], left_out: Reasons) -> list[dict[str, list[str]]]:
        """Folds, excluded.csv, and the copies that the trainer reads among the preprocessed data."""
        self.write_excluded(left_out)
        path, target = self.folder / SPLITS, self.preprocessed / SPLITS
        before = read_folds(path) if path.is_file() else []
        subjects = {case: entry.record.subject for case, entry in entries.items()}
        folds = folds_by_subject(subjects, {case: entry.record.source for case, entry in entries.items()}, before)
        if folds:
            write_json(path, folds)
        else:
            path.unlink(missing_ok=True)
        if folds and not target.is_file():
            write_json(target, folds)  # nnU-Net copies it when it plans; moved plans would get folds by case
        elif target.is_file() and (old := read_json(target)) != folds:
            if old == before and folds:
                write_json(target, folds)
            else:
                log.warning("%s is not ours and stays; nnU-Net refuses it beside other folds: remove it", target)
        # nnU-Net copies dataset.json when it plans; with plans moved here from another data set it never would
        for name in (NAME, DATASET_JSON):
            write_json(self.preprocessed / name, read_json(self.folder / name))
        return folds

    def write_excluded(self, left_out: Reasons) -> Path:
        """excluded.csv: path, reason."""
        path = self.folder / "excluded.csv"
        write_csv(path, ("path", "reason"), sorted(set(left_out)))
        return path


def _own_files(entry: Entry) -> list[str]:
    """Return the files of a case that were written into its data set; references to other places are absolute."""
    return [name for name in (*entry.images, entry.label) if not os.path.isabs(name)]


# What is remembered of an input: its fingerprint, the name its cases begin with, its cases, (path, reason) left out
MEMORY = Record(
    {
        "fingerprint": Key(TEXT),
        "name": Key(FILE_NAME),
        "cases": Key(ListOf(FILE_NAME)),
        "excluded": Key(ListOf(ListOf(ANY_TEXT, lengths=(2,)))),
    },
    open=True,
)
CASES = ListOf(ANY_TEXT)
FOLDS = ListOf(Record({"train": Key(CASES), "val": Key(CASES)}, open=True))


def read_folds(path: Path) -> list[dict[str, list[str]]]:
    """Read a splits_final.json.

    Raises:
        DatasetError: not readable, or no list of {"train": [...], "val": [...]}.
    """
    folds = read_json(path)
    check(folds, FOLDS, str(path), path="folds")
    return folds


def nnunet_folder(variable: str) -> Path:
    """Return the folder of a variable of nnU-Net; raise DatasetError where it is not set."""
    if not os.environ.get(variable):
        raise DatasetError(f"{variable} is not set; give it the folder that nnU-Net uses: export {variable}=...")
    return Path(os.environ[variable])


def open_dataset(number: int, name: str | None, default: str, created_by: str) -> RawDataset:
    """Return the data set DatasetXXX_Name below nnUNet_raw; nothing is written yet.

    Args:
        number: from 1 to 999.
        name: None takes the name of an existing data set of this number, else `default`.
        default: name of a new data set.
        created_by: the command that makes the data set.

    Raises:
        ValueError: a variable is not set, or the number or name is wrong or in use.
    """
    raw, preprocessed = (nnunet_folder(variable) for variable in VARIABLES[:2])
    if not 1 <= number <= MAX_ID:
        raise DatasetError(f"-d {number}: give a number from 1 to {MAX_ID}")
    if name is not None:
        check(name, PLAIN_NAME, f"-d {number}", path="--name")
    prefix = f"Dataset{number:03d}_"
    roots = [Path(root) for variable in VARIABLES if (root := os.environ.get(variable))]
    existing = {path.name for root in roots for path in root.glob(f"{prefix}*") if path.is_dir()}
    full = f"{prefix}{name or default}" if name or not existing else min(existing)
    if existing - {full}:
        raise DatasetError(
            f"-d {number} is {', '.join(sorted(existing - {full}))} already; give another -d, or its --name"
        )
    return RawDataset(raw / full, preprocessed / full, created_by)


def channel_names(names: Sequence[str], all_ct: bool) -> dict[str, str]:
    """Return dataset.json's channel_names.

    `CT` for every channel where all images are CT, so that nnU-Net takes its CT normalisation; else the names, which
    must not choose one of the others.

    Raises:
        ValueError: a name that nnU-Net gives a meaning.
    """
    if all_ct:
        return {str(i): "CT" for i in range(len(names))}
    if wrong := [name for name in names if name.casefold() in RESERVED_CHANNELS]:
        raise DatasetError(
            f"channel '{wrong[0]}': nnU-Net takes this name as a normalisation, but images that are not all CT need "
            "the z-score; use another name"
        )
    return {str(i): name for i, name in enumerate(names)}
