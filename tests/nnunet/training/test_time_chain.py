"""Sequences with time as an axis or as channels: planned, pre-trained, and fine-tuned on volumes of one channel."""

import importlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_xlstm import registry
from nnunet_xlstm.cli.main import main
from nnunet_xlstm.errors import ConfigError

PLANS = "nnUNetXLSTMUNetTinyPlans"
QUICK = {
    "num_epochs": 1,
    "num_iterations_per_epoch": 2,
    "num_val_iterations_per_epoch": 1,
    "patch_size": [16, 16, 16],
    "batch_size": 2,
    "seed": 1,
}
SMALL = {
    "gradient_accumulation": 1,
    "n_prototypes": 32,
    "n_prototypes_inner": 16,
    "head_hidden": 32,
    "monitor_vectors": 16,
}


@pytest.fixture
def trainer_of(nnunet_tree, tmp_path, monkeypatch):
    """trainer_of(name, dataset, **keys) -> a trainer on all cases, in a results folder of its own."""

    def _make(name, dataset, **keys):
        (tmp_path / "config.json").write_text(json.dumps(QUICK | keys))
        monkeypatch.setenv("nnUNet_xlstm_config", str(tmp_path / "config.json"))
        monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
        folder = nnunet_tree / "preprocessed" / dataset
        plans = json.loads((folder / f"{PLANS}.json").read_text()) | {"continue_training": False}
        content = json.loads((folder / "dataset.json").read_text())
        trainer = getattr(importlib.import_module(registry.TRAINERS[name]), name)
        return trainer(plans, "3d_fullres", "all", content, torch.device("cpu"))

    return _make


def write_cines(folder, slices, frames):
    """Bright boxes that beat, of 10 ms a frame and 1 mm a voxel: all axes of 2D+t are alike."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        array = rng.normal(0, 0.3, (28, 24, slices, frames)).astype(np.float32)
        for t in range(frames):
            edge = 5 + t % 3
            array[edge:-edge, edge:-edge, :, t] += 3 + i
        image = nibabel.Nifti1Image(array, np.eye(4))
        image.header.set_zooms((1, 1, 1, 10))
        image.header.set_xyzt_units("mm", "msec")
        nibabel.save(image, folder / f"c{i}.nii.gz")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "number", "slices", "frames", "channels"), [("axis", 931, 1, 20, 1), ("channels", 932, 20, 4, 3)]
)
def test_from_a_sequence_to_a_network_for_volumes(
    mode, number, slices, frames, channels, nnunet_tree, plan_and_preprocess, trainer_of, tmp_path, monkeypatch
):
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(nnunet_tree / name))
    write_cines(tmp_path / "in", slices, frames)
    command = ["unlabelled", "-i", str(tmp_path / "in"), "--modality", "MR", "-d", str(number), "--time", mode]
    assert main(command) == 0
    plan_and_preprocess(number, check=True)
    dataset = f"Dataset{number}_Unlabelled"

    paired = trainer_of("nnUNetTrainerDINO", dataset, frames="pair", **SMALL)
    with pytest.raises(ConfigError, match="no case of this data set has another frame"):
        paired.on_train_start()
    pretraining = trainer_of("nnUNetTrainerDINO", dataset, **SMALL)
    assert pretraining.configuration_manager.spacing == [1, 1, 1]
    pretraining.run_training()
    assert pretraining.num_input_channels == channels
    checkpoint = Path(pretraining.output_folder) / "checkpoint_final.pth"

    adapted = tmp_path / "adapted.pth"
    assert main(["adapt", str(checkpoint), "-d", "901", "-p", PLANS, "-o", str(adapted)]) == 0
    tuning = trainer_of("nnUNetTrainerFinetuneFrozen", "Dataset901_Ellipsoids")
    tuning.initialize()
    load_pretrained_weights(tuning.network, str(adapted))
    before, after = torch.load(checkpoint)["network_weights"], tuning.bare_network().state_dict()
    stem = next(name for name in before if name.startswith("encoder.stem") and before[name].ndim == 5)
    assert before[stem].shape[1] == channels  # equal frames get the same answer as the one image
    torch.testing.assert_close(after[stem], before[stem].sum(1, keepdim=True))
    tuning.on_train_start()
    tuning.on_train_epoch_start()
    assert np.isfinite(float(tuning.train_step(next(tuning.dataloader_train))["loss"]))
