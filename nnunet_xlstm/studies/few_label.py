"""`study few_label`: does an arm pay when few subjects have labels?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.studies.datasets import asked_set
from nnunet_xlstm.studies.kind import Axis, Kind
from nnunet_xlstm.studies.study import LabelledSet, Run, Study


def draw_order(subjects: Iterable[str], seed: int) -> list[str]:
    """The subjects in a random order: its first n are the subset of n labels, so subsets of one seed are nested."""
    return np.random.default_rng(seed).permutation(sorted(set(subjects))).tolist()


def drawn_cases(study: Study, data: LabelledSet, run: Run) -> list[str]:
    """The cases of as many subjects as the run has labels."""
    chosen = set(study.orders[str(run.seed)][: run.value])
    return [case for case in data.training_cases if data.subjects[case] in chosen]


def with_orders(study: Study) -> Study:
    """The study with an order of the training subjects for each seed.

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


KIND = Kind(
    name="few_label",
    what="every arm with N labelled subjects, for several N and draws, at equal iterations",
    title="Few-label study",
    takes=("labels", "iterations", "test_subjects", "subjects", "subject"),
    find_sets=asked_set,
    needs=("dataset", "labels", "arms"),
    axis=Axis(key="labels", letter="n", unit="labelled subject"),
    seeds=3,
    reading="Intervals: bootstrap over test subjects, with these drawn labels. SD of seeds: how much drawn labels and "
    "initial weights matter.",
    completed=with_orders,
    training_cases=drawn_cases,
)
