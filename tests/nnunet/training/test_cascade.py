"""Low resolution, then the cascade, with our network and trainer: stock's own loop and files."""

import copy
import json

import pytest
import torch

pytestmark = pytest.mark.slow

KEYS = {
    "num_epochs": 1,
    "num_iterations_per_epoch": 4,
    "num_val_iterations_per_epoch": 1,
    "patch_size": [16, 16, 16],
    "batch_size": 2,
    "mirroring": False,
    "seed": 3,
}
PLANS = "nnUNetXLSTMUNetTinyPlans"


@pytest.fixture
def cascade_plans(nnunet_tree):
    """The tiny plans with a half-resolution stage, as stock's planner writes them for large images; preprocessed."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

    path = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids" / f"{PLANS}.json"
    before = path.read_text()
    plans = json.loads(before)
    full = plans["configurations"]["3d_fullres"]
    low = copy.deepcopy(full) | {
        "data_identifier": f"{PLANS}_3d_lowres",
        "spacing": [1.5 * s for s in full["spacing"]],
        "next_stage": "3d_cascade_fullres",
    }
    plans["configurations"] |= {
        "3d_lowres": low,
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    path.write_text(json.dumps(plans))
    preprocess_dataset(901, PLANS, ("3d_lowres",), num_processes=(1,))
    yield plans
    path.write_text(before)


def test_cascade(cascade_plans, nnunet_tree, tmp_path, monkeypatch):
    from nnunet_xlstm.trainers.nnUNetTrainerXLSTMUNetShort import nnUNetTrainerXLSTMUNetShort

    config = tmp_path / "config.json"
    config.write_text(json.dumps(KEYS))
    monkeypatch.setenv("nnUNet_xlstm_config", str(config))
    dataset = json.loads((nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids" / "dataset.json").read_text())

    for configuration, channels in (("3d_lowres", 1), ("3d_cascade_fullres", 1 + 2)):
        trainer = nnUNetTrainerXLSTMUNetShort(
            cascade_plans | {"continue_training": False}, configuration, "all", dataset, torch.device("cpu")
        )
        trainer.run_training()
        assert trainer.network.encoder.stem.input_channels == channels  # the cascade sees the labels below
        trainer.perform_actual_validation()
        folder = nnunet_tree / "results" / "Dataset901_Ellipsoids"
        folder /= f"nnUNetTrainerXLSTMUNetShort__{PLANS}__{configuration}"
        summary = json.loads((folder / "fold_all" / "validation" / "summary.json").read_text())
        assert len(summary["metric_per_case"]) == 6
        if configuration == "3d_lowres":
            assert len(list((folder / "predicted_next_stage" / "3d_cascade_fullres").iterdir())) == 6
