"""TSFM: training on a pool, and transfer of what was trained there in few epochs."""

from nnunet_xlstm.config import PoolConfig
from nnunet_xlstm.config.finetuning import FinetuneConfig
from nnunet_xlstm.nnunet.training.finetuning import FinetuneTrainer
from nnunet_xlstm.nnunet.training.pool import PoolTrainer


class nnUNetTrainerTSFM(PoolTrainer):
    """TSFM on a pool: SGD 1e-3 with Nesterov momentum 0.99, weight decay 1e-3, batch 2, 112 x 160 x 192."""

    recipe = PoolConfig(initial_lr=1e-3, weight_decay=1e-3, batch_size=2, patch_size=[112, 160, 192])


class nnUNetTrainerTSFM_10epochs(FinetuneTrainer):
    """nnU-Net's recipe in 10 epochs; the rate falls to zero over these."""

    recipe = FinetuneConfig(num_epochs=10)


class nnUNetTrainerTSFM_20epochs(FinetuneTrainer):
    """nnU-Net's recipe in 20 epochs; the rate falls to zero over these."""

    recipe = FinetuneConfig(num_epochs=20)


class nnUNetTrainerTSFM_50epochs(FinetuneTrainer):
    """nnU-Net's recipe in 50 epochs; the rate falls to zero over these."""

    recipe = FinetuneConfig(num_epochs=50)


class nnUNetTrainerTSFM_100epochs(FinetuneTrainer):
    """nnU-Net's recipe in 100 epochs; the rate falls to zero over these."""

    recipe = FinetuneConfig(num_epochs=100)
