"""The pre-training of 3D-Heart_Seg."""

from nnunet_xlstm.nnunet.pretrain_trainer import PretrainTrainer
from nnunet_xlstm.pretraining.config import HEARTSEG


class nnUNetTrainerDINO_HeartSeg(PretrainTrainer):
    """Adam 1e-4 at a constant rate, cross-entropy and MSE between views, 1000 epochs."""

    recipe = HEARTSEG
