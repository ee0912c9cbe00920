"""Fine-tuning on a frozen encoder."""

from nnunet_xlstm.config.finetuning import FROZEN_150, HEARTSEG
from nnunet_xlstm.nnunet.training.finetuning import FinetuneTrainer


class nnUNetTrainerFinetuneFrozen(FinetuneTrainer):
    """3D-Heart_Seg: encoder and bottleneck stay as they are, the decoder learns (Adam 1e-4, constant, 1000 epochs)."""

    recipe = HEARTSEG


class nnUNetTrainerFinetuneFrozen_150epochs(FinetuneTrainer):
    """Ours: the same in 150 epochs, with warm-up, poly and nnU-Net's augmentation."""

    recipe = FROZEN_150
