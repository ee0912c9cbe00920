"""A trainer in each of two processes, joined by gloo: nnU-Net itself starts DDP on CUDA only."""

import importlib
import json
import os

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from nnunet_xlstm import registry


def join(name: str, rank: int, folder: str, dataset: str = "Dataset901_Ellipsoids", fold: int | str = 0):
    """The trainer of a rank as it is when training starts, with all ranks joined; its network is not wrapped yet."""
    base = os.path.join(os.environ["nnUNet_preprocessed"], dataset)
    with open(os.path.join(base, "nnUNetXLSTMUNetTinyPlans.json")) as file:
        plans = json.load(file) | {"continue_training": False}
    with open(os.path.join(base, "dataset.json")) as file:
        facts = json.load(file)
    torch.set_num_threads(1)
    kind = getattr(importlib.import_module(registry.TRAINERS[name]), name)
    trainer = kind(plans, "3d_fullres", fold, facts, torch.device("cpu"))
    trainer.local_rank = rank  # before it starts: what one rank alone may write is then written by one
    trainer.on_train_start()
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    trainer.is_ddp = True
    return trainer


def start(name: str, rank: int, folder: str, dataset: str = "Dataset901_Ellipsoids", fold: int | str = 0):
    """A segmentation trainer, joined, with its network wrapped as DDP does."""
    trainer = join(name, rank, folder, dataset, fold)
    trainer.network = DistributedDataParallel(trainer.network)
    trainer.loss = trainer._build_loss()  # DDP needs a gradient in every head; nnU-Net's loss sees to that
    return trainer
