"""Fixtures: empty folders of nnU-Net, and its own check of a data set."""

import multiprocessing.dummy
from types import SimpleNamespace

import pytest


@pytest.fixture
def nnunet_folders(tmp_path, monkeypatch):
    """Empty folders that nnU-Net's variables name; returns their parent."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / "nnunet" / name).mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / "nnunet" / name))
    return tmp_path / "nnunet"


@pytest.fixture
def verify_dataset_integrity(monkeypatch):
    """nnU-Net's own check, with threads in place of processes, each of which would import torch first."""
    from nnunetv2.experiment_planning import verify_dataset_integrity as stock
    from nnunetv2.utilities import utils

    monkeypatch.setattr(stock, "multiprocessing", SimpleNamespace(get_context=lambda _: multiprocessing.dummy))
    monkeypatch.setattr(utils, "Pool", multiprocessing.dummy.Pool)
    return stock.verify_dataset_integrity
