"""What a study of frozen features is asked for, and its plan: which cases do what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, kw_only=True)
class FeaturesRequest:
    """Settings of a study of frozen features.

    Attributes:
        checkpoint: of a pre-training run.
        dataset: raw data set: id, name or folder.
        out: folder of the results.
        encoders: names of choices.ENCODERS.
        probe: fit and score a linear classifier of voxels.
        knn: labels that neighbours are asked for: NAME or NAME=FILE.
        pca: number of cases in pictures.
        test_subjects: file; None: test_subjects.json of the data set.
        subjects: file with the subject of every case.
        subject: regular expression that finds the subject in a case's name.
        max_cases: that are used (training cases with a probe); None: all.
        layers: ["all"], or "bottleneck" and numbers of stages.
        each_layer: also probe every stage alone.
        voxels: that fit the probe.
        neighbors: for knn.
        slices: for pictures.
        spacing: in mm, in the order of plans; None: of the pre-training.
        channel: of the data set, for an encoder of one channel.
        seed: of voxels, cases and the untrained and permuted encoder.
        allow_import: packages whose network classes the checkpoint may name.
        device: that torch has.
    """

    checkpoint: Path
    dataset: str
    out: Path
    encoders: Sequence[str]
    probe: bool
    knn: Sequence[str]
    pca: int
    test_subjects: Path | None
    subjects: Path | None
    subject: str | None
    max_cases: int | None
    layers: Sequence[str]
    each_layer: bool
    voxels: int
    neighbors: int
    slices: int
    spacing: Sequence[float] | None
    channel: int | None
    seed: int
    allow_import: Sequence[str]
    device: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The work of a study of features.

    Attributes:
        asked: the settings that hold as they were given.
        encoders: of choices.ENCODERS.
        train: cases that fit the probe; empty without one.
        test: cases that score it, likewise.
        cases: all, sorted; neighbours and ranks are of these.
        subjects: of every case.
        labels: name -> case -> what the neighbours are asked for.
        shown: cases in the picture.
        stages: of a hypercolumn; None for all.
    """

    asked: FeaturesRequest
    encoders: Sequence[str]
    train: Sequence[str]
    test: Sequence[str]
    cases: Sequence[str]
    subjects: Mapping[str, str]
    labels: Mapping[str, Mapping[str, str]]
    shown: Sequence[str]
    stages: Sequence[int] | None


def spread_over_subjects(cases: Iterable[str], subjects: Mapping[str, str], n: int, seed: int) -> list[str]:
    """Draw at most n cases with a seed: one of each subject before a second one of any."""
    rng = np.random.default_rng(seed)
    cases = sorted(cases)
    order = [cases[i] for i in rng.permutation(len(cases))]
    seen: Counter = Counter()
    turn = {}
    for case in order:
        turn[case] = seen[subjects[case]]
        seen[subjects[case]] += 1
    return sorted(sorted(order, key=turn.__getitem__)[:n])
