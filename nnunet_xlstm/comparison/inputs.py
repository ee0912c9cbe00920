"""Inputs of a comparison: summaries that fit together, and what is known about the cases and the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm.datasets.case_table import listed
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.evaluation.summary import JOURNAL, Scores, read_scores, summary_file
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.validate import ANY_TEXT, Key, ListOf, Record, check, null_or, number, optional

SETTINGS = ("nsd_tolerance", "hd95", "both_empty", "one_empty")  # of a definition; the rest of it is prose
GIVE_COSTS = "give the output of `nnunet_xlstm cost ... --json`."
COSTS = {"gmac": "GMAC", "params_m": "parameters (M)", "activation_mb": "activations (MB)"}
COST_ROW = {"name": Key(ANY_TEXT)} | dict.fromkeys(COSTS, optional(null_or(number(0, 1e30))))


@dataclass(frozen=True)
class ModelScores:
    """The scores of all models on the same cases and classes.

    Attributes:
        names: of the models, in the order given.
        cases: sorted.
        classes: class key -> name.
        values: metric -> (models, cases, classes), NaN where unknown; the metrics that every summary has.
        definition: of the metrics; empty for nnU-Net's own files.
        left_out: model -> its cases that not all models have (only with `common`).
        failed: model -> its cases that could not be scored (only with `common`).
    """

    names: list[str]
    cases: list[str]
    classes: dict[str, str]
    values: dict[str, np.ndarray]
    definition: Mapping[str, Any]
    left_out: dict[str, list[str]]
    failed: dict[str, list[str]] = field(default_factory=dict)

    def both_empty(self) -> np.ndarray:
        """Mark where neither reference nor prediction has the class: the model is right, (models, cases, classes)."""
        if {"n_ref", "n_pred"} <= self.values.keys():
            return (self.values["n_ref"] == 0) & (self.values["n_pred"] == 0)
        if "Dice" in self.values:
            return np.isnan(self.values["Dice"])
        return np.zeros((len(self.names), len(self.cases), len(self.classes)), bool)


def read_models(sources: Sequence[tuple[str, Path]], common: bool = False) -> ModelScores:
    """Read the summary.json of every model and check that they may be compared.

    Args:
        sources: (name, summary.json or its folder).
        common: compare on the cases that all of them have.

    Raises:
        DatasetError: names that are empty or occur twice, an evaluation in which cases failed, other cases, classes,
            definitions or references.
    """
    names = [name for name, _ in sources]
    if not names:
        raise DatasetError("No model was given; give NAME=summary.json at least once.")
    if any(not name.strip() for name in names) or len(set(names)) < len(names):
        raise DatasetError(f"The models are named {names}; give every model a name of its own: NAME=summary.json.")
    read = {name: read_scores(path) for name, path in sources}
    first = read[names[0]]
    for name, path in sources:
        scores = read[name]
        _check_complete(name, path, scores, common)
        _check_classes(names[0], first, name, scores)
        _check_definition(names[0], first.definition, name, scores.definition)
    cases, left_out = _cases({name: scores.cases for name, scores in read.items()}, common)
    metrics = [metric for metric in first.values if all(metric in scores.values for scores in read.values())]
    values = {}
    for metric in metrics:
        values[metric] = np.stack([_aligned(scores, metric, cases, list(first.classes)) for scores in read.values()])
    failed = {name: sorted(scores.failed) for name, scores in read.items() if scores.failed}
    models = ModelScores(names, cases, _class_names(read), values, first.definition, left_out, failed)
    _check_references(models)
    return models


def _check_complete(name: str, path: Path, scores: Scores, common: bool) -> None:
    path = summary_file(path)
    journal = path.with_name(f"{path.name}{JOURNAL}")
    if journal.exists() and not scores.failed:
        raise DatasetError(
            f"'{name}': {path} is older than an evaluation that has not ended ({journal.name} is beside it); run "
            "`nnunet_xlstm evaluate` again."
        )
    if scores.failed and not common:
        raise DatasetError(
            f"'{name}': {path} says that {listed(sorted(scores.failed))} could not be scored; mend what it says there "
            "and run `nnunet_xlstm evaluate` again, or use --common to compare on the cases that all models have."
        )


def _check_classes(one: str, first: Scores, other: str, scores: Scores) -> None:
    if set(first.classes) != set(scores.classes):
        raise DatasetError(
            f"'{one}' has the classes {sorted(first.classes)}, '{other}' has {sorted(scores.classes)}; "
            "evaluate all models with the same dataset.json."
        )
    for key, name in first.classes.items():
        if len({name, scores.classes[key], key}) == 3:  # the key itself stands where a file knows no name
            raise DatasetError(
                f"Class {key} is '{name}' in '{one}' and '{scores.classes[key]}' in '{other}'; "
                "evaluate all models with the same dataset.json."
            )


def _class_names(read: Mapping[str, Scores]) -> dict[str, str]:
    keys = list(next(iter(read.values())).classes)
    known = {key: [s.classes[key] for s in read.values() if s.classes[key] != key] for key in keys}
    return {key: (known[key] or [key])[0] for key in keys}


def _check_definition(one: str, first: Mapping[str, Any], other: str, second: Mapping[str, Any]) -> None:
    if bool(first) != bool(second):
        ours, stock = (one, other) if first else (other, one)
        raise DatasetError(
            f"'{ours}' says how its metrics were computed, '{stock}' does not (nnU-Net's own file?); "
            "run `nnunet_xlstm evaluate` for all models, with the same settings."
        )
    missing = object()
    keys = [key for key in SETTINGS if first.get(key, missing) != second.get(key, missing)]
    if keys:
        texts = [f"{key}: {first.get(key, 'absent')!r} and {second.get(key, 'absent')!r}" for key in keys]
        raise DatasetError(
            f"The metrics of '{one}' and '{other}' were computed in different ways ({'; '.join(texts)}); "
            "evaluate all models with the same settings."
        )


def _cases(read: Mapping[str, list[str]], common: bool) -> tuple[list[str], dict[str, list[str]]]:
    shared = set.intersection(*(set(cases) for cases in read.values()))
    left_out = {name: sorted(set(cases) - shared) for name, cases in read.items()}
    left_out = {name: cases for name, cases in left_out.items() if cases}
    if not shared:
        raise DatasetError("The models have no case in common; evaluate them on the same cases.")
    if left_out and not common:
        texts = [f"only some models have {listed(cases)} of '{name}'" for name, cases in left_out.items()]
        raise DatasetError(
            f"The models were evaluated on different cases: {'; '.join(texts)}. Evaluate all models on the same cases, "
            f"or use --common to compare on the {len(shared)} that all have."
        )
    return sorted(shared), left_out


def _aligned(scores: Scores, metric: str, cases: list[str], keys: list[str]) -> np.ndarray:
    row = {case: i for i, case in enumerate(scores.cases)}
    column = {key: i for i, key in enumerate(scores.classes)}
    return scores.values[metric][np.ix_([row[case] for case in cases], [column[key] for key in keys])]


def _check_references(models: ModelScores) -> None:
    """Check by the voxels of the reference that all models were scored against the same one."""
    voxels = models.values.get("n_ref")
    if voxels is None:
        return
    for model in range(1, len(models.names)):
        differ = np.argwhere((voxels[model] != voxels[0]) & ~(np.isnan(voxels[model]) & np.isnan(voxels[0])))
        if len(differ):
            case, key = differ[0]
            raise DatasetError(
                f"'{models.names[0]}' and '{models.names[model]}' were scored against different references: case "
                f"'{models.cases[case]}' has {voxels[0, case, key]:g} and {voxels[model, case, key]:g} voxels of "
                f"class {list(models.classes)[key]} ({len({c for c, _ in differ})} cases differ); "
                "evaluate all models against the same folder, in the same resolution."
            )


def read_costs(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the costs of the models from what `nnunet_xlstm cost --json` prints.

    Returns:
        Key of COSTS -> (models,), NaN where unknown.

    Raises:
        DatasetError: not such a list, a name occurs twice, or no cost of any model of the comparison is known.
    """
    try:
        content = read_json(path)
        check(content, ListOf(Record(COST_ROW, open=True)), str(path))
    except DatasetError as error:
        raise DatasetError(f"{error}; {GIVE_COSTS}") from error
    rows = {row["name"]: row for row in content}
    found = {key: np.array([rows.get(name, {}).get(key) for name in names], float) for key in COSTS}  # NaN for null
    if not set(rows) & set(names):
        raise DatasetError(
            f"{path}: it holds the costs of {listed(list(rows))}, the models are {listed(list(names))}; "
            "use the same names in both."
        )
    twice = [name for name in rows if sum(row["name"] == name for row in content) > 1]
    if twice:
        raise DatasetError(f"{path}: it lists {listed(twice)} twice; keep one cost of each name.")
    if not any(np.isfinite(values).any() for values in found.values()):
        raise DatasetError(
            f"{path}: no cost of {listed([name for name in names if name in rows])} is known "
            f"({', '.join(COSTS)} are all null); run `nnunet_xlstm cost` anew, or leave --cost out."
        )
    return found
