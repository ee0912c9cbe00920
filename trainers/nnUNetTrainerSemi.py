"""Semi-supervised training by bidirectional copy-paste."""

from nnunet_xlstm.config.semi import BCP, COPY_PASTE_CONTROL
from nnunet_xlstm.nnunet.training.semi import SemiTrainer


class nnUNetTrainerSemi(SemiTrainer):
    """Averaged teacher and bidirectional copy-paste between labelled and unlabelled images, in nnU-Net's schedule."""

    recipe = BCP


class nnUNetTrainerCopyPaste(SemiTrainer):
    """The control of nnUNetTrainerSemi: copy-paste among the labelled images alone, an augmentation."""

    recipe = COPY_PASTE_CONTROL
