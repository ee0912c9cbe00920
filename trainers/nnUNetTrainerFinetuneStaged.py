"""Fine-tuning in two stages."""

from nnunet_xlstm.config.finetuning import STAGED
from nnunet_xlstm.nnunet.training.finetuning import FinetuneTrainer


class nnUNetTrainerFinetuneStaged(FinetuneTrainer):
    """The decoder learns for 25 epochs, then the whole network with a new warm-up."""

    recipe = STAGED
