"""Fine-tuning in two stages."""

from nnunet_xlstm.nnunet.finetune import FinetuneTrainer
from nnunet_xlstm.transfer.config import STAGED


class nnUNetTrainerFinetuneStaged(FinetuneTrainer):
    """The decoder learns for 25 epochs, then the whole network with a new warm-up."""

    recipe = STAGED
