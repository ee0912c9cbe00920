"""From what was asked to a study that can run: everything is looked up and checked before the first training."""

from __future__ import annotations

import logging
import os
import platform
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from nnunet_xlstm.data.case_table import TEST_SUBJECTS, case_subjects, listed, read_test_subjects
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.files import read_json
from nnunet_xlstm.nnunet.pretrain_checkpoint import sha256
from nnunet_xlstm.nnunet.raw_cases import RawImages
from nnunet_xlstm.studies.request import Arm, Request
from nnunet_xlstm.studies.study import Study, check_same, draw_order, read_study
from nnunet_xlstm.studies.trainer_config import schedule, trainer_config

PACKAGES = ("nnunet_xlstm", "nnunetv2", "torch", "dynamic_network_architectures", "numpy", "SimpleITK")

logger = logging.getLogger(__name__)


def open_study(request: Request, out: Path) -> Study:
    """The study in a folder with what is asked now; nothing is written.

    Raises:
        ValueError: something is missing, does not exist, does not fit, or differs from the study in the folder.
    """
    stored = read_study(out)
    if stored is None:
        needed = {"dataset (-d)": request.dataset, "labels": request.labels, "arms": request.arms}
        if missing := [name for name, value in needed.items() if value is None]:
            raise ConfigError(f"{out} holds no study yet; to begin one, say: {', '.join(missing)}")
    dataset = RawImages.find(request.dataset or str(stored.raw))
    preprocessed = _preprocessed(dataset.folder.name, stored)
    subjects, test_cases = _people(request, stored, dataset)
    arms = _arms(request, stored, preprocessed)
    config = request.config if request.config is not None else stored.config if stored else {}
    if stored is not None:
        iterations, epoch = request.iterations or stored.iterations, stored.epoch
    else:
        iterations, epoch = schedule(arms, config, request.iterations)
    seeds = max(request.seeds or 0, stored.seeds if stored else 0) or 3
    tested = {subjects[case] for case in test_cases}
    drawn_from = [subject for subject in subjects.values() if subject not in tested]
    study = Study(
        folder=out,
        raw=dataset.folder.resolve(),
        preprocessed=preprocessed,
        configuration=request.configuration or (stored.configuration if stored else "3d_fullres"),
        labels=sorted({*(request.labels or ()), *(stored.labels if stored else ())}),
        seeds=seeds,
        arms=arms,
        iterations=iterations,
        epoch=epoch,
        config=config,
        hashes=_hashes(arms, preprocessed),
        subjects=subjects,
        test_cases=test_cases,
        orders={str(seed): draw_order(drawn_from, seed) for seed in range(seeds)},
        versions=stored.versions if stored else _versions(),
    )
    if stored is not None:
        check_same(stored, study)
    _check_labels(study)
    for arm in arms:
        _check_preprocessed(study, arm)
        trainer_config(arm, study.config, study.iterations, study.epoch, seed=0)
    return study


def _preprocessed(dataset: str, stored: Study | None) -> Path:
    root = os.environ.get("nnUNet_preprocessed")
    folder = stored.preprocessed if stored and root is None else Path(root or "") / dataset
    if not (root or stored) or not (folder / "dataset.json").is_file():
        raise ConfigError(
            f"{dataset} is not preprocessed: no {folder}/dataset.json (nnUNet_preprocessed={root!r}); run "
            "nnUNetv2_plan_and_preprocess first"
        )
    return folder.resolve()


def _people(request: Request, stored: Study | None, dataset: RawImages) -> tuple[dict[str, str], list[str]]:
    """Case -> subject of all labelled cases, and the cases of test subjects."""
    cases = [case for case in dataset.images if dataset.labels[case].is_file()]
    if stored is None or request.subjects is not None or request.subject is not None:
        subjects = case_subjects(cases, dataset.folder, request.subjects, request.subject)
    else:
        subjects = {case: stored.subjects.get(case, case) for case in cases}
    if stored is not None and request.test_subjects is None:
        return subjects, stored.test_cases
    path = request.test_subjects or dataset.folder / f"{TEST_SUBJECTS}.json"
    named = read_test_subjects(path)
    absent = sorted(named - set(subjects.values()))
    if not named or len(absent) == len(named):
        raise ConfigError(
            f"{path}: none of its test subjects ({listed(absent)}) has a labelled case; those of the data set are such "
            f"as {listed(list(subjects.values())[:2])}. Say what a case's subject is with --subjects or --subject"
        )
    if absent:
        logger.warning("%s: %s have no labelled case and are left out", path, listed(absent))
    return subjects, sorted(case for case, subject in subjects.items() if subject in named)


def _arms(request: Request, stored: Study | None, preprocessed: Path) -> list[Arm]:
    """The arms of both, those of the study in the folder first; each with its plans."""
    arms = {arm.name: arm for arm in stored.arms} if stored else {}
    for arm in request.arms or ():
        known = arms[arm.name].plans if arm.name in arms else None
        checkpoint = arm.checkpoint and str(Path(arm.checkpoint).resolve())
        plans = arm.plans or known or _only_plans(arm, preprocessed)
        arms[arm.name] = replace(arm, plans=plans, checkpoint=checkpoint)
    if len({name.casefold() for name in arms}) < len(arms):
        raise ConfigError(f"arms {', '.join(arms)}: two names differ in case alone; give each a name of its own")
    return list(arms.values())


def _only_plans(arm: Arm, preprocessed: Path) -> str:
    found = sorted(path.stem for path in preprocessed.glob("*.json") if "plans_name" in read_json(path))
    if len(found) != 1:
        raise ConfigError(
            f"arm '{arm.name}': say which plans, {arm.name}:{arm.trainer}@PLANS; {preprocessed} has "
            f"{', '.join(found) or 'none'}"
        )
    return found[0]


def _hashes(arms: list[Arm], preprocessed: Path) -> dict[str, str]:
    hashes = {}
    for arm in arms:
        files = {arm.plans: preprocessed / f"{arm.plans}.json"}
        files |= {f"arm {arm.name}": Path(arm.checkpoint)} if arm.checkpoint else {}
        for name, path in files.items():
            if not path.is_file():
                what = "plans" if name == arm.plans else "checkpoint"
                raise ConfigError(f"arm '{arm.name}': there is no {path}; name the {what} as it is called")
            hashes[name] = hashes.get(name) or sha256(path)
    return hashes


def _check_labels(study: Study) -> None:
    there = len(study.orders["0"])
    if max(study.labels) > there:
        raise ConfigError(
            f"labels {max(study.labels)}: {study.dataset} has {there} training subjects with labels (test subjects do "
            "not count); give smaller numbers"
        )


def _check_preprocessed(study: Study, arm: Arm) -> None:
    """The plans have the configuration, and every case that will be drawn is there."""
    configurations = read_json(study.preprocessed / f"{arm.plans}.json").get("configurations", {})
    row = configurations.get(study.configuration)
    if row is None:
        raise ConfigError(
            f"arm '{arm.name}': {arm.plans} has no configuration {study.configuration}; -c takes one of "
            f"{', '.join(configurations)}"
        )
    while "data_identifier" not in row and row.get("inherits_from") in configurations:
        row = configurations[row["inherits_from"]]
    folder = study.preprocessed / row.get("data_identifier", f"{arm.plans}_{study.configuration}")
    drawn = {case for seed in range(study.seeds) for case in study.cases(max(study.labels), seed)}
    if missing := sorted(case for case in drawn if not (folder / f"{case}.pkl").is_file()):
        raise ConfigError(
            f"arm '{arm.name}': {listed(missing)} not preprocessed in {folder}; run nnUNetv2_plan_and_preprocess for "
            f"{arm.plans} and {study.configuration}"
        )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    return versions | {name: metadata.version(name) for name in PACKAGES}
