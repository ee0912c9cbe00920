"""Trainers of ours; pools of two tiny data sets that label different things, planned once per session; transfer."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from support.training_runs import Run, Server

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.config import ENVIRONMENT
from nnunet_xlstm.nnunet.install.registration import load_class
from nnunet_xlstm.pools.build import build_pool

PLANS = "nnUNetXLSTMUNetTinyPlans"
TARGETS = [{"name": "whole"}, {"name": "core", "group": "lesion"}]
SOURCES = [
    {"dataset": "Dataset901_Ellipsoids", "name": "Both", "modality": "MR", "targets": {"whole": [1, 2], "core": [2]}},
    {"dataset": "Dataset904_Whole", "name": "Whole", "modality": "MR", "targets": {"whole": [1]}},
]


@pytest.fixture
def make_trainer(nnunet_tree, tmp_path, monkeypatch):
    """make_trainer(name, keys, ...) -> a trainer as nnUNetv2_train makes it, in a results folder of the test's own.

    keys: of its config; None leaves the variable unset. dataset, plans, configuration, fold, continuing (--c): as for
    nnUNetv2_train. edit(plans, description) changes plans and dataset.json as the trainer sees them.
    """
    import torch

    def _make(
        name,
        keys,
        *,
        dataset="Dataset901_Ellipsoids",
        plans=PLANS,
        configuration="3d_fullres",
        fold=0,
        continuing=False,
        edit=lambda plans, description: None,
    ):
        monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
        if keys is None:
            monkeypatch.delenv(ENVIRONMENT, raising=False)
        else:
            (tmp_path / "config.json").write_text(json.dumps(keys))
            monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "config.json"))
        folder = nnunet_tree / "preprocessed" / dataset
        plans = json.loads((folder / f"{plans}.json").read_text()) | {"continue_training": continuing}
        description = json.loads((folder / "dataset.json").read_text())
        edit(plans, description)
        return load_class(name)(plans, configuration, fold, description, torch.device("cpu"))

    return _make


@pytest.fixture(scope="session")
def whole(nnunet_tree):
    """Dataset904_Whole labels the whole only, and its cores are background."""
    raw = nnunet_tree / "raw"
    original, whole = raw / "Dataset901_Ellipsoids", raw / "Dataset904_Whole"
    for name in ("imagesTr", "labelsTr"):
        (whole / name).mkdir(parents=True)
    for i in range(4):
        image = sitk.ReadImage(str(original / "imagesTr" / f"case_{i}_0000.nii.gz"))
        sitk.WriteImage(image, str(whole / "imagesTr" / f"w{i}_0000.nii.gz"))
        label = sitk.ReadImage(str(original / "labelsTr" / f"case_{i}.nii.gz")) > 0
        sitk.WriteImage(label, str(whole / "labelsTr" / f"w{i}.nii.gz"))
    facts = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "whole": 1}, "numTraining": 4}
    (whole / "dataset.json").write_text(json.dumps(facts | {"file_ending": ".nii.gz"}))
    return whole


def planned_pool(tree, prepare, number, name, **rules):
    path = tree / f"{name}.json"
    path.write_text(
        json.dumps({"name": name, "targets": TARGETS, "hierarchy": [["whole", "core"]], "sources": SOURCES} | rules)
    )
    dataset, _ = build_pool(path, number)
    prepare(number, check=True)
    return dataset


@pytest.fixture(scope="session")
def pool(nnunet_tree, whole, plan_and_preprocess):
    """Dataset905_Two: `Both` labels whole and core, `Whole` the whole alone."""
    return planned_pool(nnunet_tree, plan_and_preprocess, 905, "Two")


@pytest.fixture(scope="session")
def pool_apart(nnunet_tree, whole, plan_and_preprocess):
    """Dataset906_Apart: the same, with targets of their own for each source."""
    return planned_pool(nnunet_tree, plan_and_preprocess, 906, "Apart", merge="none")


# Trainings in processes of their own


@pytest.fixture(scope="session")
def server(nnunet_tree, pool):
    server = Server()
    yield server
    server.close()


@pytest.fixture
def start(server, tmp_path):
    """start(trainer, ranks, ..., name="run") -> Run; `spawn` as nnU-Net starts ranks, which takes longer."""
    runs = []

    def _start(*args, spawn=False, name="run", **kwargs):
        runs.append(Run(None if spawn else server, tmp_path / name, *args, **kwargs))
        return runs[-1]

    yield _start
    for run in runs:
        run.kill()


# Transfer: the tiny data set's plans in folders of a test's own, and the two commands


@pytest.fixture
def transfer_folder(nnunet_tree, tmp_path, monkeypatch):
    """The tiny data set's plans in folders of this test's own."""
    target = tmp_path / "preprocessed" / "Dataset901_Ellipsoids"
    target.mkdir(parents=True)
    original = nnunet_tree / "preprocessed" / target.name
    for name in (f"{PLANS}.json", "dataset.json", "dataset_fingerprint.json"):
        shutil.copy(original / name, target)
    monkeypatch.setenv("nnUNet_preprocessed", str(target.parent))
    monkeypatch.setattr(
        "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner.nnUNet_preprocessed",
        str(target.parent),
    )
    return target


@pytest.fixture
def run_adapt(transfer_folder, pretrained_file, tmp_path, capsys):
    """run_adapt(*options) -> (exit code, report or None, output)."""

    def _run(*options, checkpoint=pretrained_file):
        out = tmp_path / "adapted.pth"
        code = main(["adapt", str(checkpoint), "-d", "901", "-p", PLANS, "-o", str(out), *map(str, options)])
        text = capsys.readouterr()
        report = json.loads(out.with_suffix(".json").read_text()) if code == 0 else None
        return code, report, text.out + text.err

    return _run


@pytest.fixture
def stock_file(transfer_folder, tmp_path):
    """A checkpoint as nnU-Net writes it, with NumPy numbers in its log."""
    import torch

    from nnunet_xlstm.nnunet.transfer.target import Target

    plans = json.loads((transfer_folder / f"{PLANS}.json").read_text())
    content = {
        "network_weights": Target.read("901", PLANS, "3d_fullres").network(9).state_dict(),
        "logging": {"mean_fg_dice": [np.float64(0.5)], "epoch": np.array([1.0])},
        "random_state": np.arange(3, dtype=np.uint32),
        "init_args": {
            "plans": plans,
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": json.loads((transfer_folder / "dataset.json").read_text()),
        },
        "trainer_name": "nnUNetTrainer",
        "current_epoch": 3,
    }
    torch.save(content, tmp_path / "stock.pth")
    return tmp_path / "stock.pth"


@pytest.fixture
def run_plan_like(transfer_folder, pretrained_file, nnunet_tree, monkeypatch, capsys):
    """run_plan_like(*options) -> (exit code, plans or None, output)."""
    monkeypatch.setenv("nnUNet_raw", str(nnunet_tree / "raw"))

    def _plan(*options, checkpoint=pretrained_file):
        code = main(["plan_like", str(checkpoint), "-d", "901", *map(str, options)])
        text = capsys.readouterr()
        path = transfer_folder / "nnUNetLikePlans.json"
        return code, json.loads(path.read_text()) if code == 0 else None, text.out + text.err

    return _plan
