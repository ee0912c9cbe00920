"""The study of frozen features as a user asks for it: cases and labels, what is written, what is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_xlstm import __version__
from nnunet_xlstm.choices import ENCODERS
from nnunet_xlstm.datasets.case_index import NAME, PoolCases, read_pool_cases
from nnunet_xlstm.datasets.case_table import TEST_SUBJECTS, case_subjects, read_case_table, read_test_subjects
from nnunet_xlstm.errors import ConfigError, DatasetError, failed_text
from nnunet_xlstm.evaluation.cases import Pair
from nnunet_xlstm.evaluation.run import Outputs, evaluate
from nnunet_xlstm.evaluation.score import Settings
from nnunet_xlstm.evaluation.summary import EXTRAS
from nnunet_xlstm.io.protect import protect_inputs
from nnunet_xlstm.io.tables import text_table
from nnunet_xlstm.io.write import write_json
from nnunet_xlstm.nnunet.loading.raw_images import RawImages
from nnunet_xlstm.nnunet.probing.cases import Cases
from nnunet_xlstm.nnunet.probing.features import DEFINITIONS, Study
from nnunet_xlstm.nnunet.probing.frozen_encoder import Pretrained
from nnunet_xlstm.nnunet.probing.request import FeaturesRequest, Plan, spread_over_subjects


def run_features(asked: FeaturesRequest) -> list[str]:
    """Measure the encoders and write features.json, pictures, label maps and scores; return lines of text.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: options that do not fit together, or a file that would replace one that is read.
        DatasetError: a data set or table that cannot be used, or cases that cannot be scored.
    """
    pretrained = Pretrained.read(asked.checkpoint, asked.spacing, asked.allow_import)
    dataset = RawImages.find(asked.dataset)
    cases = Cases(dataset, pretrained, asked.channel)
    subjects = case_subjects(list(dataset.images), dataset.folder, asked.subjects, asked.subject)
    plan = _plan(asked, dataset, subjects)
    _protect(asked, dataset, plan)
    numbers = Study(cases, plan).run()
    if asked.probe:
        write_json(asked.out / "subjects.json", subjects)
        for name in plan.encoders:
            numbers[name]["probe"] |= _score(asked.out, name, dataset, plan.test)
    content = {
        "version": __version__,
        "checkpoint": pretrained.origin | {"lineage": pretrained.lineage},
        "dataset": dataset.folder.name,
        "seed": asked.seed,
        "settings": {
            "layers": list(asked.layers),
            "voxels": asked.voxels,
            "neighbors": asked.neighbors,
            "channel": asked.channel,
            "spacing": list(pretrained.configuration.spacing),
        },
        "encoders": numbers,
        "encoders in words": {name: ENCODERS[name] for name in plan.encoders},
        "definitions": DEFINITIONS,
        "labels": {
            name: dict(Counter(table[c] for c in plan.cases).most_common()) for name, table in plan.labels.items()
        },
        "train_cases": plan.train,
        "test_cases": plan.test,
        "cases": plan.cases,
    }
    write_json(asked.out / "features.json", content)
    return _lines(asked, plan, numbers)


def _plan(asked: FeaturesRequest, dataset: RawImages, subjects: Mapping[str, str]) -> Plan:
    train, test, everyone = _split(asked, dataset, subjects)
    return Plan(
        asked=asked,
        encoders=list(dict.fromkeys(asked.encoders)),
        train=train,
        test=test,
        cases=everyone,
        subjects=subjects,
        labels=dict(_labels(text, dataset, everyone) for text in asked.knn),
        shown=spread_over_subjects(test or everyone, subjects, asked.pca, asked.seed),
        stages=_stages(asked.layers),
    )


def _protect(asked: FeaturesRequest, dataset: RawImages, plan: Plan) -> None:
    """Refuse to replace what is read."""
    out, ending = asked.out, dataset.file.file_ending()
    files = [out / "features.json", *(out / f"pca_{case}.png" for case in plan.shown)]
    if plan.train:
        files.append(out / "subjects.json")
        for name in plan.encoders:
            files += [*Outputs(out / f"{name}.json"), out / name / "dataset.json"]
            files += [out / name / f"{case}{ending}" for case in plan.test]
    tables = [Path(text.partition("=")[2]) for text in asked.knn if "=" in text]
    read = [path for images in dataset.images.values() for path in images] + list(dataset.labels.values())
    read += [dataset.folder / name for name in ("dataset.json", NAME, f"{TEST_SUBJECTS}.json")]
    given = [path for path in (asked.checkpoint, asked.subjects, asked.test_subjects) if path]
    protect_inputs(files, map(Path, [*given, *tables, *read]))


def _stages(layers: Sequence[str]) -> list[int] | None:
    if list(layers) == ["all"]:
        return None
    try:
        return sorted({-1 if layer == "bottleneck" else int(layer) for layer in layers})
    except ValueError as error:
        raise ConfigError(
            f"--layers {' '.join(layers)}: give all, or bottleneck and numbers of stages from 0 on"
        ) from error


def _split(
    asked: FeaturesRequest, dataset: RawImages, subjects: Mapping[str, str]
) -> tuple[list[str], list[str], list[str]]:
    """Return cases that fit the probe, cases that score it (none without a probe), and all of them, sorted."""
    n = asked.max_cases or len(subjects)
    if not asked.probe:
        return [], [], spread_over_subjects(subjects, subjects, n, asked.seed)
    path = asked.test_subjects or dataset.folder / f"{TEST_SUBJECTS}.json"
    named = read_test_subjects(path)
    test = sorted(case for case, subject in subjects.items() if subject in named)
    train = sorted(set(subjects) - set(test))
    for what, cases in (("test", test), ("training", train)):
        if not cases:
            raise ConfigError(
                f"{path}: leaves no {what} case of {len(subjects)}; its subjects are such as {sorted(named)[:2]}, "
                f"those of the cases {list(subjects.values())[:2]}; say what a case's subject is with --subjects "
                "or --subject"
            )
    train = spread_over_subjects(train, subjects, n, asked.seed)
    return train, test, sorted([*train, *test])


def _labels(text: str, dataset: RawImages, cases: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return name, and case -> label, of NAME or NAME=FILE."""
    name, _, file = text.partition("=")
    if file:
        return name, dict(zip(cases, read_case_table(Path(file), name, cases), strict=True))
    path = dataset.folder / NAME
    pool: PoolCases | None = read_pool_cases(path) if path.is_file() else None
    if pool is None or name not in ("modality", "source"):
        raise ConfigError(
            f"--knn {name}: give modality or source where the data set has a pool_cases.json ({dataset.folder} has "
            f"{'one' if pool else 'none'}), or {name}=FILE with a label of every case"
        )
    table = pool.column(name)
    if missing := [case for case in cases if case not in table]:
        raise ConfigError(f"--knn {name}: pool_cases.json of {dataset.folder} does not know case '{missing[0]}'")
    return name, {case: str(table[case]) for case in cases}


def _score(out: Path, name: str, dataset: RawImages, test: Sequence[str]) -> dict[str, Any]:
    """Score an encoder's label maps as `nnunet_xlstm evaluate` does; return Dice per class and mean."""
    ending, classes = dataset.file.file_ending(), dataset.file.scored_labels()
    pairs = [Pair(case, dataset.labels[case], out / name / f"{case}{ending}") for case in test]
    summary, failed = evaluate(pairs, classes, Settings(), out / f"{name}.json", f"Probe, {name}")
    if failed:
        raise DatasetError(failed_text(failed, len(pairs), "scored"))
    names = summary[EXTRAS]["classes"]
    dice = {names[key]: row["Dice"] for key, row in summary["mean"].items()}
    return {"Dice": dice, "mean Dice": summary["foreground_mean"]["Dice"]}


def _lines(asked: FeaturesRequest, plan: Plan, numbers: Mapping[str, dict]) -> list[str]:
    out = asked.out
    lines = [*text_table(_rows(numbers)), "", f"numbers:  {out / 'features.json'}"]
    if plan.shown:
        lines.append(f"pictures: {', '.join(str(out / f'pca_{case}.png') for case in plan.shown)}")
    if asked.probe and len(plan.encoders) > 1:
        scores = " ".join(f"{name}={out / name}.json" for name in plan.encoders)
        lines.append(
            f"intervals: nnunet_xlstm compare {scores} --subjects {out / 'subjects.json'} -o {out / 'comparison'}"
        )
    return lines


def _rows(encoders: Mapping[str, dict]) -> list[list[str]]:
    """Return a row per measure, a column per encoder."""
    columns = {}
    for encoder, numbers in encoders.items():
        column = {
            "effective rank, cases": numbers.get("effective_rank"),
            "effective rank, tokens": numbers.get("effective_rank_tokens"),
            "feature SD, cases": numbers.get("feature_sd"),
        }
        for name, kinds in numbers.get("knn", {}).items():
            # what has only one kind of vector stands in the first row
            column |= {f"kNN {name}, {'all' if kind == 'all' else 'bottleneck'}": v for kind, v in kinds.items()}
        column |= {f"share found, stage {row['stage']}": row["score"] for row in numbers.get("stages", [])}
        if "probe" in numbers:
            column |= {f"Dice {name}": v for name, v in numbers["probe"]["Dice"].items()}
            column["Dice, mean"] = numbers["probe"]["mean Dice"]
        columns[encoder] = column
    names = dict.fromkeys(name for column in columns.values() for name in column)
    values = {name: [column.get(name) for column in columns.values()] for name in names}
    return [["", *columns], *([name, *("-" if v is None else f"{v:.3f}" for v in row)] for name, row in values.items())]
