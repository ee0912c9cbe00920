"""The pre-training of 3D-Heart_Seg."""

from nnunet_xlstm.config.pretraining import HEARTSEG
from nnunet_xlstm.nnunet.training.pretraining import PretrainTrainer


class nnUNetTrainerDINO_HeartSeg(PretrainTrainer):
    """Adam 1e-4 at a constant rate, cross-entropy and MSE between views, 1000 epochs."""

    recipe = HEARTSEG
