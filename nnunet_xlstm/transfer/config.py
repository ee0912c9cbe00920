"""Keys of the fine-tuning trainers and their presets (data). Imports no torch.

Sources: 3D-Heart_Seg and 3D-SegSync (what is frozen, Adam's rates), nnssl (SGD 1e-3 with warm-up; decoder first).
"""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_xlstm.config import SegmentationConfig, key


@dataclass(frozen=True)
class FinetuneKeys:
    """What learns, and when."""

    trainable: str = key(
        "all",
        "all; decoder: encoder and bottom stay as they are; bottom: the encoder but its last stage stays",
        ("all", "decoder", "bottom"),
    )
    decoder_epochs: int = key(
        0, "epochs at the start in which the decoder alone learns, its rate going up and down once", at_least=0
    )
    lr_decay: float = key(
        1.0,
        "each part of the encoder learns at this share of the next deeper one's rate; 1: all alike",
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True)
class FinetuneConfig(SegmentationConfig, FinetuneKeys):
    """Keys of the fine-tuning trainers."""


_RUN = {"num_epochs": 150, "lr_schedule": "warmup_poly", "warmup_fraction": 0.1, "initial_lr": 1e-3}

FULL = FinetuneConfig(**_RUN)
STAGED = FinetuneConfig(**_RUN, decoder_epochs=25)
# 3D-Heart_Seg fine-tunes with Adam at 1e-4 on a frozen encoder
FROZEN = FinetuneConfig(**_RUN | {"initial_lr": 1e-4}, optimizer="adam", weight_decay=0.0, trainable="decoder")
# 3D-SegSync_Bottom: Adam at 1e-5; of three readings, that the bottom and the decoder learn
BOTTOM = FinetuneConfig(**_RUN | {"initial_lr": 1e-5}, optimizer="adam", weight_decay=0.0, trainable="bottom")
