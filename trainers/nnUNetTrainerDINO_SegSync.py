"""The pre-training of 3D-SegSync."""

from nnunet_xlstm.nnunet.pretrain_trainer import PretrainTrainer
from nnunet_xlstm.pretraining.config import SEGSYNC


class nnUNetTrainerDINO_SegSync(PretrainTrainer):
    """Adam 1e-5 at a constant rate, KL and MSE between views, patches of 96^3, batch 2, early stop."""

    recipe = SEGSYNC
