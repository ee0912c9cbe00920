"""Fine-tuning of the bottom and the decoder."""

from nnunet_xlstm.nnunet.finetune import FinetuneTrainer
from nnunet_xlstm.transfer.config import BOTTOM


class nnUNetTrainerFinetuneBottom(FinetuneTrainer):
    """3D-SegSync_Bottom: the encoder's last stage and the decoder learn (Adam 1e-5)."""

    recipe = BOTTOM
