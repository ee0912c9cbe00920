"""Masked modelling: blocks of the student's views are blanked, and it predicts what they hold.

Targets are the teacher's features of the same, unmasked view (data2vec, Baevski et al. 2022; iBOT, Zhou et al. 2022) or
the voxels (MAE, He et al. 2022; SimMIM, Xie et al. 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_xlstm.config.pretraining import ObjectiveKeys, PretrainingConfig
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.device import to_device
from nnunet_xlstm.pretraining.branch import EncoderFeatureInfo
from nnunet_xlstm.pretraining.objectives.base import Objective, ObjectiveInputs


def _enlarge(mask: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Map (V, *tokens) to (V, *tokens * factors): each token repeated."""
    for axis, factor in enumerate(factors, start=1):
        mask = mask.repeat_interleave(factor, axis)
    return mask


def draw_mask(n_views: int, feature_info: EncoderFeatureInfo, config: ObjectiveKeys) -> Tensor:
    """Mask `mask_ratio` of the blocks of each view, at least one and not all; random numbers from the CPU.

    Returns:
        Masked tokens of the last stage, (V, *tokens) bool, on the CPU.

    Raises:
        ConfigError: if a view is a single block.
    """
    stage = feature_info.stages[-1]
    tokens, stride = feature_info.tokens[stage], feature_info.stride(stage)
    block = tuple(max(1, round(config.mask_block / s)) for s in stride)
    grid = tuple(-(-c // b) for c, b in zip(tokens, block, strict=True))
    n_blocks = torch.Size(grid).numel()
    if n_blocks < 2:
        raise ConfigError(
            f"mask_block = {config.mask_block}: blocks of {block} tokens of {stride} voxels cover the whole "
            f"patch of {feature_info.patch_size}; give a smaller mask_block or a larger patch"
        )
    n_masked = min(max(round(config.mask_ratio * n_blocks), 1), n_blocks - 1)
    chosen = torch.rand(n_views, n_blocks).argsort(1).argsort(1) < n_masked
    inside = (slice(None), *(slice(c) for c in tokens))
    return _enlarge(chosen.view(n_views, *grid), block)[inside]


def refine_mask(mask: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """Return a mask on a finer grid, (V, *tokens)."""
    return _enlarge(mask, tuple(n // c for n, c in zip(tokens, mask.shape[1:], strict=True)))


class MaskedObjective(Objective):
    """Mean over stages and views, of each the mean over its masked tokens.

    features: smooth L1 of a predictor's output and the teacher's layer-normalized feature. voxels: L1 of a linear
    decoder's output and the voxels of the token. Stages: those with heads from the fourth on, at least the last.

    Raises:
        ConfigError: a patch that the strides of the network do not divide.
    """

    @classmethod
    def needs(cls, config: PretrainingConfig) -> set[str]:
        """Need maps and a mask, and the teacher for features."""
        return {"maps", "mask"} | ({"teacher"} if config.masked_target == "features" else set())

    def __init__(self, feature_info: EncoderFeatureInfo, config: PretrainingConfig):
        super().__init__(feature_info, config)
        self.feature_info, self.config = feature_info, config
        self.voxels = config.masked_target == "voxels"
        self.stages = tuple(s for s in feature_info.stages if s >= 3) or feature_info.stages[-1:]
        self.token = nn.Parameter(torch.zeros(feature_info.image_channels))
        self.predictors = nn.ModuleDict()
        for stage in self.stages:
            channels, tokens = feature_info.channels[stage], feature_info.tokens[stage]
            last = feature_info.tokens[feature_info.stages[-1]]
            if any(n % c for n, c in zip(tokens, last, strict=True)):
                raise ConfigError(
                    f"patch size {feature_info.patch_size}: the tokens of stage {stage}, {tokens}, are no multiple of "
                    f"the last one's, {last}; give a patch size that all strides of the network divide"
                )
            voxels = torch.Size(feature_info.stride(stage)).numel() * feature_info.image_channels
            self.predictors[str(stage)] = (
                nn.Linear(channels, voxels)
                if self.voxels
                else nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))
            )

    def mask(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return views (B, 2, C, *patch) with blocks replaced by the token, and the mask; `views` stay as they are."""
        mask = draw_mask(views.shape[0] * views.shape[1], self.feature_info, self.config)
        voxels = to_device(refine_mask(mask, self.feature_info.patch_size), views.device)
        voxels = voxels.view(*views.shape[:2], 1, *views.shape[3:])
        token = self.token.to(views.dtype).view(-1, *[1] * (views.ndim - 3))
        return torch.where(voxels, token, views), mask

    def forward(self, inputs: ObjectiveInputs) -> Tensor:
        """Compute the term, a scalar.

        Raises:
            RuntimeError: the student's views were not masked.
        """
        if inputs.mask is None:
            raise RuntimeError("the views are not masked; call mask() before the student sees them")
        terms = []
        for stage in self.stages:
            maps = inputs.student.maps[stage]
            mask = refine_mask(inputs.mask, self.feature_info.tokens[stage]).flatten(1)  # (V, n)
            # the mask is on the CPU, so the device need not be waited for
            share = to_device((mask / (mask.sum(1, keepdim=True) * len(mask)))[mask], maps.device)
            rows = to_device(mask.flatten().nonzero()[:, 0], maps.device)
            with inputs.autocast():
                predicted = self.predictors[str(stage)](_rows(maps, rows))
            if self.voxels:
                target = self._voxels(inputs.batch.global_views, stage)[rows]
                distances = (predicted - target).abs()
            else:
                target = _rows(inputs.teacher_outputs.maps[stage], rows)
                target = F.layer_norm(target, target.shape[-1:])
                distances = F.smooth_l1_loss(predicted, target, reduction="none")
            terms.append((distances.mean(1) * share).sum())
        return torch.stack(terms).mean()

    def _voxels(self, views: Tensor, stage: int) -> Tensor:
        """Cut views (B, 2, C, *patch) into tokens (B * 2 * tokens, C * voxels of a token)."""
        x = views.flatten(0, 1)
        dims = x.ndim - 2
        for axis, n in enumerate(self.feature_info.tokens[stage]):
            x = x.unflatten(2 + 2 * axis, (n, -1))  # (V, C, n1, s1, n2, s2, ...)
        tokens, inside = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
        return x.permute(0, *tokens, 1, *inside).flatten(0, dims).flatten(1).float()


def _rows(maps: Tensor, rows: Tensor) -> Tensor:
    """Return features (n, C), float32 or wider, of maps (V, C, *tokens) at indices into V x tokens."""
    x = maps.flatten(2).transpose(1, 2).flatten(0, 1)[rows]
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
