"""The kinds of studies: few labels, folds, epochs of fine-tuning; `pool.py` has the one of pools.

few_label: does a variant pay when few subjects have labels? cross_validation: variants compared in the folds of
nnU-Net, each subject scored once. transfer: pre-training checkpoints, fine-tuned for several numbers of epochs, and the
same from scratch. pool: one network of a pool against networks of its sources.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.studies.datasets import asked_set
from nnunet_xlstm.studies.kind import Axis, Kind
from nnunet_xlstm.studies.pool import POOL
from nnunet_xlstm.studies.study import LabelledSet, Run, Study


def draw_order(subjects: Iterable[str], seed: int) -> list[str]:
    """Draw an order of the subjects: its first n are the subset of n labels, so subsets of one seed are nested."""
    return np.random.default_rng(seed).permutation(sorted(set(subjects))).tolist()


def _drawn_cases(study: Study, data: LabelledSet, run: Run) -> list[str]:
    """Return the cases of as many subjects as the run has labels."""
    chosen = set(study.orders[str(run.seed)][: run.value])
    return [case for case in data.training_cases if data.subjects[case] in chosen]


def _with_orders(study: Study) -> Study:
    """Return the study with an order of the training subjects for each seed.

    Raises:
        ConfigError: there are fewer training subjects than labels were asked for.
    """
    (data,) = study.sets
    subjects = {data.subjects[case] for case in data.training_cases}
    if max(study.values) > len(subjects):
        raise ConfigError(
            f"labels {max(study.values)}: {data.dataset} has {len(subjects)} training subjects with labels (test "
            "subjects do not count); give smaller numbers"
        )
    return replace(study, orders={str(seed): draw_order(subjects, seed) for seed in range(study.seeds)})


FEW_LABEL = Kind(
    name="few_label",
    title="Few-label study",
    takes=("labels", "iterations", "test_subjects", "subjects", "subject"),
    find_sets=asked_set,
    needs=("dataset", "labels", "variants"),
    axis=Axis(key="labels", letter="n", unit="labelled subject"),
    seeds=3,
    reading="Intervals: bootstrap over test subjects, with these drawn labels. SD of seeds: how much drawn labels and "
    "initial weights matter.",
    completed=_with_orders,
    training_cases=_drawn_cases,
)

CROSS_VALIDATION = Kind(
    name="cross_validation",
    title="Cross-validation",
    takes=("folds", "iterations", "subjects", "subject"),
    find_sets=asked_set,
    scored_on="folds",
    length="recipe",
    reading="Each subject is scored once, by the network of the fold that has not seen it. Intervals: bootstrap over "
    "these subjects. The networks of the folds share most of their training subjects, so intervals say how far the "
    "result holds for other subjects, not for other training data. SD of folds: subjects and networks differ together.",
    compared=True,
)

TRANSFER = Kind(
    name="transfer",
    title="Transfer study",
    takes=("epochs", "folds", "test_subjects", "subjects", "subject"),
    find_sets=asked_set,
    needs=("dataset", "epochs", "variants"),
    axis=Axis(key="epochs", letter="e", unit="epoch"),
    scored_on="either",
    length="epochs",
    reading="Every number of epochs is a training of its own, with the whole schedule of its recipe. Intervals: "
    "bootstrap over the scored subjects; they do not count how much another seed or other training data would change.",
)

KINDS = {kind.name: kind for kind in (FEW_LABEL, CROSS_VALIDATION, TRANSFER, POOL)}
