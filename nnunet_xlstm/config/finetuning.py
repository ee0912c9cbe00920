"""Keys of the fine-tuning trainers and their presets (data). Imports no torch.

Sources: 3D-Heart_Seg and 3D-SegSync (what is frozen, Adam's rates), nnssl (SGD 1e-3 with warm-up; decoder first).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nnunet_xlstm.config import PoolConfig, SegmentationConfig, key


@dataclass(frozen=True)
class FinetuneKeys:
    """What learns, and when."""

    trainable: str = key(
        "all",
        "all; decoder: encoder and bottleneck stay as they are; bottleneck: the encoder but its last stage stays",
        ("all", "decoder", "bottleneck"),
    )
    decoder_epochs: int = key(0, "warm-up epochs with a frozen encoder (triangular learning rate)", at_least=0)
    layer_decay: float = key(
        1.0,
        "layer-wise learning-rate decay: factor from each stage of the encoder to the one above it; 1: none",
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True)
class FinetuneConfig(SegmentationConfig, FinetuneKeys):
    """Keys of the fine-tuning trainers."""


@dataclass(frozen=True)
class PoolFinetuneConfig(FinetuneConfig, PoolConfig):
    """Keys of the trainers that fine-tune on a pool."""


# nnssl's schedule
_RUN: dict[str, Any] = {"num_epochs": 150, "lr_schedule": "warmup_poly", "warmup_fraction": 0.1, "initial_lr": 1e-3}

FULL = FinetuneConfig(**_RUN)
STAGED = FinetuneConfig(**_RUN, decoder_epochs=25)

# The papers': Adam at one rate, no weight decay, 1000 epochs; each with the augmentation that it names.
_PAPER: dict[str, Any] = {"num_epochs": 1000, "optimizer": "adam", "weight_decay": 0.0, "lr_schedule": "constant"}

# 3D-Heart_Seg, stage 3: "encoder and bottom layers frozen"; it gives neither patch nor batch
HEARTSEG = FinetuneConfig(**_PAPER, initial_lr=1e-4, trainable="decoder", augmentation="heartseg")
# 3D-SegSync, section 2.2.3: the whole network learns
SEGSYNC = FinetuneConfig(**_PAPER, initial_lr=1e-5, batch_size=2, patch_size=[128, 128, 128], augmentation="segsync")
# 3D-SegSync_Bottom; of three readings, that the encoder's last stage and the decoder learn
SEGSYNC_BOTTOM = replace(SEGSYNC, trainable="bottleneck")

# Ours: the papers' rates with nnssl's length and schedule, for plans' patches and nnU-Net's augmentation
_SHORT = _RUN | {"optimizer": "adam", "weight_decay": 0.0}
FROZEN_150 = FinetuneConfig(**_SHORT | {"initial_lr": 1e-4}, trainable="decoder")
BOTTOM_150 = FinetuneConfig(**_SHORT | {"initial_lr": 1e-5}, trainable="bottleneck")

# The same on a pool, whose loss and draws are those of nnUNetTrainerPool
POOL_FULL = PoolFinetuneConfig(**_RUN)
POOL_FROZEN = PoolFinetuneConfig(**_SHORT | {"initial_lr": 1e-4}, trainable="decoder")
POOL_STAGED = PoolFinetuneConfig(**_RUN, decoder_epochs=25)
