"""Fine-tuning of the whole network."""

from nnunet_xlstm.config.finetuning import FULL
from nnunet_xlstm.nnunet.training.finetuning import FinetuneTrainer


class nnUNetTrainerFinetune(FinetuneTrainer):
    """Fine-tunes the whole network: SGD at 1e-3 with warm-up, 150 epochs."""

    recipe = FULL
