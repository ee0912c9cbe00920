"""Training on a pool of data sets that each label some of the targets."""

from nnunet_xlstm.nnunet.training.pool import PoolTrainer


class nnUNetTrainerPool(PoolTrainer):
    """nnU-Net's schedule with BCE + batch Dice over annotated targets, cases drawn by the pool's rule."""
