"""Which cases a semi-supervised run takes as unlabelled, and what is refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetBaseDataset
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_xlstm.datasets.case_index import NAME, read_pool_cases
from nnunet_xlstm.datasets.case_table import TEST_SUBJECTS, read_test_subjects
from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.nnunet.training.run_config import planned

# what decides how an image looks to the network, in a configuration and in the plans
_OF_CONFIGURATION = ("preprocessor_name", "spacing", "normalization_schemes", "use_mask_for_norm")
_OF_PLANS = ("transpose_forward", "foreground_intensity_properties_per_channel")


@dataclass(frozen=True)
class Preprocessed:
    """The preprocessed folder of a labelled data set, and what a run takes from it.

    Attributes:
        folder: of the data set in nnUNet_preprocessed.
        plans: content of the plans' file.
        configuration: its name, such as 3d_fullres.
        training: cases of the fold.
        validation: cases of the fold.
    """

    folder: Path
    plans: dict[str, Any]
    configuration: str
    training: Sequence[str]
    validation: Sequence[str]


def find_unlabelled(name: str | None, labelled: Preprocessed) -> nnUNetBaseDataset:
    """Return the unlabelled cases, as nnU-Net's data set.

    Args:
        name: id or name of their data set; None for the labelled set's own cases outside of the fold.
        labelled: the labelled set and the fold of it that the run trains.

    Raises:
        ConfigError: no such data set, or none that is preprocessed with the labelled set's plans.
        DatasetError: no case is left, or one is of a subject that is validated on or kept for the test.
    """
    folder = labelled.folder if name is None else _folder(name, labelled)
    data = folder / planned(labelled.plans, labelled.configuration).data_identifier
    if folder != labelled.folder:
        _check_same_plans(folder, data, labelled)
    kind = infer_dataset_class(str(data))
    cases = sorted(map(str, kind.get_identifiers(str(data))))
    if folder == labelled.folder:
        cases = [case for case in cases if case not in {*labelled.training, *labelled.validation}]
    if not cases:
        raise DatasetError(
            f"unlabelled = {name or 'null'}: {data} holds no case beside those that the fold trains and validates on; "
            "name a data set of unlabelled images (made by `nnunet_xlstm unlabelled`), or leave cases out of the fold "
            "in splits_final.json"
        )
    _check_apart(cases, folder, labelled)
    return kind(str(data), cases)


def _folder(name: str, labelled: Preprocessed) -> Path:
    try:
        return labelled.folder.parent / maybe_convert_to_dataset_name(int(name) if name.isdigit() else name)
    except RuntimeError as error:
        raise ConfigError(
            f"unlabelled = {name}: no data set of this id or name in nnUNet_raw or nnUNet_preprocessed; make it with "
            "`nnunet_xlstm unlabelled`"
        ) from error


def _check_same_plans(folder: Path, data: Path, labelled: Preprocessed) -> None:
    """Refuse images that were preprocessed otherwise than the labelled ones."""
    plans, own = labelled.plans["plans_name"], labelled.folder.name
    fix = (
        f"run `nnUNetv2_move_plans_between_datasets -s {own} -t {folder.name} -sp {plans} -tp {plans}`, then "
        f"`nnUNetv2_preprocess -d {folder.name[7:10]} -plans_name {plans} -c {labelled.configuration}`"
    )
    path = folder / f"{plans}.json"
    if not path.is_file() or not data.is_dir():
        missing = path if not path.is_file() else data
        raise ConfigError(f"unlabelled = {folder.name}: {missing} is missing; {fix}")
    theirs = read_json(path, dict)
    if labelled.configuration not in theirs.get("configurations", {}):
        raise ConfigError(f"unlabelled = {folder.name}: {path} lacks {labelled.configuration}; {fix}")
    rows = [planned(content, labelled.configuration).configuration for content in (theirs, labelled.plans)]
    for keys, (first, second) in ((_OF_CONFIGURATION, rows), (_OF_PLANS, (theirs, labelled.plans))):
        for key in keys:
            if first.get(key) != second.get(key):
                raise ConfigError(
                    f"unlabelled = {folder.name}: {key} in {path} differs from that of {own}, and images must be "
                    f"preprocessed alike; {fix}"
                )


def _check_apart(cases: Collection[str], folder: Path, labelled: Preprocessed) -> None:
    """Refuse to learn from images of subjects that the fold validates on, or that are kept for the test.

    A case without an entry in pool_cases.json is a subject of its own.
    """
    own, theirs = _subjects(labelled.folder), _subjects(folder)
    validated = set(labelled.validation) - set(labelled.training)  # fold `all` validates on what it trains on
    path = Path(str(nnUNet_raw)) / labelled.folder.name / f"{TEST_SUBJECTS}.json"
    tested = read_test_subjects(path) if path.is_file() else set()
    kept = {own.get(case, case) for case in validated} | validated | tested
    if common := [case for case in cases if case in kept or theirs.get(case) in kept]:
        raise DatasetError(
            f"unlabelled = {folder.name}: {len(common)} of its cases belong to subjects that the fold validates on or "
            f"that {path.name} keeps for the test, such as {common[0]}; their scores would be too good: take them out "
            f"of {folder.name}, or move them in splits_final.json"
        )


def _subjects(folder: Path) -> dict[str, str]:
    path = folder / NAME
    return read_pool_cases(path).column("subject") if path.is_file() else {}
