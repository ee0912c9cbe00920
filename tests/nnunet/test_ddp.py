"""Two ranks on the CPU: nnU-Net starts DDP on CUDA only, so each rank is built alone and joined by gloo here."""

import json
import os
import signal

import pytest
import torch

pytestmark = pytest.mark.slow


def rank_main(rank: int, folder: str) -> None:
    """Two steps; then a signal reaches rank 1 alone, and both must end with one complete checkpoint."""
    from nnunet_xlstm.trainers.nnUNetTrainerXLSTMUNetShort import nnUNetTrainerXLSTMUNetShort
    from torch import distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    base = os.path.join(os.environ["nnUNet_preprocessed"], "Dataset901_Ellipsoids")
    with open(os.path.join(base, "nnUNetXLSTMUNetTinyPlans.json")) as file:
        plans = json.load(file) | {"continue_training": False}
    with open(os.path.join(base, "dataset.json")) as file:
        dataset = json.load(file)
    torch.set_num_threads(1)
    trainer = nnUNetTrainerXLSTMUNetShort(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer.on_train_start()
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    trainer.network = DistributedDataParallel(trainer.network)
    trainer.is_ddp, trainer.local_rank = True, rank
    trainer.loss = trainer._build_loss()  # DDP needs a gradient in every head; nnU-Net's loss sees to that
    trainer.on_train_epoch_start()  # seeds by rank
    batches = [next(trainer.dataloader_train) for _ in range(2)]
    for batch in batches:
        trainer.train_step(batch)
    norm = sum(p.double().square().sum() for p in trainer.network.parameters()).item()
    report = {"norm": norm, "first_voxel": float(batches[0]["data"].flatten()[0])}
    if rank == 1:
        os.kill(os.getpid(), signal.SIGUSR1)
    try:
        trainer.train_step(batches[0])
    except SystemExit as end:
        report["exit"] = end.code
    with open(os.path.join(folder, f"rank_{rank}.json"), "w") as file:
        json.dump(report, file)
    dist.destroy_process_group()


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
