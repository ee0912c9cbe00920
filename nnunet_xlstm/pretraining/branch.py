"""An encoder with its heads (the student's or the teacher's), and what it makes of views."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnunet_xlstm.config.pretraining import ObjectiveKeys, PretrainingConfig
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.pretraining.feature_norm import RunningFeatureNorm
from nnunet_xlstm.pretraining.heads import ProjectionHead

GEOMETRY = ("kernel_size", "stride", "padding")  # attributes of torch's convolutions and poolings
Size = tuple[int, ...]


@dataclass(frozen=True)
class EncoderFeatureInfo:
    """What an encoder returns for one patch.

    Attributes:
        image_channels: of the input.
        patch_size: voxels of a global view.
        channels: of the map of each stage.
        tokens: size of each map.
        stages: indices of the stages that objectives look at, ascending; the last one is always among them.
        shifts: of the tokens of each map, how far the middle of what they see lies from the middle of their share of
            the patch, in tokens per axis (see `_receptive_shifts`).
    """

    image_channels: int
    patch_size: tuple[int, ...]
    channels: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]
    stages: tuple[int, ...]
    shifts: tuple[tuple[float, ...], ...] = ()

    def n_prototypes(self, stage: int, config: ObjectiveKeys) -> int:
        """Return the number of prototypes of the pooled head of a stage."""
        return config.n_prototypes if stage == self.stages[-1] else config.n_prototypes_inner

    def stride(self, stage: int) -> tuple[int, ...]:
        """Return the voxels per token of a stage.

        Raises:
            ConfigError: if the tokens of the stage do not divide the patch.
        """
        tokens = self.tokens[stage]
        if any(p % c for p, c in zip(self.patch_size, tokens, strict=True)):
            raise ConfigError(
                f"patch size {self.patch_size}: stage {stage} has {tokens} tokens, which do not divide it; give a "
                "patch size that all strides of the network divide"
            )
        return tuple(p // c for p, c in zip(self.patch_size, tokens, strict=True))


@torch.no_grad()
def infer_feature_info(
    encoder: nn.Module, image_channels: int, patch_size: Sequence[int], feature_stages: str
) -> EncoderFeatureInfo:
    """Find what an encoder returns, by one pass over an empty patch; the encoder stays as it is.

    Args:
        encoder: returns a list of maps, highest resolution first.
        image_channels: of the input.
        patch_size: voxels of a global view.
        feature_stages: bottleneck (the last stage) or multi (from the third on, at least the last two).

    Raises:
        ConfigError: if the encoder does not return a list of maps.
    """
    parameter = next(encoder.parameters())
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()  # leaves running statistics alone
    try:
        with _strided_layers(encoder) as layers:
            maps = encoder(parameter.new_zeros(1, image_channels, *patch_size))
    finally:
        for module, mode in modes:
            module.training = mode
    if not isinstance(maps, (list, tuple)):
        raise ConfigError(
            f"the encoder returns {type(maps).__name__}; pre-training needs a list of maps, one per stage, highest "
            "resolution first (for dynamic-network-architectures: return_skips=True)"
        )
    n = len(maps)
    shifts = _receptive_shifts(layers, patch_size)
    first = n - 1 if feature_stages == "bottleneck" else max(0, min(2, n - 2))
    return EncoderFeatureInfo(
        image_channels,
        tuple(int(p) for p in patch_size),
        tuple(m.shape[1] for m in maps),
        tuple(tuple(m.shape[2:]) for m in maps),
        tuple(range(first, n)),
        tuple(shifts.get(tuple(m.shape[2:]), (0.0,) * len(patch_size)) for m in maps),
    )


@contextmanager
def _strided_layers(module: nn.Module) -> Iterator[list[tuple[Size, Size, tuple[float, ...]]]]:
    """Collect, while `module` runs, input size, output size and shift of its strided convolutions and poolings.

    The shift is in tokens of the input, per axis: where the middle of the kernel lies, less the middle of the s tokens
    that become one: (k - 1) / 2 - padding - (s - 1) / 2. It is -1/2 for kernel 3, stride 2, padding 1, and 0 for
    pooling by 2.
    """
    seen: list[tuple[Size, Size, tuple[float, ...]]] = []

    def note(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        size, result = tuple(inputs[0].shape[2:]), tuple(output.shape[2:])
        if any(after > before for before, after in zip(size, result, strict=True)):
            return  # transposed
        kernel, stride, padding = _geometry(layer, len(size))
        shift = tuple((k - 1) / 2 - p - (s - 1) / 2 for k, s, p in zip(kernel, stride, padding, strict=True))
        seen.append((size, result, shift))

    hooks = [
        layer.register_forward_hook(note)
        for layer in module.modules()
        if all(hasattr(layer, name) for name in GEOMETRY) and max(_geometry(layer, 1)[1]) > 1
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _receptive_shifts(
    layers: Sequence[tuple[Size, Size, tuple[float, ...]]], patch_size: Sequence[int]
) -> dict[Size, tuple[float, ...]]:
    """Return, by size of a map, the shift of its tokens in tokens, from what `_strided_layers` collected.

    Where layers stride side by side (a convolution and the shortcut around it) their mean counts. The shifts add up:
    -1/4, -3/8, -7/16 tokens after one, two, three convolutions of kernel 3 and stride 2. A mirrored view is shifted the
    other way, so without this the same token of two views may see places almost a token apart.
    """
    size: Size = tuple(int(n) for n in patch_size)
    stride, shift = [1.0] * len(size), [0.0] * len(size)
    shifts = {size: tuple(shift)}
    while following := [(after, s) for before, after, s in layers if before == size and after != size]:
        after = following[0][0]
        steps = [s for result, s in following if result == after]
        for axis, values in enumerate(zip(*steps, strict=True)):
            shift[axis] += stride[axis] * sum(values) / len(values)
            stride[axis] *= size[axis] / after[axis]
        size = after
        shifts[size] = tuple(s / n for s, n in zip(shift, stride, strict=True))
    return shifts


def _geometry(layer: nn.Module, dims: int) -> list[tuple[int, ...]]:
    """Return GEOMETRY of a layer, per axis."""
    values = (getattr(layer, name) for name in GEOMETRY)
    return [tuple(value) if isinstance(value, Sequence) else (value,) * dims for value in values]


def pooled_heads(feature_info: EncoderFeatureInfo, config: PretrainingConfig, prototypes: bool) -> nn.ModuleDict:
    """Build one head per stage for its pooled map; those of inner stages are narrower."""
    heads = {}
    for stage in feature_info.stages:
        channels = feature_info.channels[stage]
        hidden = config.head_hidden if stage == feature_info.stages[-1] else min(config.head_hidden, 8 * channels)
        n_prototypes = feature_info.n_prototypes(stage, config) if prototypes else None
        heads[str(stage)] = ProjectionHead(channels, hidden, config.head_bottleneck, n_prototypes)
    return nn.ModuleDict(heads)


def feature_norms(feature_info: EncoderFeatureInfo, config: ObjectiveKeys) -> nn.ModuleDict:
    """Build, by stage, `RunningFeatureNorm`, or the identity if the key `feature_norm` is off."""
    return nn.ModuleDict(
        {
            str(s): RunningFeatureNorm(feature_info.channels[s]) if config.feature_norm else nn.Identity()
            for s in feature_info.stages
        }
    )


def accumulate(feature_norm: nn.Module, features: Tensor) -> None:
    """Note the teacher's features (..., C) for the statistics, where there are any."""
    if isinstance(feature_norm, RunningFeatureNorm):
        feature_norm.accumulate(features)


@dataclass
class Outputs:
    """What a branch makes of V views of B images; dictionaries go by stage.

    Attributes:
        features: pooled maps (V, B, C), float32 or wider.
        embeddings: of unit length (V, B, E).
        logits: (V, B, K).
        maps: of the two global views (B * 2, C, *tokens), where an objective looks at them; row 2 b + v is view v of b.
        heads: the branch's heads by name.
    """

    features: dict[int, Tensor]
    embeddings: dict[int, Tensor]
    logits: dict[int, Tensor]
    maps: dict[int, Tensor]
    heads: Mapping[str, Mapping[str, nn.Module]]


def pool(x: Tensor, n_views: int) -> Tensor:
    """Pool (B * V, C, *tokens) to means (V, B, C), summed in float32 or wider without a wider copy of the map."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.mean(tuple(range(2, x.ndim)), dtype=dtype).unflatten(0, (-1, n_views)).transpose(0, 1)


class Branch(nn.Module):
    """Encoder and heads. `encoder(x)` returns a list of maps, highest resolution first."""

    heads: Mapping[str, Mapping[str, nn.Module]]

    def __init__(self, encoder: nn.Module, heads: dict[str, nn.ModuleDict]):
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)  # type: ignore[assignment]  # torch's containers do not say what they hold

    def forward(
        self,
        views: Tensor,
        local_views: Tensor | None,
        stages: Collection[int],
        keep_maps: bool,
        feature_norms: nn.ModuleDict,
    ) -> Outputs:
        """Pass global views through the encoder in one call, local ones in another, and both through the heads.

        Args:
            views: (B, V, C, *patch).
            local_views: (B, L, C, *local_patch), or None.
            stages: that are looked at.
            keep_maps: return the maps of the global views.
            feature_norms: by stage, what pooled features pass before their head.
        """
        maps = self._encode(views, stages)
        features = {s: pool(x, views.shape[1]) for s, x in maps.items()}
        if not keep_maps:
            maps = {}
        if local_views is not None:
            local = self._encode(local_views, stages)
            features = {s: torch.cat((f, pool(local[s], local_views.shape[1]))) for s, f in features.items()}
        embeddings, logits = {}, {}
        if "pooled" in self.heads:
            for s, f in features.items():
                embeddings[s], logits[s] = self.heads["pooled"][str(s)](feature_norms[str(s)](f))
        return Outputs(features, embeddings, logits, maps, self.heads)

    def _encode(self, views: Tensor, stages: Collection[int]) -> dict[int, Tensor]:
        maps = self.encoder(views.flatten(0, 1))
        return {s: maps[s] for s in stages}
