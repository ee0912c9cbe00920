"""Fine-tuning of the whole network."""

from nnunet_xlstm.nnunet.finetune import FinetuneTrainer
from nnunet_xlstm.transfer.config import FULL


class nnUNetTrainerFinetune(FinetuneTrainer):
    """Fine-tunes the whole network: SGD at 1e-3 with warm-up, 150 epochs."""

    recipe = FULL
