"""nnU-Net's own recipe with our checkpoints, guards and config."""

from nnunet_xlstm.nnunet.training.base import BaseTrainer


class nnUNetTrainerXLSTMUNet(BaseTrainer):
    """SGD 1e-2, poly, 1000 epochs of 250 iterations: nnU-Net's recipe, in bf16 where the GPU has it."""
