"""Fine-tuning on a frozen encoder."""

from nnunet_xlstm.nnunet.finetune import FinetuneTrainer
from nnunet_xlstm.transfer.config import FROZEN_150, HEARTSEG


class nnUNetTrainerFinetuneFrozen(FinetuneTrainer):
    """3D-Heart_Seg: encoder and bottom stay as pre-trained, the decoder learns (Adam 1e-4, constant, 1000 epochs)."""

    recipe = HEARTSEG


class nnUNetTrainerFinetuneFrozen_150epochs(FinetuneTrainer):
    """Ours: the same in 150 epochs, with warm-up, poly and nnU-Net's augmentation."""

    recipe = FROZEN_150
