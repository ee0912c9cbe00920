"""The fine-tuning of 3D-SegSync."""

from nnunet_xlstm.config.finetuning import SEGSYNC
from nnunet_xlstm.nnunet.training.finetuning import FinetuneTrainer


class nnUNetTrainerFinetune_SegSync(FinetuneTrainer):
    """The whole network learns: Adam 1e-5 at a constant rate, 1000 epochs, patches of 128^3, batch 2."""

    recipe = SEGSYNC
