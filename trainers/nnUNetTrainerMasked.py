"""Pre-training by filling in masked blocks."""

from nnunet_xlstm.config.pretraining import MASKED
from nnunet_xlstm.nnunet.training.pretraining import PretrainTrainer


class nnUNetTrainerMasked(PretrainTrainer):
    """Masked image modelling: predicts the voxels of masked blocks (SimMIM). Cannot collapse; has no teacher."""

    recipe = MASKED
