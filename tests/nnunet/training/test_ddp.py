"""Trainings on two ranks on the CPU."""

import json
import os
import signal

import pytest
import torch
from support.ranks import join, start
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

pytestmark = pytest.mark.slow


def rank_main(rank: int, folder: str) -> None:
    """Two steps; then a signal reaches rank 1 alone, and both must end with one complete checkpoint."""
    trainer = start("nnUNetTrainerXLSTMUNetShort", rank, folder)
    trainer.on_epoch_start()  # keeps what a stop writes
    trainer.on_train_epoch_start()  # seeds by rank
    batches = [next(trainer.dataloader_train) for _ in range(2)]
    for batch in batches:
        trainer.train_step(batch)
    norm = sum(p.double().square().sum() for p in trainer.network.parameters()).item()
    report = {"norm": norm, "first_voxel": float(batches[0]["data"].flatten()[0])}
    if rank == 1:
        os.kill(os.getpid(), signal.SIGUSR1)
    try:
        for _ in range(trainer.steps_between_checks):
            trainer.train_step(batches[0])
    except SystemExit as end:
        report["exit"] = end.code
    with open(os.path.join(folder, f"rank_{rank}.json"), "w") as file:
        json.dump(report, file)
    dist.destroy_process_group()


def pretraining_rank(rank: int, folder: str) -> None:
    """An epoch of two steps with accumulation, a look at the features, and the end of the epoch."""
    trainer = join("nnUNetTrainerDINO", rank, folder, fold="all")
    trainer.parallel = DistributedDataParallel(trainer.method, broadcast_buffers=False)
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train)) for _ in range(2)])
    trainer.on_validation_epoch_start()
    with torch.no_grad():
        outputs = [trainer.validation_step(next(trainer.dataloader_val))]
    trainer.on_validation_epoch_end(outputs)
    trainer.on_epoch_end()
    state = trainer.method.state_dict()
    norms = {name: value.double().square().sum().item() for name, value in state.items() if "queue" not in name}
    report = {
        "norms": norms,
        "val_loss": trainer.monitor.history[-1]["val_loss"],
        "files": os.listdir(trainer.output_folder),
    }
    with open(os.path.join(folder, f"rank_{rank}.json"), "w") as file:
        json.dump(report, file)
    dist.destroy_process_group()


def test_ranks_of_pretraining_agree(nnunet_tree, tmp_path, monkeypatch):
    config = {"num_epochs": 1, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1, "batch_size": 2}
    config |= {
        "patch_size": [16, 16, 16],
        "seed": 5,
        "gradient_accumulation": 2,
        "n_prototypes": 16,
        "n_prototypes_inner": 8,
    }
    config |= {"head_hidden": 16, "head_bottleneck": 8, "queue_size": 8, "monitor_vectors": 16, "dense_points": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("nnUNet_xlstm_config", str(tmp_path / "config.json"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    torch.multiprocessing.start_processes(pretraining_rank, (str(tmp_path),), nprocs=2, start_method="spawn")
    one, two = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2))
    assert one["norms"] == two["norms"]  # student, teacher, heads, center
    assert one["val_loss"] == two["val_loss"]
    assert {"progress.png", "pretraining.jsonl", "checkpoint_latest.pth"} & set(one["files"])


def test_ranks_agree_on_weights_and_on_when_to_stop(nnunet_tree, tmp_path, monkeypatch):
    config = {"num_epochs": 1, "num_iterations_per_epoch": 9, "patch_size": [16, 16, 16], "batch_size": 2, "seed": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("nnUNet_xlstm_config", str(tmp_path / "config.json"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    torch.multiprocessing.start_processes(rank_main, (str(tmp_path),), nprocs=2, start_method="spawn")
    one, two = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2))
    assert one["norm"] == two["norm"]  # the same weights ...
    assert one["first_voxel"] != two["first_voxel"]  # ... from other patches
    assert one["exit"] == two["exit"] == 128 + signal.SIGUSR1
    (checkpoint,) = tmp_path.rglob("checkpoint_latest.pth")
    state = torch.load(checkpoint, weights_only=False)["network_weights"]
    assert not [key for key in state if key.startswith("module.")]


def finetune_rank(rank: int, folder: str, name: str) -> None:
    """Every epoch with one step under weight decay; says after each which parts of the network have changed."""
    trainer = start(name, rank, folder)
    report = {"changed": []}
    for epoch in range(trainer.num_epochs):
        trainer.current_epoch = epoch
        before = {k: v.clone() for k, v in trainer.bare_network().state_dict().items()}
        trainer.on_train_epoch_start()
        trainer.train_step(next(trainer.dataloader_train))
        after = trainer.bare_network().state_dict()
        report["changed"].append(sorted({k.partition(".")[0] for k in after if not torch.equal(before[k], after[k])}))
    report["sum"] = sum(p.double().abs().sum().item() for p in trainer.bare_network().parameters())
    with open(os.path.join(folder, f"rank_{rank}.json"), "w") as file:
        json.dump(report, file)
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("nnUNetTrainerFinetuneFrozen", [["decoder"], ["decoder"], ["decoder"]]),
        ("nnUNetTrainerFinetuneStaged", [["decoder"], ["decoder", "encoder"], ["decoder", "encoder"]]),
    ],
)
def test_what_is_frozen_stays_on_all_ranks(nnunet_tree, tmp_path, monkeypatch, name, changed):
    config = {"num_epochs": 3, "num_iterations_per_epoch": 1, "patch_size": [16, 16, 16], "batch_size": 2, "seed": 5}
    config |= {"weight_decay": 0.1, "initial_lr": 0.01, "optimizer": "sgd"}
    config |= {"decoder_epochs": 1} if name.endswith("Staged") else {}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("nnUNet_xlstm_config", str(tmp_path / "config.json"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    torch.multiprocessing.start_processes(finetune_rank, (str(tmp_path), name), nprocs=2, start_method="spawn")
    one, two = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2))
    assert one["changed"] == two["changed"] == changed
    assert one["sum"] == two["sum"]  # gradients of the stage just entered are averaged as well
