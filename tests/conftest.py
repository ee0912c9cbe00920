"""Shared fixtures: seeds, and a tiny nnU-Net tree made once per session."""

import json
import multiprocessing.dummy
import multiprocessing.pool  # it binds get_context when it is first imported, which shall not be ours
import os
import random
import signal
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from support.png import PNG

pytest_plugins = ["support.nnunet_folders", "support.small_disk"]

# Threads that wait shall sleep: other tests, and the commands that tests start, run at the same time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ENVIRONMENT = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1"}


@pytest.fixture(autouse=True)
def _seeded(monkeypatch):
    monkeypatch.delenv("nnUNet_xlstm_config", raising=False)
    random.seed(0)
    np.random.seed(0)
    try:
        import torch
    except ImportError:
        return
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)  # a core for each worker
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _signals_as_before():
    """Trainers that a test leaves in the middle of a run do not keep their signal handlers."""
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def write_ellipsoids(folder: Path, n: int = 6, shape: tuple[int, int, int] = (20, 24, 28)) -> None:
    """A raw nnU-Net dataset of `n` cases with two nested ellipsoids, bright and brighter, at random places."""
    import SimpleITK as sitk

    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for i in range(n):
        center = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
        distance = sum(((g - c) / r) ** 2 for g, c, r in zip(np.indices(shape), center, (7, 8, 9), strict=True))
        label = (distance < 1).astype(np.uint8) + (distance < 0.4)
        image = label + rng.normal(0, 0.3, shape)
        for array, path in (
            (image.astype(np.float32), f"imagesTr/case_{i}_0000.nii.gz"),
            (label.astype(np.uint8), f"labelsTr/case_{i}.nii.gz"),
        ):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / path))
    description = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "shell": 1, "core": 2},
        "numTraining": n,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))


@pytest.fixture(scope="session")
def plan_and_preprocess():
    """plan_and_preprocess(number, check, configuration): nnU-Net's own functions, tiny plans; threads in place of
    processes, each of which would import torch first."""

    def _run(number: int, check: bool = False, configuration: str = "3d_fullres") -> None:
        from nnunet_xlstm.planners.nnUNetPlannerXLSTMUNet import nnUNetPlannerXLSTMUNetTiny
        from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet
        from support.fewer_samples import FewerSamples

        with (
            mock.patch.object(multiprocessing, "get_context", lambda method: multiprocessing.dummy),
            # nnU-Net forks here to list files; a fork beside torch's threads may wait for ever
            mock.patch("nnunetv2.utilities.utils.Pool", multiprocessing.dummy.Pool),
        ):
            nnunet.extract_fingerprint_dataset(number, FewerSamples, num_processes=1, check_dataset_integrity=check)
            nnUNetPlannerXLSTMUNetTiny(number).plan_experiment()
            nnunet.preprocess_dataset(number, "nnUNetXLSTMUNetTinyPlans", (configuration,), num_processes=(1,))

    return _run


@pytest.fixture(scope="session")
def nnunet_tree(tmp_path_factory, plan_and_preprocess) -> Path:
    """nnUNet_raw / preprocessed / results with Dataset901_Ellipsoids, planned (tiny) and preprocessed."""
    root = tmp_path_factory.mktemp("nnunet")
    for name in ("raw", "preprocessed", "results"):
        (root / name).mkdir()
        os.environ[f"nnUNet_{name}"] = str(root / name)
    os.environ.update(ENVIRONMENT)
    write_ellipsoids(root / "raw" / "Dataset901_Ellipsoids")
    plan_and_preprocess(901)
    return root


@pytest.fixture(scope="session")
def pretrained_file(nnunet_tree, tmp_path_factory) -> Path:
    """A checkpoint as the pre-training trainers write it, of the tiny network with fresh weights."""
    import torch

    from nnunet_xlstm.nnunet.checkpoints import pretraining
    from nnunet_xlstm.nnunet.planning.network import planned_network

    folder = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids"
    path = folder / "nnUNetXLSTMUNetTinyPlans.json"
    plans = json.loads(path.read_text())
    dataset = json.loads((folder / "dataset.json").read_text())
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = planned_network(path, "3d_fullres", 1, 3).build()
    content = {
        "network_weights": network.state_dict(),
        "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": "all", "dataset_json": dataset},
        "trainer_name": "nnUNetTrainerDINO",
        "current_epoch": 2,
        pretraining.KEY: {
            "format": pretraining.FORMAT,
            "kind": "pretraining",
            "dataset": plans["dataset_name"],
            "architecture": plans["configurations"]["3d_fullres"]["architecture"],
            "channel_names": dataset["channel_names"],
            "lineage": [],
        },
    }
    file = tmp_path_factory.mktemp("pretrained") / "checkpoint_final.pth"
    torch.save(pretraining.plain(content), file)
    return file


VOID = {"meta", "img", "br", "link"}


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    return path


class ParsedPage(HTMLParser):
    """Tags, attribute values and text of a page; fails on tags that do not close."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.values, self.text = [], [], [], ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def parse():
    """parse(html) -> ParsedPage."""
    return ParsedPage
