"""What trainers log of a step's memory before the first one."""

import pytest
import torch


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
