"""Pre-training without labels at the batch sizes that people have."""

from nnunet_xlstm.config.pretraining import ROBUST
from nnunet_xlstm.nnunet.training.pretraining import PretrainTrainer


class nnUNetTrainerDINO(PretrainTrainer):
    """DINO with dense and KoLeo terms, 16 batches per step, a slow teacher and center: made not to collapse."""

    recipe = ROBUST
