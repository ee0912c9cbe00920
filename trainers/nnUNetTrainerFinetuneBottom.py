"""Fine-tuning of the bottleneck and the decoder."""

from nnunet_xlstm.config.finetuning import BOTTOM_150, SEGSYNC_BOTTOM
from nnunet_xlstm.nnunet.training.finetuning import FinetuneTrainer


class nnUNetTrainerFinetuneBottom(FinetuneTrainer):
    """3D-SegSync_Bottom: the encoder's last stage and the decoder learn (Adam 1e-5, constant, 1000 epochs, 128^3)."""

    recipe = SEGSYNC_BOTTOM


class nnUNetTrainerFinetuneBottom_150epochs(FinetuneTrainer):
    """Ours: the same in 150 epochs, with warm-up, poly, nnU-Net's augmentation and the patch of the plans."""

    recipe = BOTTOM_150
