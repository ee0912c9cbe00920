"""What trainers log of a step's memory before the first one."""

import types

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


@pytest.fixture
def make(make_trainer):
    def _make(name):
        trainer = make_trainer(name, {"precision": "bf16"})
        trainer.initialize()
        return trainer

    return _make


@pytest.mark.parametrize("name, states", [("nnUNetTrainerXLSTMUNet", 1), ("nnUNetTrainerXLSTMUNetAdam", 2)])
def test_line_of_a_trainer(name, states, make):
    trainer = make(name)
    line = trainer.memory_line()
    bytes_of_parameters = 4 * sum(p.numel() for p in trainer.network.parameters()) * (2 + states)
    assert "training needs about" in line
    assert f"weights, gradients and optimizer {bytes_of_parameters / 1e9:.1f}" in line


def test_pretraining_counts_a_teacher_and_no_masks(make):
    line = make("nnUNetTrainerDINO").memory_line()
    assert line.endswith("loss 0.0)")


def test_networks_of_others_get_a_sentence(make):
    trainer = make("nnUNetTrainerXLSTMUNet")
    trainer.network = torch.nn.Identity()
    assert trainer.memory_line() == "memory: no estimate, Identity does not tell the size of its feature maps"


class Stopped(Exception):
    """Ends a run where nnU-Net's own start begins."""


def test_a_fresh_run_on_a_gpu_says_its_memory(make_trainer, monkeypatch):
    """nnU-Net builds the network at the start of the run; the line needs it."""
    trainer = make_trainer("nnUNetTrainerXLSTMUNet", {"precision": "fp32"})
    initialize, lines = trainer.initialize, []

    def initialize_on_the_cpu(self):
        self.device = torch.device("cpu")
        initialize()
        self.device = torch.device("cuda")

    def stop(self):
        raise Stopped

    trainer.initialize = types.MethodType(initialize_on_the_cpu, trainer)
    trainer.print_to_log_file = lambda *text, **_: lines.append(" ".join(map(str, text)))
    trainer.device = torch.device("cuda")
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", stop)
    monkeypatch.setattr(torch, "set_autocast_dtype", lambda *_: None)
    with pytest.raises(Stopped):
        trainer.on_train_start()
    trainer.stops.end()
    assert any("training needs about" in line for line in lines)
