"""Phantoms as a complete nnU-Net raw data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm.catalogue.entries import load_dataset
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.write import write_image
from nnunet_xlstm.io.write import write_json
from nnunet_xlstm.phantoms.heart import MODALITIES, PHASES, make_case

N_FOLDS = 5  # of the cross-validation, by subject


def dataset_facts() -> dict[str, Any]:
    """Return names, labels and channels of the phantom set for nnU-Net, from its entry in the catalogue."""
    entry = load_dataset("HeartPhantom")
    return {
        "name": entry.name,
        "description": entry.title,
        "reference": "nnunet_xlstm",
        "licence": entry.licence,
        "channel_names": {str(i): channel["name"] for i, channel in enumerate(entry.channels)},
        "labels": {"background": 0, **entry.labels},
        "file_ending": ".nii.gz",
    }


def write_dataset(folder: Path, n_train: int, n_test: int, seed: int = 0) -> Path:
    """Write a complete nnU-Net raw dataset with labelled test cases and folds that keep a subject's phases together.

    Args:
        folder: made if missing; nnU-Net wants the name DatasetXXX_Name.
        n_train: training images, not subjects; a subject gives one image per phase, and subjects alternate CT and MR.
        n_test: test images, likewise.
        seed: of the whole set; the subjects' own seeds follow from it.
    """
    n_train_subjects = -(-n_train // len(PHASES))
    if n_train_subjects < N_FOLDS:
        raise DatasetError(
            f"{n_train} training images of {len(PHASES)} phases are {n_train_subjects} subjects; {N_FOLDS} folds by "
            f"subject need at least {N_FOLDS}, so use {N_FOLDS * len(PHASES)} images or more."
        )
    train = _write_cases(folder, "Tr", n_train, _subject_seeds(seed, 0, n_train_subjects))
    _write_cases(folder, "Ts", n_test, _subject_seeds(seed, 1, -(-n_test // len(PHASES))))

    facts = dataset_facts() | {"numTraining": n_train, "seed": seed}
    write_json(folder / "dataset.json", facts)
    folds = [[name for name, subject in train.items() if subject % N_FOLDS == fold] for fold in range(N_FOLDS)]
    splits = [{"train": [name for name in train if name not in val], "val": val} for val in folds]
    write_json(folder / "splits_final.json", splits)
    return folder


def _subject_seeds(seed: int, group: int, n: int) -> list[int]:
    return np.random.SeedSequence(seed, spawn_key=(group,)).generate_state(n, np.uint64).tolist()


def _write_cases(folder: Path, suffix: str, n: int, seeds: Sequence[int]) -> dict[str, int]:
    """Write n images with labels; returns name -> number of its subject."""
    images, labels = folder / f"images{suffix}", folder / f"labels{suffix}"
    names = {}
    for index in range(n):
        subject, phase = index // len(PHASES), PHASES[index % len(PHASES)]
        modality = MODALITIES[subject % len(MODALITIES)]
        name = f"{suffix.lower()}{subject:03d}_{modality.lower()}_phase{round(100 * phase):03d}"
        image, label = make_case(seeds[subject], modality, phase)
        write_image(image, images / f"{name}_0000.nii.gz")
        write_image(label, labels / f"{name}.nii.gz")
        names[name] = subject
    return names
