"""A study: everything that decides its results (study.json), and the runs that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.evaluation.run import Outputs
from nnunet_xlstm.io.write import write_json
from nnunet_xlstm.studies.kind import Kind
from nnunet_xlstm.studies.request import Variant

FILE = "study.json"
MAX_NUMBER = 1_000_000  # of a seed, fold, label or epoch
Fold = dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """A data set that networks are trained on or scored on.

    Attributes:
        name: of the folder, or of the source in its pool.
        raw, preprocessed: folders.
        subjects: of every labelled case.
        test_cases: sorted; no run trains on them.
        folds: of its splits_final.json, where they are scored on.
        channels: of a pool's source: the channels that the pool takes, in its order.
        unscored: classes that not all variants can make; left out for all.
    """

    name: str
    raw: Path
    preprocessed: Path
    subjects: dict[str, str]
    test_cases: list[str] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    unscored: list[str] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        """Return its name in nnU-Net, such as Dataset004_Hippocampus."""
        return self.raw.name

    @property
    def tested(self) -> set[str]:
        """Return the test subjects."""
        return {self.subjects[case] for case in self.test_cases}

    @property
    def training_cases(self) -> list[str]:
        """Return the labelled cases of all other subjects, sorted."""
        tested = self.tested
        return [case for case, subject in sorted(self.subjects.items()) if subject not in tested]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Cases that runs are scored on; those of one data set are joined."""

    name: str
    data: LabelledSet
    cases: list[str]
    validated: bool = False  # nnU-Net predicts them at the end of a training


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training. Everything of it lies in a folder of its own, so that runs never share files.

    Attributes:
        trained_on: the data set's name.
        value: on the axis of the study.
        fold: of nnU-Net.
        parts: names of what it is scored on.
    """

    study_folder: Path
    id: str
    variant: str
    trained_on: str
    seed: int
    parts: tuple[str, ...]
    value: int | None = None
    fold: int | None = None

    @property
    def folder(self) -> Path:
        """Return the folder of everything that the run writes."""
        return self.study_folder / "runs" / self.id

    def result_folder(self, part: str) -> Path:
        """Return where predictions and scores of a part lie."""
        return self.folder if len(self.parts) == 1 else self.folder / "scored" / part

    def summary(self, part: str) -> Path:
        """Return the last thing that a run writes of a part."""
        return self.result_folder(part) / "summary.json"

    def is_scored(self, part: str) -> bool:
        """Return whether the scores of a part are written."""
        return Outputs(self.summary(part)).are_complete

    @property
    def is_done(self) -> bool:
        """Return whether all parts are scored."""
        return all(map(self.is_scored, self.parts))


@dataclass(frozen=True, kw_only=True)
class Study:
    """Every variant is trained at every value, in every fold, with every seed.

    Attributes:
        sets: one data set; or a pool, and then its sources.
        pooled: variants that are trained on the pool.
        values: on the axis of the kind, ascending.
        folds: numbers.
        seeds: there are 0 to seeds - 1.
        iterations, epoch: training steps of every run, and of an epoch; None: what the kind or the recipe says.
        config: keys of all trainers.
        hashes: SHA-256 of what the results rest on: checkpoints and plans.
        orders: seed -> training subjects in the order drawn.
        versions: of the packages when the study was begun.
    """

    kind: Kind
    folder: Path
    configuration: str
    sets: list[LabelledSet]
    variants: list[Variant]
    seeds: int
    values: list[int] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)
    pooled: list[str] = field(default_factory=list)
    iterations: int | None = None
    epoch: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    orders: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def variant(self, name: str) -> Variant:
        """Return the variant of a name."""
        return next(variant for variant in self.variants if variant.name == name)

    def data(self, name: str) -> LabelledSet:
        """Return the data set of a name."""
        return next(data for data in self.sets if data.name == name)

    @property
    def scored_sets(self) -> list[LabelledSet]:
        """Return the data sets that runs are scored on: all but a pool."""
        return self.sets[1:] or self.sets

    def parts(self) -> list[Part]:
        """Return everything that runs are scored on."""
        if self.folds:
            (data,) = self.sets
            return [
                Part(name=f"fold_{fold}", data=data, cases=sorted(data.folds[fold]["val"]), validated=True)
                for fold in self.folds
            ]
        several = len(self.sets) > 1
        return [Part(name=d.name if several else "test", data=d, cases=d.test_cases) for d in self.scored_sets]

    def case_folder(self, part: Part) -> Path:
        """Return where links to the images and label maps of a part lie."""
        return self.folder / "scored" / part.name

    def trained_on(self, variant: Variant) -> list[LabelledSet]:
        """Return the data sets that a variant is trained on, each in runs of its own."""
        return self.sets[:1] if len(self.sets) == 1 or variant.name in self.pooled else self.sets[1:]

    def runs(self) -> list[Run]:
        """Seed by seed, value by value, fold by fold, so that a study that is cut off compares all variants."""
        values: Sequence[int | None] = self.values or [None]
        folds: Sequence[int | None] = self.folds or [None]
        return [
            self._run(variant, data, value, fold, seed)
            for seed in range(self.seeds)
            for value in values
            for fold in folds
            for variant in self.variants
            for data in self.trained_on(variant)
        ]

    def _run(self, variant: Variant, data: LabelledSet, value: int | None, fold: int | None, seed: int) -> Run:
        parts = [part.name for part in self.parts() if fold is None or part.name == f"fold_{fold}"]
        if len(self.sets) > 1 and variant.name not in self.pooled:
            parts = [data.name]
        words = [self.label(variant, data), *self.kind.id_words(value)]
        words += [] if fold is None else [f"f{fold}"]
        return Run(
            study_folder=self.folder, id="_".join([*words, f"s{seed}"]), variant=variant.name, trained_on=data.name,
            seed=seed, parts=tuple(parts), value=value, fold=fold,
        )  # fmt: skip

    def label(self, variant: Variant, data: LabelledSet) -> str:
        """Return the variant's name; with the data set where the variant is trained on several."""
        return variant.name if self.trained_on(variant) == self.sets[:1] else f"{variant.name}@{data.name}"

    def split(self, run: Run) -> tuple[list[Fold], int]:
        """Return the splits_final.json of a run, and the fold of it that is trained.

        nnU-Net wants a validation case. Where folds are not scored on, it gets one that it trains on, and no further
        label is read.
        """
        data = self.data(run.trained_on)
        if run.fold is not None:
            return data.folds, run.fold
        cases = self.kind.training_cases(self, data, run)
        return [{"train": cases, "val": cases[:1]}], 0

    def length(self, run: Run) -> tuple[int, int] | None:
        """Return epochs and iterations per epoch; None: those of the trainer's recipe."""
        if self.epoch is None:
            return None
        if self.kind.length == "epochs":
            epochs = run.value
        else:
            epochs = None if self.iterations is None else self.iterations // self.epoch
        return None if epochs is None else (epochs, self.epoch)

    def save(self) -> None:
        """Write study.json.

        Raises:
            WriteError: it cannot be written.
        """
        content = asdict(self) | {"kind": self.kind.name, "folder": str(self.folder)}
        content["sets"] = [row | {key: str(row[key]) for key in ("raw", "preprocessed")} for row in content["sets"]]
        write_json(self.folder / FILE, content)


def select(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """Return the runs whose id matches one of the patterns (as file names do); all where there is no pattern.

    Raises:
        ConfigError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(run.id, pattern) for run in runs):
            raise ConfigError(f"--only {pattern}: no such run; there are {', '.join(run.id for run in runs)}")
    return [run for run in runs if not patterns or any(fnmatchcase(run.id, pattern) for pattern in patterns)]
