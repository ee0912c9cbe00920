"""Fine-tuning on a pool of data sets that each label some of the targets."""

from nnunet_xlstm.config.finetuning import POOL_FROZEN, POOL_FULL, POOL_STAGED
from nnunet_xlstm.nnunet.training.finetuning import FinetuneTrainer
from nnunet_xlstm.nnunet.training.pool import PoolTrainer


class nnUNetTrainerPoolFinetune(PoolTrainer, FinetuneTrainer):
    """Fine-tunes the whole network over annotated targets: SGD at 1e-3 with warm-up, 150 epochs."""

    recipe = POOL_FULL


class nnUNetTrainerPoolFrozen(PoolTrainer, FinetuneTrainer):
    """The encoder stays as pre-trained, the decoder learns over annotated targets (Adam 1e-4, 150 epochs)."""

    recipe = POOL_FROZEN


class nnUNetTrainerPoolStaged(PoolTrainer, FinetuneTrainer):
    """The decoder learns for 25 epochs, then the whole network with a new warm-up, over annotated targets."""

    recipe = POOL_STAGED
