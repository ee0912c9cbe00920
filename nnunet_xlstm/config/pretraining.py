"""Keys of the pre-training trainers and their presets (data). Imports no torch.

Sources: 3D-Heart_Seg, 3D-SegSync (App. C), DINO (Caron et al. 2021), DINOv2 (Oquab et al. 2023). Where papers
contradict each other or are silent, docs/explanation/pretraining.md says what was chosen and why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nnunet_xlstm.config import OptimizerKeys, SafetyKeys, ScheduleKeys, key


@dataclass(frozen=True)
class ViewKeys:
    """The views of an image that student and teacher see."""

    n_local_crops: int = key(0, "small views per image, seen by the student alone", at_least=0)
    local_patch_size: list[int] | None = key(None, "voxels of a small view; null: half the patch, as strides allow")
    parent_scale: float = key(1.5, "edge of the crop that all views of an image come from, in patches", at_least=1)
    crop_scale_min: float = key(0.5, "least edge of a view as a share of the parent crop's", at_least=0.05)
    crop_scale_max: float = key(1.0, "greatest edge of a view as a share of the parent crop's", at_least=0.05)
    through_plane_scale_min: float = key(0.8, "crop_scale_min along the axis of thick slices", at_least=0.05)
    min_overlap: float = key(
        0.3, "least share of the smaller global view that the other one covers", at_least=0, at_most=1
    )
    intensity: str = key(
        "standard",
        "changes of intensity: standard; heartseg (noise, blur, brightness, contrast); segsync (brightness, contrast, "
        "gamma, blur, solarization); none",
        ("standard", "heartseg", "segsync", "none"),
    )
    frames: str = key(
        "random", "4D images: random draws one frame; pair takes the second view from a near frame", ("random", "pair")
    )


@dataclass(frozen=True)
class ObjectiveKeys:
    """What the student learns: one weight per objective, 0 leaves it out."""

    feature_stages: str = key(
        "multi", "stages with a head: bottleneck (the last) or multi (all from the third on)", ("bottleneck", "multi")
    )
    dino_weight: float = key(1.0, "weight of the DINO cross-view loss", at_least=0)
    divergence: str = key(
        "ce", "of the student's distribution from the teacher's in that loss", ("ce", "kl", "reverse_kl", "js")
    )
    mse_weight: float = key(0.0, "negative-cosine loss between two views (BYOL without a predictor)", at_least=0)
    mse_on: str = key(
        "embedding", "embedding (before the prototypes) or feature (pooled map)", ("embedding", "feature")
    )
    koleo_weight: float = key(0.0, "spread of the student's features, KoLeo with a queue", at_least=0)
    dense_weight: float = key(0.0, "agreement at points that both views show", at_least=0)
    dense_distance: str = key("prototypes", "prototypes (cross-entropy) or cosine", ("prototypes", "cosine"))
    dense_points: int = key(512, "points per image", at_least=1)
    masked_weight: float = key(0.0, "what masked blocks of the student's views hold", at_least=0)
    masked_target: str = key("features", "features (the teacher's) or voxels", ("features", "voxels"))
    mask_ratio: float = key(0.6, "share of blocks that are masked", at_least=0, at_most=1)
    mask_block: int = key(16, "edge of a block in voxels, rounded to whole tokens of the bottleneck", at_least=1)
    n_prototypes: int = key(4096, "prototypes of the last stage", at_least=2)
    n_prototypes_inner: int = key(1024, "prototypes of the stages before it", at_least=2)
    head_hidden: int = key(2048, "width of the head's hidden layers", at_least=1)
    head_bottleneck: int = key(256, "size of the embedding", at_least=1)
    feature_norm: bool = key(
        True, "take the running mean and scale out of features before a head; without it conv encoders collapse easily"
    )
    freeze_prototypes_epochs: int = key(1, "epochs at the start in which the prototypes stay as drawn", at_least=0)


@dataclass(frozen=True)
class TeacherKeys:
    """How the teacher follows the student and how its outputs become targets."""

    teacher_momentum: float = key(
        0.996, "EMA of the student's weights at the start; rises to 1 by a cosine", at_least=0, at_most=1
    )
    teacher_momentum_end: float = key(1.0, "and at the end", at_least=0, at_most=1)
    student_temperature: float = key(0.1, "sharpening of the student", at_least=0.001)
    teacher_temperature: float = key(0.04, "sharpening of the teacher at the start", at_least=0.001)
    teacher_temperature_end: float = key(0.04, "and after the warm-up", at_least=0.001)
    teacher_temperature_epochs: int = key(30, "epochs of that warm-up", at_least=0)
    centering: str = key(
        "running",
        "running: mean of earlier steps; sinkhorn: equal use of prototypes over a queue; per_vector: the papers' "
        "wording, without effect; none",
        ("running", "sinkhorn", "per_vector", "none"),
    )
    center_momentum: float = key(0.9, "of the running center", at_least=0, at_most=1)
    queue_size: int = key(2048, "vectors kept for sinkhorn and KoLeo", at_least=0)


@dataclass(frozen=True)
class PretrainingRunKeys:
    """Steps, start and end of a pre-training run."""

    gradient_accumulation: int = key(
        1,
        "batches per optimizer step; as one large batch, but that KoLeo and sinkhorn see one of them at a time",
        at_least=1,
    )
    grad_clip: float | None = key(3.0, "greatest norm of the gradient; null does not clip", at_least=0)
    lr_reference_batch: int | None = key(
        None,
        "initial_lr is for this many images per step and scales with the batch; null takes it as it is",
        at_least=1,
    )
    min_peak_lr: float = key(0.0, "the scaled learning rate is at least this", at_least=0)
    end_lr: float = key(0.0, "the learning rate sinks no lower than this", at_least=0)
    weight_decay_end: float | None = key(None, "the weight decay moves there by a cosine; null keeps it", at_least=0)
    early_stop_epochs: int | None = key(
        None,
        "stop after this many epochs in which the loss does not fall, counted from its highest value on; null runs on",
        at_least=1,
    )
    init_checkpoint: str | None = key(None, "start from the teacher of this pre-training checkpoint (the next stage)")
    keep_heads: bool = key(False, "with init_checkpoint: also take its heads and center")
    export_branch: str = key("teacher", "which encoder the checkpoint offers for fine-tuning", ("teacher", "student"))


@dataclass(frozen=True)
class GuardKeys:
    """The collapse monitor."""

    on_collapse: str = key("warn", "warn, or stop the run", ("warn", "stop"))
    collapse_patience: int = key(3, "bad epochs in a row before it counts", at_least=1)
    monitor_vectors: int = key(2048, "feature vectors that the measures look at", at_least=16)


@dataclass(frozen=True)
class PretrainingConfig(
    ScheduleKeys, OptimizerKeys, SafetyKeys, ViewKeys, ObjectiveKeys, TeacherKeys, PretrainingRunKeys, GuardKeys
):
    """Keys of the pre-training trainers."""


# ---- presets: method.md B2 of the papers, and ours for small batches

_RUN: dict[str, Any] = {"num_val_iterations_per_epoch": 5, "save_every": 5, "oversample_foreground_percent": 0.75}

HEARTSEG = PretrainingConfig(
    **_RUN,
    num_epochs=1000,
    optimizer="adam",
    initial_lr=1e-4,
    weight_decay=0.0,
    lr_schedule="constant",
    divergence="ce",
    mse_weight=1.0,
    feature_norm=False,
    intensity="heartseg",
)

SEGSYNC = PretrainingConfig(
    **_RUN,
    num_epochs=1000,
    patch_size=[96, 96, 96],
    batch_size=2,
    optimizer="adam",
    initial_lr=1e-5,
    weight_decay=0.0,
    lr_schedule="constant",
    divergence="kl",
    mse_weight=1.0,
    feature_norm=False,
    intensity="segsync",
    early_stop_epochs=20,
    export_branch="student",
)

# one reading of SegSync_Bottom: the pre-training sees features of the bottleneck alone
SEGSYNC_R1 = replace(SEGSYNC, feature_stages="bottleneck")

_MODERN: dict[str, Any] = {
    **_RUN,
    "num_epochs": 300,
    "optimizer": "adamw",
    "initial_lr": 5e-4,
    "lr_reference_batch": 256,
    "min_peak_lr": 5e-5,
    "end_lr": 1e-6,
    "lr_schedule": "warmup_cosine",
    "warmup_fraction": 0.1,
    "weight_decay": 0.04,
    "weight_decay_end": 0.4,
}

ROBUST = PretrainingConfig(
    **_MODERN,
    gradient_accumulation=16,
    koleo_weight=0.1,
    dense_weight=1.0,
    teacher_momentum=0.999,
    center_momentum=0.99,
)

MASKED = PretrainingConfig(
    **_MODERN,
    gradient_accumulation=4,
    dino_weight=0.0,
    masked_weight=1.0,
    masked_target="voxels",
    export_branch="student",
)
