"""From what was asked to a study that can run: everything is looked up and checked before the first training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.case_table import listed
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.read import read_json, sha256
from nnunet_xlstm.nnunet.install.environment import versions
from nnunet_xlstm.studies.datasets import chosen_folds, is_scored_on_folds
from nnunet_xlstm.studies.kind import Kind
from nnunet_xlstm.studies.request import Request, Variant
from nnunet_xlstm.studies.study import LabelledSet, Study
from nnunet_xlstm.studies.study_json import check_same, read_study
from nnunet_xlstm.studies.trainer_config import schedule, trainer_config, trains_on_pools


def open_study(kind: Kind, request: Request, out: Path) -> Study:
    """Return the study in a folder with what is asked now; nothing is written.

    Raises:
        ConfigError: something is missing, does not exist, does not fit, or differs from the study in the folder.
    """
    request.check_for(kind)
    stored = read_study(out, kind)
    if stored is None and (missing := [name for name in kind.needs if getattr(request, name) is None]):
        names = ["dataset (-d)" if name == "dataset" else name for name in missing]
        raise ConfigError(f"{out} holds no study yet; to begin one, say: {', '.join(names)}")
    sets = kind.find_sets(kind, request, stored)
    variants, pooled = _variants(request, stored, sets)
    config = request.config if request.config is not None else stored.config if stored else {}
    if stored is None:
        iterations, epoch = schedule(kind.length, variants, config, request.iterations)
    else:
        iterations, epoch = request.iterations or stored.iterations, stored.epoch
    asked = getattr(request, kind.axis.key) if kind.axis else None
    study = Study(
        kind=kind,
        folder=out,
        configuration=request.configuration or (stored.configuration if stored else "3d_fullres"),
        sets=sets,
        variants=variants,
        seeds=max(request.seeds or 0, stored.seeds if stored else 0) or kind.seeds,
        values=sorted({*(asked or ()), *(stored.values if stored else ())}),
        folds=chosen_folds(request, stored, sets[0]) if is_scored_on_folds(kind, request, stored) else [],
        pooled=pooled,
        iterations=iterations,
        epoch=epoch,
        config=config,
        versions=stored.versions if stored else versions(),
    )
    study = kind.completed(replace(study, hashes=_hashes(study)))
    if stored is not None:
        check_same(stored, study)
    _check_names(study)
    runs = study.runs()
    for run in runs:
        trainer_config(study.variant(run.variant), study.config, study.length(run), seed=0)
    for variant in variants:
        for data in study.trained_on(variant):
            own = [run for run in runs if run.variant == variant.name and run.trained_on == data.name]
            needed = {
                case for run in own for fold, n in [study.split(run)] for part in fold[n].values() for case in part
            }
            _check_preprocessed(study, variant, data, needed)
    return study


def _variants(request: Request, stored: Study | None, sets: Sequence[LabelledSet]) -> tuple[list[Variant], list[str]]:
    """Return the variants of both, those of the study in the folder first, each with its plans; names of those on the
    pool."""
    variants = {variant.name: variant for variant in stored.variants} if stored else {}
    pooled = []
    for variant in request.variants or ():
        place = sets[0] if len(sets) == 1 or trains_on_pools(variant) else sets[1]
        known = variants[variant.name].plans if variant.name in variants else None
        checkpoint = variant.checkpoint and str(Path(variant.checkpoint).resolve())
        plans = variant.plans or known or _only_plans(variant, place.preprocessed)
        variants[variant.name] = replace(variant, plans=plans, checkpoint=checkpoint)
    if len(sets) > 1:
        pooled = [name for name, variant in variants.items() if trains_on_pools(variant)]
        if not pooled or len(pooled) == len(variants):
            missing = "the pool (nnUNetTrainerPool)" if not pooled else "single data sets (any other trainer)"
            raise ConfigError(
                f"variants {', '.join(variants)}: none trains on {missing}, so there is nothing to compare"
            )
    return list(variants.values()), pooled


def _only_plans(variant: Variant, preprocessed: Path) -> str:
    found = sorted(path.stem for path in preprocessed.glob("*.json") if _is_plans(read_json(path)))
    if len(found) != 1:
        raise ConfigError(
            f"variant '{variant.name}': say which plans, {variant.name}:{variant.trainer}@PLANS; {preprocessed} has "
            f"{', '.join(found) or 'none'}"
        )
    return found[0]


def _is_plans(content: Any) -> bool:
    return isinstance(content, dict) and "plans_name" in content


def _hashes(study: Study) -> dict[str, str]:
    """Return SHA-256 of every checkpoint, and of the plans of every data set that is trained on."""
    hashes: dict[str, str] = {}
    for variant in study.variants:
        files = {}
        for data in study.trained_on(variant):
            name = variant.plans if len(study.sets) == 1 else f"{variant.plans} of {data.dataset}"
            files[name] = data.preprocessed / f"{variant.plans}.json"
        files |= {f"variant {variant.name}": Path(variant.checkpoint)} if variant.checkpoint else {}
        for name, path in files.items():
            if not path.is_file():
                what = "checkpoint" if name.startswith("variant ") else "plans"
                raise ConfigError(f"variant '{variant.name}': there is no {path}; name the {what} as it is called")
            hashes[name] = hashes.get(name) or sha256(path)
    return hashes


def _check_names(study: Study) -> None:
    """Check that no two runs have one name, also where case does not count: they become folders."""
    runs = [run.id.casefold() for run in study.runs()]
    if twice := sorted({name for name in runs if runs.count(name) > 1}):
        raise ConfigError(f"two runs would be called {twice[0]}; rename a variant")


def _check_preprocessed(study: Study, variant: Variant, data: LabelledSet, cases: set[str]) -> None:
    """Check that the plans have the configuration, and that every case that will be read is there."""
    configurations = read_json(data.preprocessed / f"{variant.plans}.json").get("configurations", {})
    row = configurations.get(study.configuration)
    if row is None:
        raise ConfigError(
            f"variant '{variant.name}': {variant.plans} has no configuration {study.configuration}; -c takes one of "
            f"{', '.join(configurations)}"
        )
    while "data_identifier" not in row and row.get("inherits_from") in configurations:
        row = configurations[row["inherits_from"]]
    folder = data.preprocessed / row.get("data_identifier", f"{variant.plans}_{study.configuration}")
    if missing := sorted(case for case in cases if not (folder / f"{case}.pkl").is_file()):
        raise ConfigError(
            f"variant '{variant.name}': {listed(missing)} not preprocessed in {folder}; run "
            f"nnUNetv2_plan_and_preprocess for {variant.plans} and {study.configuration}"
        )
