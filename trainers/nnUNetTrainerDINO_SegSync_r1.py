"""Pre-training with the settings of 3D-SegSync and a head at the bottleneck alone."""

from nnunet_xlstm.config.pretraining import SEGSYNC_R1
from nnunet_xlstm.nnunet.training.pretraining import PretrainTrainer


class nnUNetTrainerDINO_SegSync_r1(PretrainTrainer):
    """One reading of 3D-SegSync_Bottom: SSL on features of the encoder's last stage."""

    recipe = SEGSYNC_R1
