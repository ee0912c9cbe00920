"""Files of strangers: whatever they hold, the end is success or an error that a user can read, and no write outside.

`NNUNET_XLSTM_FUZZ=100000 pytest -m fuzz` tries that many inputs; without the variable a few thousand are tried.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.mutations import NAMES, spoiled, spoiled_bytes, spoiled_json
from support.write_guard import only_writes_below, scratch

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.errors import UserError

pytestmark = pytest.mark.fuzz
TOTAL = int(os.environ.get("NNUNET_XLSTM_FUZZ", "3000"))
SIZE = (6, 10, 12)
log: list[tuple[int, str]] = []  # exit status and output of the commands


@dataclass(frozen=True)
class Target:
    """Something that reads a file.

    Attributes:
        share: of all inputs; commands are slower than functions.
        build: makes all files in a folder, and returns the one to spoil.
        run: reads them; success or a UserError or OSError. A command returns its exit status.
    """

    share: float
    build: Callable[[Path], Path]
    run: Callable[[Path], Any]
    json: bool = True
    header: int | None = None  # bytes of a binary file that are spoiled
    least: int = 20


def command(*argv: str) -> None:
    """Run a command; a user's mistake is exit status 1 or 2 and a message, never an exception."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            status = main(list(argv))
        except SystemExit as stop:  # of argparse
            status = stop.code
    log.append((status, output.getvalue()))
    assert status in (0, 1, 2), output.getvalue()


# What is read ---------------------------------------------------------------------------------------------------------


def image(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = sitk.GetImageFromArray(array)
    made.SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(made, str(path))
    return path


def volume(seed: int = 0) -> np.ndarray:
    array = np.random.default_rng(seed).normal(0, 1, SIZE).astype(np.float32)
    array[1:-1, 2:-2, 2:-2] += 40
    return array


def label() -> np.ndarray:
    array = np.zeros(SIZE, np.uint8)
    array[2:4, 3:7, 3:8] = 1
    array[3, 4:6, 4:6] = 2
    return array


def raw_dataset(folder: Path, name: str = "Dataset001_Raw") -> Path:
    raw = folder / "raw" / name
    for i, case in enumerate("abcde"):
        image(raw / "imagesTr" / f"{case}_0000.nii.gz", volume(i))
        image(raw / "labelsTr" / f"{case}.nii.gz", label())
    facts = {
        "channel_names": {"0": "MR"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "numTraining": 5,
        "file_ending": ".nii.gz",
        "dataset": {c: {"images": [f"imagesTr/{c}_0000.nii.gz"], "label": f"labelsTr/{c}.nii.gz"} for c in "abcde"},
    }  # fmt: skip
    (raw / "dataset.json").write_text(json.dumps(facts))
    return raw / "dataset.json"


def pool_json(folder: Path) -> Path:
    raw_dataset(folder)
    content = {
        "name": "Both", "sampling": "sqrt", "channels": ["MR"], "hierarchy": [["liver", "tumour"]],
        "targets": [{"name": "liver"}, {"name": "tumour"}],
        "sources": [{"dataset": "Dataset001_Raw", "modality": "MR", "channels": {"MR": 0}, "cohort": "one",
                     "targets": {"liver": [1, 2], "tumour": [2]}, "exclude": [], "subjects": {"pattern": "(.)"}}],
    }  # fmt: skip
    (folder / "POOL.json").write_text(json.dumps(content))
    return folder / "POOL.json"


def environment(folder: Path) -> None:
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)


def build_pool(folder: Path) -> None:
    environment(folder)
    command("pool", "build", str(folder / "POOL.json"), "-d", "9")


def built_pool(file: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        pool_json(folder)
        build_pool(folder)
        (made,) = (folder / "raw").glob("Dataset009*")
        return made / file

    return build


def spoilt_pool_source(folder: Path) -> Path:
    pool_json(folder)
    return folder / "raw" / "Dataset001_Raw" / "dataset.json"


def unlabelled(folder: Path) -> Path:
    for i in range(2):
        image(folder / "in" / f"s{i}.nii.gz", volume(i))
    make_unlabelled(folder)
    (made,) = (folder / "raw").glob("Dataset007*")
    return made / "pool_cases.json"


def make_unlabelled(folder: Path) -> None:
    environment(folder)
    command("unlabelled", "-i", str(folder / "in"), "--modality", "MR", "-d", "7")


def predictions(folder: Path) -> Path:
    built = built_pool("dataset.json")(folder)
    for case in "ab":
        image(folder / "pred" / f"{case}.nii.gz", label())
    shutil.copyfile(built, folder / "pred" / "dataset.json")
    return folder / "pred" / "dataset.json"


def summary(folder: Path) -> Path:
    raw_dataset(folder)
    labels = folder / "raw" / "Dataset001_Raw" / "labelsTr"
    shutil.copytree(labels, folder / "pred")
    evaluate(folder)
    return folder / "pred" / "summary.json"


def evaluate(folder: Path) -> None:
    raw = folder / "raw" / "Dataset001_Raw"
    folders = ("-ref", str(raw / "labelsTr"), "-pred", str(folder / "pred"))
    command("evaluate", *folders, "-djfile", str(raw / "dataset.json"))


def evaluated_dataset(folder: Path) -> Path:
    summary(folder)
    return folder / "raw" / "Dataset001_Raw" / "dataset.json"


def analyze_summary(folder: Path) -> None:
    """All of `compare` but its pictures, which take seconds."""
    from nnunet_xlstm.comparison.analysis import Settings, analyze, choose_metrics
    from nnunet_xlstm.comparison.compared import Compared
    from nnunet_xlstm.comparison.inputs import read_models
    from nnunet_xlstm.comparison.narrative import conclusion, notes
    from nnunet_xlstm.comparison.run import _record, strict
    from nnunet_xlstm.comparison.tables import paper_tables, table_rows

    models = [(name, folder / "pred" / "summary.json") for name in "AB"]
    model_scores, settings = read_models(models), Settings(resamples=20)
    results = [analyze(model_scores, metric, settings) for metric in choose_metrics(model_scores, ())]
    compared = Compared(sources=models, models=model_scores, results=results, settings=settings)
    json.dumps(strict(_record(compared)), allow_nan=False)
    paper_tables(model_scores, results), table_rows(model_scores, results)
    notes(compared), conclusion(compared)


def evaluated_map(folder: Path) -> Path:
    summary(folder)
    path = folder / "pred" / "a.nii"
    image(path, label())
    return path


def read_map(folder: Path) -> None:
    from nnunet_xlstm.imaging.images import read_image, read_label_map

    for read in (read_image, read_label_map):
        read(folder / "pred" / "a.nii")


def zipped_map(folder: Path) -> Path:
    return image(folder / "pred" / "a.nii.gz", label())


def read_zipped_map(folder: Path) -> None:
    from nnunet_xlstm.imaging.images import read_label_map

    read_label_map(folder / "pred" / "a.nii.gz")


def plan_content() -> dict:
    network = {
        "n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1], "conv_bias": True, "norm_op": None, "norm_op_kwargs": {}, "dropout_op": None,
        "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": network,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [8, 16, 16],
        "spacing": [2.0, 1.0, 1.0], "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": {"is_seg": False},
        "architecture": architecture,
    }  # fmt: skip
    low = {"inherits_from": "3d", "batch_size": 3}
    return {"dataset_name": "Dataset001_Raw", "plans_name": "p", "configurations": {"3d": configuration, "low": low}}


def plans(folder: Path) -> Path:
    (folder / "plans.json").write_text(json.dumps(plan_content()))
    return folder / "plans.json"


def catalogue_entry(folder: Path) -> Path:
    shutil.copyfile(Path(__file__).parents[2] / "dataset_json" / "MMWHS_CT.json", folder / "MMWHS_CT.json")
    return folder / "MMWHS_CT.json"


def catalogue_pool(folder: Path) -> Path:
    shutil.copyfile(Path(__file__).parents[2] / "dataset_json" / "pool_cardiac.json", folder / "pool_cardiac.json")
    return folder / "pool_cardiac.json"


def read_catalogue(folder: Path) -> None:
    from nnunet_xlstm.catalogue import entries

    for name, read in (("MMWHS_CT", entries.read_dataset), ("pool_cardiac", entries.read_pool_plan)):
        if (folder / f"{name}.json").is_file():
            read(folder / f"{name}.json")


def convertible(folder: Path) -> Path:
    entry = catalogue_entry(folder)
    image(folder / "in" / "ct_train" / "ct_train_1001_image.nii.gz", volume())
    image(folder / "in" / "ct_train" / "ct_train_1001_label.nii.gz", np.where(label() > 0, 500, 0).astype(np.int16))
    return entry


def run_convert(folder: Path) -> None:
    environment(folder)
    command("convert", str(folder / "MMWHS_CT.json"), "-i", str(folder / "in"), "-d", "60")


def preset(folder: Path) -> Path:
    content = {"dataset": "1", "configuration": "3d_fullres", "labels": [1, 2], "seeds": 2, "iterations": 10,
               "variants": ["a:nnUNetTrainerXLSTMUNet@nnUNetXLSTMUNetPlans", {"name": "b", "trainer": "nnUNetTrainer"}],
               "config": {"initial_lr": 0.1}, "subject": "(.*)_"}  # fmt: skip
    (folder / "preset.json").write_text(json.dumps(content))
    return folder / "preset.json"


def read_preset(folder: Path) -> None:
    from nnunet_xlstm.studies.request import read_preset

    read_preset(folder / "preset.json")


def study(folder: Path) -> Path:
    from nnunet_xlstm.studies.kinds import FEW_LABEL
    from nnunet_xlstm.studies.request import Variant
    from nnunet_xlstm.studies.study import LabelledSet, Study

    data = LabelledSet(
        name="raw", raw=folder / "raw", preprocessed=folder / "pre", subjects={"a": "a", "b": "b"}, test_cases=["b"],
        folds=[{"train": ["a"], "val": ["b"]}],
    )  # fmt: skip
    made = Study(
        kind=FEW_LABEL, folder=folder, configuration="3d_fullres", sets=[data], seeds=1, values=[1], iterations=2,
        epoch=1, variants=[Variant("a", "nnUNetTrainer", "nnUNetPlans")], orders={"0": ["a"]},
    )  # fmt: skip
    made.save()
    return folder / "study.json"


def read_study(folder: Path) -> None:
    from nnunet_xlstm.studies.kinds import FEW_LABEL
    from nnunet_xlstm.studies.study_json import read_study

    found = read_study(folder, FEW_LABEL)
    if found is not None:
        for run in found.runs():
            assert run.folder.resolve().is_relative_to(folder.resolve())
            for part in run.parts:
                assert run.summary(part).resolve().is_relative_to(folder.resolve())


def sets(folder: Path) -> Path:
    (folder / "sets.json").write_text(json.dumps({"ACDC": {"A": "a.json", "B": "b.json"}, "MMWHS": {"A": "c.json"}}))
    return folder / "sets.json"


def read_sets(folder: Path) -> None:
    from nnunet_xlstm.comparison.sets.analysis import check_sets
    from nnunet_xlstm.comparison.sets.run import read_sets

    check_sets(read_sets(folder / "sets.json"))


def splits(folder: Path) -> Path:
    (folder / "splits.json").write_text(
        json.dumps([{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a"]}])
    )
    return folder / "splits.json"


def read_splits(folder: Path) -> None:
    from nnunet_xlstm.datasets.raw_dataset import read_folds
    from nnunet_xlstm.datasets.splits import check_folds

    check_folds(read_folds(folder / "splits.json"), {case: case for case in "abc"}, "splits.json")


def tables(folder: Path) -> Path:
    (folder / "subjects.json").write_text(json.dumps({"a": "p1", "b": 2}))
    return folder / "subjects.json"


def read_tables(folder: Path) -> None:
    from nnunet_xlstm.datasets.case_table import read_case_table, read_test_subjects

    with contextlib.suppress(UserError):
        read_test_subjects(folder / "subjects.json")
    read_case_table(folder / "subjects.json", "subject", ["a", "b"])


def config(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps({"num_epochs": 3, "initial_lr": 0.1, "patch_size": [8, 8, 8]}))
    return folder / "config.json"


def read_config(folder: Path) -> None:
    from nnunet_xlstm import config as keys
    from nnunet_xlstm.nnunet.training.run_config import load_recipe

    os.environ[keys.ENVIRONMENT] = str(folder / "config.json")
    try:
        keys.resolve(load_recipe("nnUNetTrainerXLSTMUNet"))
    finally:
        del os.environ[keys.ENVIRONMENT]


def checkpoint_content() -> dict:
    return {
        "network_weights": {"encoder.stages.0.weight": torch.zeros(2, 1, 3, 3, 3)}, "current_epoch": 1,
        "init_args": {"plans": plan_content(), "configuration": "3d", "fold": 0,
                      "dataset_json": {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}}},
        "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": [0, 1, 2],
    }  # fmt: skip


def checkpoint(folder: Path) -> Path:
    torch.save(checkpoint_content(), folder / "a.pth")
    return folder / "a.pth"


def read_checkpoint(folder: Path) -> None:
    from nnunet_xlstm.nnunet.transfer.source import read_source

    read_source(folder / "a.pth")


TARGETS = {
    "dataset.json, evaluate": Target(0.5, evaluated_dataset, evaluate),
    "dataset.json, pool build": Target(0.5, spoilt_pool_source, build_pool),
    "POOL.json": Target(0.5, pool_json, build_pool),
    "pool_cases.json, pool build": Target(0.5, built_pool("pool_cases.json"), build_pool),
    "dataset.json of a pool, pool build": Target(0.5, built_pool("dataset.json"), build_pool),
    "splits_final.json, pool build": Target(0.5, built_pool("splits_final.json"), build_pool),
    "dataset.json, check": Target(
        0.5, raw_dataset, lambda f: command("check", "-d", str(f / "raw" / "Dataset001_Raw"))
    ),
    "pool_cases.json, unlabelled": Target(0.5, unlabelled, make_unlabelled),
    "dataset.json, restrict": Target(
        0.5, predictions, lambda f: command("restrict", "-i", str(f / "pred"), "-o", str(f / "out"))
    ),
    "summary.json, compare": Target(4, summary, analyze_summary),
    "summary.json, figures of compare": Target(
        0.01, summary, lambda f: command("compare", f"A={f / 'pred'}", f"B={f / 'pred'}", "-o", str(f / "out")), least=3
    ),
    "NIfTI, read": Target(12, evaluated_map, read_map, json=False, header=352),
    "zipped NIfTI, read": Target(6, zipped_map, read_zipped_map, json=False),
    "plans, cost": Target(0.5, plans, lambda f: command("cost", str(f / "plans.json"), "-c", "3d")),
    "catalogue entry": Target(8, catalogue_entry, read_catalogue),
    "catalogue pool": Target(4, catalogue_pool, read_catalogue),
    "catalogue entry, convert": Target(0.5, convertible, run_convert),
    "sets.json, compare": Target(12, sets, read_sets),
    "splits_final.json, studies": Target(12, splits, read_splits),
    "study preset": Target(12, preset, read_preset),
    "study.json": Target(6, study, read_study),
    "tables of subjects": Target(12, tables, read_tables),
    "configuration": Target(8, config, read_config),
    "checkpoint's bytes": Target(3, checkpoint, read_checkpoint, json=False),
}
SHARES = sum(target.share for target in TARGETS.values())


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch):
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", os.environ.get(f"nnUNet_{name}", ""))
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.mark.parametrize("name", TARGETS)
def test_any_content_ends_in_success_or_in_an_error_for_users(name):
    target = TARGETS[name]
    template = scratch()
    spoil = target.build(template)
    good = spoil.read_bytes()
    log.clear()
    target.run(template)  # what is to be spoiled is good
    assert not log or log[-1][0] == 0, log[-1][1]
    strategy = spoiled_json(json.loads(good)) if target.json else spoiled_bytes(good, target.header)

    @settings(
        max_examples=max(target.least, int(TOTAL * target.share / SHARES)), deadline=None, derandomize=True,
        database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(content=strategy)
    def attack(content):
        folder = scratch()
        try:
            shutil.copytree(template, folder, dirs_exist_ok=True, symlinks=True)
            moved = folder / spoil.relative_to(template)
            moved.write_bytes(content.replace(str(template).encode(), str(folder).encode()) if target.json else content)
            with only_writes_below(folder), contextlib.suppress(UserError, OSError):
                target.run(folder)
        finally:
            shutil.rmtree(folder)

    try:
        attack()
    finally:
        shutil.rmtree(template)


@settings(max_examples=max(20, TOTAL // 60), deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(content=spoiled(checkpoint_content()["init_args"]), key=st.sampled_from(NAMES))
def test_checkpoints_of_strangers(content, key):
    folder = scratch()
    try:
        whole = checkpoint_content() | {"init_args": content, key: content}
        torch.save(whole, folder / "a.pth")
        with only_writes_below(folder), contextlib.suppress(UserError, OSError):
            read_checkpoint(folder)
    finally:
        shutil.rmtree(folder)


@settings(max_examples=max(20, TOTAL // 60), deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(name=st.sampled_from([n for n in NAMES if n and "\0" not in n and "/" not in n and len(n) < 200]))
def test_names_of_files(name):
    folder = scratch()
    try:
        (folder / "in").mkdir()
        source = image(folder / "plain.nii.gz", volume())
        try:
            shutil.copyfile(source, folder / "in" / f"{name}.nii.gz")
        except (OSError, ValueError):  # no name for this file system
            return
        with only_writes_below(folder), contextlib.suppress(UserError, OSError):
            make_unlabelled(folder)
    finally:
        shutil.rmtree(folder)


def test_the_guard_itself_sees_what_it_must(tmp_path):
    (tmp_path / "in").mkdir()
    for act in (
        lambda: (tmp_path / "x").write_text(""),
        lambda: os.replace(tmp_path / "x", tmp_path / "y"),
        lambda: (tmp_path / "y").unlink(),
        lambda: os.symlink("a", tmp_path / "z"),
        lambda: gzip.open(tmp_path / "w", "wb").close(),
        lambda: nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), tmp_path / "n.nii"),
    ):
        with pytest.raises(AssertionError, match="written outside"), only_writes_below(tmp_path / "in"):
            act()
    with only_writes_below(tmp_path / "in"):
        (tmp_path / "in" / "x").write_text("")
