"""The network inside stock nnU-Net: stock trainer, stock predict, no environment variable of ours, no shim.

The whole chain with our trainers runs in tests/demo/test_run.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fold", [0])
def test_stock_trainer_trains_and_stock_command_predicts(nnunet_tree, fold):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids"
    plans = json.loads((folder / "nnUNetXLSTMUNetTinyPlans.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, "3d_fullres", fold, dataset, torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 12, 1
    trainer.run_training()
    trainer.perform_actual_validation()
    assert (Path(trainer.output_folder) / "validation" / "summary.json").exists()

    out = nnunet_tree / "predicted"
    environment = {k: v for k, v in os.environ.items() if k not in ("nnUNet_extTrainer", "nnUNet_xlstm_config")}
    command = [str(Path(sys.executable).parent / "nnUNetv2_predict"), "-i"]
    command += [str(nnunet_tree / "raw" / "Dataset901_Ellipsoids" / "imagesTr"), "-o", str(out), "-d", "901"]
    command += ["-c", "3d_fullres", "-f", "0", "-p", "nnUNetXLSTMUNetTinyPlans", "-device", "cpu"]
    run = subprocess.run(
        [*command, "-npp", "1", "-nps", "1", "--disable_tta"], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert len(list(out.glob("case_*.nii.gz"))) == 6
