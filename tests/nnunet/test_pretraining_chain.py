"""From images without labels to features and fine-tuning, by the commands of the how-to's."""

import json
import os

import pytest

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.nnunet.install.environment import child_variables, plan_command, stock_command
from nnunet_xlstm.subprocesses import Commands

KEYS = {
    "num_epochs": 1,
    "num_iterations_per_epoch": 2,
    "num_val_iterations_per_epoch": 1,
    "patch_size": [16, 16, 16],
    "batch_size": 2,
    "seed": 1,
}
SMALL_HEADS = {
    "gradient_accumulation": 1,
    "n_prototypes": 32,
    "n_prototypes_inner": 16,
    "head_hidden": 32,
    "monitor_vectors": 16,
}


@pytest.mark.slow
def test_images_without_labels_to_features_and_fine_tuning(nnunet_tree, tmp_path, monkeypatch):
    folders = {f"nnUNet_{name}": tmp_path / name for name in ("raw", "preprocessed", "results")}
    for name, path in folders.items():
        path.mkdir()
        monkeypatch.setenv(name, str(path))
    labelled = "Dataset901_Ellipsoids"
    (folders["nnUNet_raw"] / labelled).symlink_to(nnunet_tree / "raw" / labelled)
    (folders["nnUNet_preprocessed"] / labelled).symlink_to(nnunet_tree / "preprocessed" / labelled)
    images = nnunet_tree / "raw" / labelled / "imagesTr"
    config = tmp_path / "keys.json"
    config.write_text(json.dumps(KEYS | SMALL_HEADS))
    commands = Commands(tmp_path, child_variables({k.removeprefix("nnUNet_"): v for k, v in folders.items()}, config))

    assert main(["unlabelled", "-i", str(images), "--modality", "MR", "-d", "902"]) == 0
    plan = [*plan_command(), "-d", "902", "-pl", "nnUNetPlannerXLSTMUNetTiny", "-c", "3d_fullres"]
    commands.run("plan", [*plan, "-np", "1", "-npfp", "1"])
    train = [stock_command("nnUNetv2_train"), "902", "3d_fullres", "all", "-tr", "nnUNetTrainerDINO"]
    plans = "nnUNetXLSTMUNetTinyPlans"
    commands.run("pretrain", [*train, "-p", plans, "-device", "cpu"])
    (run,) = folders["nnUNet_results"].glob("*/nnUNetTrainerDINO__*/fold_all")
    checkpoint = run / "checkpoint_final.pth"
    rows = [json.loads(line) for line in (run / "pretraining.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [-1, 0] and (run / "progress.png").is_file()

    assert main(["features", "--checkpoint", str(checkpoint), "-d", "902", "-o", str(tmp_path / "features")]) == 0
    assert (
        json.loads((tmp_path / "features" / "features.json").read_text())["encoders"]["trained"]["effective_rank"] >= 1
    )

    # the features command reads where nnU-Net lay when it was imported; adapt reads the variables
    adapted = tmp_path / "adapted.pth"
    assert main(["adapt", str(checkpoint), "-d", "901", "-p", plans, "-o", str(adapted)]) == 0
    config.write_text(json.dumps(KEYS))
    train = [stock_command("nnUNetv2_train"), "901", "3d_fullres", "0", "-tr", "nnUNetTrainerFinetuneFrozen"]
    commands.run("finetune", [*train, "-p", plans, "-device", "cpu", "-pretrained_weights", str(adapted)])
    (log,) = folders["nnUNet_results"].glob("*/nnUNetTrainerFinetuneFrozen__*/fold_0/training_log*")
    assert "the encoder holds pre-trained weights" in log.read_text()
    assert "nnUNet_xlstm_config" not in os.environ
