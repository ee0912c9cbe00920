"""Fine-tuning on a frozen encoder."""

from nnunet_xlstm.nnunet.finetune import FinetuneTrainer
from nnunet_xlstm.transfer.config import FROZEN


class nnUNetTrainerFinetuneFrozen(FinetuneTrainer):
    """3D-Heart_Seg: encoder and bottom stay as pre-trained, the decoder learns (Adam 1e-4)."""

    recipe = FROZEN
