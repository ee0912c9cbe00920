"""What trainers log of a step's memory before the first one."""

import importlib
import json

import pytest
import torch

from nnunet_xlstm import registry


@pytest.mark.parametrize("name, states", [("nnUNetTrainerXLSTMUNet", 1), ("nnUNetTrainerXLSTMUNetAdam", 2)])
def test_line_of_a_trainer(name, states, nnunet_tree, tmp_path, monkeypatch):
    trainer = make(name, nnunet_tree, tmp_path, monkeypatch)
    line = trainer.memory_line()
    bytes_of_parameters = 4 * sum(p.numel() for p in trainer.network.parameters()) * (2 + states)
    assert "training needs about" in line
    assert f"weights, gradients and optimizer {bytes_of_parameters / 1e9:.1f}" in line


def test_pretraining_counts_a_teacher_and_no_masks(nnunet_tree, tmp_path, monkeypatch):
    line = make("nnUNetTrainerDINO", nnunet_tree, tmp_path, monkeypatch).memory_line()
    assert line.endswith("loss 0.0)")


def test_networks_of_others_get_a_sentence(nnunet_tree, tmp_path, monkeypatch):
    trainer = make("nnUNetTrainerXLSTMUNet", nnunet_tree, tmp_path, monkeypatch)
    trainer.network = torch.nn.Identity()
    assert trainer.memory_line() == "memory: no estimate, Identity does not tell the size of its feature maps"


def make(name, nnunet_tree, tmp_path, monkeypatch):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"precision": "bf16"}))
    monkeypatch.setenv("nnUNet_xlstm_config", str(config))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    folder = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids"
    plans = json.loads((folder / "nnUNetXLSTMUNetTinyPlans.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    cls = getattr(importlib.import_module(registry.TRAINERS[name]), name)
    trainer = cls(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer.initialize()
    return trainer
