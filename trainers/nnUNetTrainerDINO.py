"""Pre-training without labels at the batch sizes that people have."""

from nnunet_xlstm.nnunet.pretrain_trainer import PretrainTrainer
from nnunet_xlstm.pretraining.config import ROBUST


class nnUNetTrainerDINO(PretrainTrainer):
    """DINO with dense and KoLeo terms, 16 batches per step, a slow teacher and centre: made not to collapse."""

    recipe = ROBUST
