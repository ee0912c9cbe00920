"""Pre-training by filling in masked blocks."""

from nnunet_xlstm.nnunet.pretrain_trainer import PretrainTrainer
from nnunet_xlstm.pretraining.config import MASKED


class nnUNetTrainerMasked(PretrainTrainer):
    """Masked image modelling: predicts the voxels of masked blocks (SimMIM). Cannot collapse; has no teacher."""

    recipe = MASKED
