"""The split of cases into training and validation, as a user writes it into splits_final.json."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.write import write_json

N_FOLDS, SEED = 5, 12345  # of nnU-Net's own split


def check_splits(path: Path, fold: int | str, cases: Collection[str]) -> None:
    """Check the entry of a fold in a splits file; where there is none, that nnU-Net can make its own five folds.

    Args:
        path: of splits_final.json.
        fold: that is trained; a fold beyond the file's gets nnU-Net's random split.
        cases: names of the preprocessed cases.

    Raises:
        DatasetError: too few cases for five folds; or the file is not a list of splits, the fold has no cases to train
            or to validate on, or it names a case that is not there.
    """
    if fold == "all":
        return
    if not Path(path).is_file():
        if len(cases) < N_FOLDS:
            raise DatasetError(
                f"{Path(path).parent.name} has {len(cases)} preprocessed cases, too few for {N_FOLDS} folds; train on "
                f"fold `all` in place of {fold}, or write your own split into {path}"
            )
        return
    splits = read_json(path, list)
    if int(fold) >= len(splits):
        return
    split = splits[int(fold)]
    for key in ("train", "val"):
        named = split.get(key) if isinstance(split, dict) else None
        if not isinstance(named, list) or not all(isinstance(case, str) for case in named):
            raise DatasetError(f"{path}: fold {fold} must be an object with a list of case names `{key}`")
        if not named:
            raise DatasetError(
                f"{path}: `{key}` of fold {fold} is empty, and nnU-Net needs a case there; name one, or train on fold "
                "`all`, which needs no split"
            )
        if missing := [case for case in named if case not in cases]:
            raise DatasetError(
                f"{path}: `{key}` of fold {fold} names {len(missing)} cases that are not among the {len(cases)} "
                f"preprocessed ones, such as '{missing[0]}'; preprocess them (nnUNetv2_preprocess), or take them out"
            )


def write_splits(path: Path, cases: Collection[str]) -> None:
    """Write nnU-Net's own five folds, unless there is a file.

    nnU-Net writes the same ones, but in place: a run that is killed meanwhile leaves half a file, which no later run
    can read, and of two ranks one may read what the other has not yet written.
    """
    if not Path(path).is_file():
        write_json(path, generate_crossval_split(sorted(map(str, cases)), seed=SEED, n_splits=N_FOLDS))
