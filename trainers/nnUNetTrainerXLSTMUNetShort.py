"""A short recipe for studies on a CPU, the same for all variants (docs/reference/cpu-protocol.md)."""

from nnunet_xlstm.config import SegmentationConfig
from nnunet_xlstm.nnunet.training.base import BaseTrainer


class nnUNetTrainerXLSTMUNetShort(BaseTrainer):
    """AdamW 1e-3, 5 % warm-up, poly by iteration, 10 epochs of 50 iterations, no mirroring."""

    recipe = SegmentationConfig(
        num_epochs=10,
        num_iterations_per_epoch=50,
        num_val_iterations_per_epoch=4,
        mirroring=False,
        optimizer="adamw",
        initial_lr=1e-3,
        weight_decay=1e-2,
        lr_schedule="warmup_poly",
    )
