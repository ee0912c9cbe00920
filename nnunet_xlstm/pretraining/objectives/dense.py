"""The dense objective: both views of a point of the body shall have the same feature.

Points are drawn where the boxes of the two global views meet; maps of student and teacher are sampled there, so flips
and crops are undone (compare VADeR, Pinheiro et al. 2020; DenseCL, Wang et al. 2021). The middle of a token is that of
its receptive field: strided convolutions of kernel 3 see half a voxel to the left of the pair that they merge, and in a
mirrored view to the right.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.layers.device import to_device
from nnunet_xlstm.pretraining.branch import EncoderFeatureInfo, accumulate, feature_norms
from nnunet_xlstm.pretraining.centering import TARGETS
from nnunet_xlstm.pretraining.heads import ProjectionHead
from nnunet_xlstm.pretraining.objectives.base import Objective, ObjectiveInputs
from nnunet_xlstm.pretraining.views import ViewBatch


def shared_points(batch: ViewBatch, n_points: int) -> tuple[Tensor, Tensor]:
    """Draw uniform random points in the part of the image that both global views show.

    Returns:
        positions: (B, 2, n_points, D), the place of each point in each view: 0 is the view's first edge, 1 its last,
            flips undone. shown: (B,) 1.0 where the boxes of an image meet, else 0.0 (its points are then useless).
    """
    start = batch.boxes[..., 0].float()  # (B, 2, D)
    size = batch.boxes[..., 1].float()
    low = start.amax(1)
    room = (start + size).amin(1) - low  # (B, D)
    # from the CPU's generator, whatever the device: one seed repeats a run
    random = to_device(torch.rand(len(low), n_points, low.shape[-1]), low.device)
    points = low[:, None] + random * room.clamp_min(0)[:, None]
    positions = (points[:, None] - start[:, :, None]) / size[:, :, None]
    positions = torch.where(batch.flips[:, :, None], 1 - positions, positions)
    return positions, (room > 0).all(-1).float()


def sample(maps: Tensor, positions: Tensor) -> Tensor:
    """Interpolate maps (V, C, *tokens) linearly at positions (V, N, D) in [0, 1] of the map's extent: (V, N, C).

    In float32 or wider: a position in bfloat16 is off by half a voxel.
    A token is taken to cover its share of the extent (align_corners=False), as in the upsampling of a U-Net's decoder.
    """
    maps = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
    grid = positions.flip(-1) * 2 - 1  # grid_sample wants the last axis first
    dims = maps.ndim - 2
    grid = grid.view(*grid.shape[:2], *[1] * (dims - 1), dims).to(maps.dtype)
    # beyond the centers of the outermost tokens: their values, not a blend with zeros
    sampled = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return sampled.flatten(2).transpose(1, 2)


def _dense_heads(feature_info: EncoderFeatureInfo, config: PretrainingConfig) -> nn.ModuleDict:
    """Build a head per stage, shared over points; far narrower than those of pooled maps: there are many points."""
    n_prototypes = config.n_prototypes_inner if config.dense_distance == "prototypes" else None
    heads = {}
    for stage in feature_info.stages:
        channels = feature_info.channels[stage]
        hidden = min(config.head_hidden, 2 * channels)
        heads[str(stage)] = ProjectionHead(channels, hidden, config.head_bottleneck, n_prototypes)
    return nn.ModuleDict(heads)


class DenseObjective(Objective):
    """Mean over stages, images, points and both directions of CE to the teacher's prototypes, or of 1 - cos."""

    @classmethod
    def needs(cls, config: PretrainingConfig) -> set[str]:
        """Need the teacher, and maps of both."""
        return {"teacher", "maps"}

    @classmethod
    def heads(cls, feature_info: EncoderFeatureInfo, config: PretrainingConfig) -> dict[str, nn.ModuleDict]:
        """Build the heads of `_dense_heads`."""
        return {"dense": _dense_heads(feature_info, config)}

    def __init__(self, feature_info: EncoderFeatureInfo, config: PretrainingConfig):
        super().__init__(feature_info, config)
        self.n_points = config.dense_points
        self.student_temperature = config.student_temperature
        self.prototypes = config.dense_distance == "prototypes"
        self.targets = nn.ModuleDict()
        for stage in feature_info.stages:
            if self.prototypes:
                self.targets[str(stage)] = TARGETS[config.centering](config.n_prototypes_inner, config)
        self.stages = feature_info.stages
        for stage in feature_info.stages:  # as a share of the map's extent
            shift = torch.tensor(feature_info.shifts[stage]) / torch.tensor(feature_info.tokens[stage])
            self.register_buffer(f"shift_{stage}", shift, persistent=False)
        self.feature_norms = feature_norms(feature_info, config)

    def forward(self, inputs: ObjectiveInputs) -> Tensor:
        """Compute the term, a scalar."""
        positions, shown = shared_points(inputs.batch, self.n_points)
        positions = positions.flatten(0, 1)  # (B * 2, N, D), as the maps
        weights = shown / (len(shown) * 2 * self.n_points)
        terms = []
        for stage in self.stages:
            places = positions - self.get_buffer(f"shift_{stage}")
            student, teacher = (sample(x.maps[stage], places) for x in (inputs.student, inputs.teacher_outputs))
            if self.training:
                accumulate(self.feature_norms[str(stage)], teacher)
            student, teacher = (self.feature_norms[str(stage)](x) for x in (student, teacher))
            with inputs.autocast():
                student = inputs.student.heads["dense"][str(stage)](student)
                with torch.no_grad():
                    teacher = inputs.teacher_outputs.heads["dense"][str(stage)](teacher)
            distances = self._distances(str(stage), student, teacher, inputs)  # (B, 2, N)
            terms.append((distances.sum((1, 2)) * weights).sum())
        return torch.stack(terms).mean()

    def _distances(
        self, stage: str, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], inputs: ObjectiveInputs
    ) -> Tensor:
        """Compute (B, 2, N): of each point in view v of the student from view 1 - v of the teacher."""
        if not self.prototypes:
            s, t = (x[0].unflatten(0, (-1, 2)) for x in (student, teacher))
            return 1 - (s * t.flip(1)).sum(-1)
        q = self.targets[stage](teacher[1], inputs.teacher_temperature).exp().unflatten(0, (-1, 2)).flip(1)
        inputs.targets[f"dense {stage}"] = q.flatten(0, -2).mean(0)
        log_p = torch.log_softmax(student[1] / self.student_temperature, -1).unflatten(0, (-1, 2))
        return -(q * log_p).sum(-1)
