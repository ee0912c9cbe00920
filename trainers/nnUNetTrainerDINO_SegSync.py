"""The pre-training of 3D-SegSync."""

from nnunet_xlstm.config.pretraining import SEGSYNC
from nnunet_xlstm.nnunet.training.pretraining import PretrainTrainer


class nnUNetTrainerDINO_SegSync(PretrainTrainer):
    """Adam 1e-5 at a constant rate, KL and MSE between views, patches of 96^3, batch 2, early stop."""

    recipe = SEGSYNC
