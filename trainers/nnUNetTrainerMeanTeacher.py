"""Semi-supervised training by consistency with an averaged teacher."""

from nnunet_xlstm.config.semi import MEAN_TEACHER
from nnunet_xlstm.nnunet.training.semi import SemiTrainer


class nnUNetTrainerMeanTeacher(SemiTrainer):
    """Mean Teacher: squared error of soft outputs between student and teacher on unlabelled images."""

    recipe = MEAN_TEACHER
