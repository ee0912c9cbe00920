"""Keys of the semi-supervised trainers and their recipes (data). Imports no torch.

Sources: BCP (Bai et al., CVPR 2023) for copy-paste, its box, the start among the labelled (10,000 of 40,000
iterations) and momentum; Mean Teacher (Tarvainen and Valpola 2017) for consistency. Their steps stand in
docs/how-to/semi-supervised.md, with what differs here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nnunet_xlstm.config import SegmentationConfig, key
from nnunet_xlstm.errors import ConfigError


@dataclass(frozen=True)
class SemiKeys:
    """Unlabelled images: where they are, what a teacher makes of them, and how much they count."""

    unlabelled: str | None = key(
        None,
        "id or name of the data set of unlabelled images, preprocessed with the labelled set's plans; null: the cases "
        "of the labelled set that the fold names neither for training nor for validation",
    )
    unlabelled_batch_size: int | None = key(
        None, "unlabelled images per step and GPU; null: as many as labelled ones", at_least=1
    )
    unlabelled_weight: float = key(1.0, "weight of mixed and of consistency loss at the end of the ramp", at_least=0)
    ramp_fraction: float = key(0.3, "share of all steps over which that weight rises", at_least=0, at_most=1)
    pretrain_fraction: float = key(
        0.25, "share of all steps, at the start, without unlabelled images", at_least=0, at_most=1
    )
    teacher_momentum: float = key(
        0.99, "EMA of the student's weights; at the end teacher_momentum_end", at_least=0, at_most=1
    )
    teacher_momentum_end: float = key(0.99, "see teacher_momentum, a cosine between them", at_least=0, at_most=1)
    copy_paste: str = key(
        "bidirectional",
        "a box changes places between a labelled and an unlabelled image (bidirectional; among the labelled ones "
        "during pretrain_fraction), or always between labelled ones (labelled_only, the control), or none",
        ("bidirectional", "labelled_only", "none"),
    )
    box_share: float = key(2 / 3, "edge of the box as a share of the patch's", at_least=0.05, at_most=1)
    confidence: float = key(
        0.0, "least probability of a pseudo-label; voxels below it are ignored", at_least=0, at_most=1
    )
    largest_component: bool = key(False, "keep only the largest component of each class of a pseudo-label")
    consistency: str = key(
        "none",
        "between soft outputs of student and teacher for the same unlabelled image: mse, kl, or none",
        ("none", "mse", "kl"),
    )
    strong_intensity: float = key(
        0.0,
        "strength of the intensity changes that only the student sees in unlabelled images; 0: none",
        at_least=0,
        at_most=1,
    )
    export_branch: str = key(
        "student", "what is validated, and stored for prediction: student or teacher", ("student", "teacher")
    )

    @property
    def needs_unlabelled(self) -> bool:
        """Return whether these keys use unlabelled images at all."""
        return self.copy_paste == "bidirectional" or self.consistency != "none"


@dataclass(frozen=True)
class SemiConfig(SegmentationConfig, SemiKeys):
    """Keys of the semi-supervised trainers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.copy_paste == self.consistency == "none":
            raise ConfigError(
                "copy_paste and consistency are both none, so nothing is learned from unlabelled images; set one of "
                "them, or train with nnUNetTrainerXLSTMUNet"
            )


BCP = SemiConfig()
MEAN_TEACHER = SemiConfig(
    copy_paste="none", consistency="mse", pretrain_fraction=0.0, strong_intensity=0.1, export_branch="teacher"
)
COPY_PASTE_CONTROL = replace(BCP, copy_paste="labelled_only")
