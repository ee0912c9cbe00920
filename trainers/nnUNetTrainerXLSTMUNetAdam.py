"""The recipe of 3D-Heart_Seg."""

from nnunet_xlstm.config import SegmentationConfig
from nnunet_xlstm.nnunet.training.base import BaseTrainer


class nnUNetTrainerXLSTMUNetAdam(BaseTrainer):
    """Adam 1e-4 at a constant rate, Dice + cross-entropy, rotation and elastic deformation, 1000 epochs."""

    recipe = SegmentationConfig(
        optimizer="adam", initial_lr=1e-4, weight_decay=0.0, lr_schedule="constant", augmentation="heartseg"
    )
