"""A few-label study: everything that decides its results (study.json), and the runs that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.evaluation.run import Outputs
from nnunet_xlstm.io.files import read_json, write_json
from nnunet_xlstm.studies.request import Arm

FILE = "study.json"
KIND = "few_label"


@dataclass(frozen=True)
class Study:
    """All arms are trained with every number of labelled subjects and every seed.

    Attributes:
        raw, preprocessed: folders of the data set.
        labels: numbers of subjects, ascending. seeds: there are 0 to seeds - 1.
        iterations, epoch: training steps of every run, and of an epoch. config: keys of all trainers.
        hashes: SHA-256 of what the results rest on: checkpoints and plans, by "arm NAME" and by the plans' name.
        subjects: of every labelled case. test_cases: sorted.
        orders: seed -> training subjects in the order drawn; n labels are the first n.
        versions: of the packages when the study was begun.
    """

    folder: Path
    raw: Path
    preprocessed: Path
    configuration: str
    labels: list[int]
    seeds: int
    arms: list[Arm]
    iterations: int
    epoch: int
    config: dict[str, Any]
    hashes: dict[str, str]
    subjects: dict[str, str]
    test_cases: list[str]
    orders: dict[str, list[str]]
    versions: dict[str, str]

    @property
    def dataset(self) -> str:
        """Such as Dataset004_Hippocampus."""
        return self.raw.name

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def cases(self, labels: int, seed: int) -> list[str]:
        """The labelled cases that a run sees."""
        chosen = set(self.orders[str(seed)][:labels])
        return [case for case, subject in sorted(self.subjects.items()) if subject in chosen]

    def runs(self) -> list[Run]:
        """Seed by seed, so that a study that is cut off compares all arms."""
        return [
            Run(self.folder, arm.name, labels, seed)
            for seed in range(self.seeds)
            for labels in self.labels
            for arm in self.arms
        ]

    def save(self) -> None:
        places = {name: str(getattr(self, name)) for name in ("folder", "raw", "preprocessed")}
        write_json(self.folder / FILE, {"kind": KIND, **asdict(self), **places})


@dataclass(frozen=True)
class Run:
    """One training. Everything of it lies in a folder of its own, so that runs never share files."""

    study_folder: Path
    arm: str
    labels: int
    seed: int

    @property
    def id(self) -> str:
        return f"{self.arm}_n{self.labels}_s{self.seed}"

    @property
    def folder(self) -> Path:
        return self.study_folder / "runs" / self.id

    @property
    def summary(self) -> Path:
        """The last thing that a run writes."""
        return self.folder / "summary.json"

    @property
    def is_done(self) -> bool:
        return Outputs(self.summary).are_complete


def read_study(folder: Path) -> Study | None:
    """The study of a folder; None where there is none yet.

    Raises:
        ValueError: its file is not of a study of this kind.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        if content.pop("kind") != KIND:
            raise ConfigError(f"not of the kind {KIND}")
        arms = [Arm(**row) for row in content.pop("arms")]
        places = {name: Path(content.pop(name)) for name in ("raw", "preprocessed")}
        content.pop("folder")  # it may have been moved
        return Study(folder=folder, arms=arms, **places, **content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a study of this version ({error}); give another -o") from error


def draw_order(subjects: Iterable[str], seed: int) -> list[str]:
    """The subjects in a random order: its first n are the subset of n labels, so subsets of one seed are nested."""
    return np.random.default_rng(seed).permutation(sorted(set(subjects))).tolist()


def check_same(stored: Study, wanted: Study) -> None:
    """A study goes on with the settings that it was begun with; arms, labels and seeds may be added.

    Raises:
        ValueError: names the first difference.
    """
    for arm in stored.arms:
        for name, was in asdict(arm).items():
            if name != "checkpoint":  # where it lies does not matter, its hash is compared below
                _check(f"arm '{arm.name}': {name}", was, getattr(wanted.arm(arm.name), name))
    for name in ("dataset", "configuration", "iterations", "epoch", "config"):
        _check(name, getattr(stored, name), getattr(wanted, name))
    for name in ("hashes", "subjects", "orders"):
        before, now = getattr(stored, name), getattr(wanted, name)
        for key in before if name != "subjects" else {**before, **now}:
            _check(f"{name} of {key}", before.get(key), now.get(key))
    _check("test cases", stored.test_cases, wanted.test_cases)


def _check(what: str, was: Any, now: Any) -> None:
    if was != now:
        raise ConfigError(
            f"this study was begun with another setting; {what}: was {was!r}, is {now!r}. Leave it as it was "
            "(arms, labels and seeds may be added), or give another -o"
        )


def select(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """The runs whose id matches one of the patterns (as file names do); all where there is no pattern.

    Raises:
        ValueError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(run.id, pattern) for run in runs):
            raise ConfigError(f"--only {pattern}: no such run; there are {', '.join(run.id for run in runs)}")
    return [run for run in runs if not patterns or any(fnmatchcase(run.id, pattern) for pattern in patterns)]
