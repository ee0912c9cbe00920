"""An encoder with its heads (the student's or the teacher's), and what it makes of views."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.pretraining.config import ObjectiveKeys, PretrainingConfig
from nnunet_xlstm.pretraining.heads import ProjectionHead
from nnunet_xlstm.pretraining.standardise import Standardise


@dataclass(frozen=True)
class Layout:
    """What an encoder returns for one patch.

    Attributes:
        image_channels: of the input. patch_size: voxels of a global view.
        channels: of the map of each stage. cells: size of each map.
        stages: indices of the stages that objectives look at, ascending; the last one is always among them.
    """

    image_channels: int
    patch_size: tuple[int, ...]
    channels: tuple[int, ...]
    cells: tuple[tuple[int, ...], ...]
    stages: tuple[int, ...]

    def n_prototypes(self, stage: int, config: ObjectiveKeys) -> int:
        """Prototypes of the pooled head of a stage."""
        return config.n_prototypes if stage == self.stages[-1] else config.inner_prototypes

    def stride(self, stage: int) -> tuple[int, ...]:
        """Voxels per cell.

        Raises:
            ValueError: if the cells of the stage do not divide the patch.
        """
        cells = self.cells[stage]
        if any(p % c for p, c in zip(self.patch_size, cells, strict=True)):
            raise ConfigError(
                f"patch size {self.patch_size}: stage {stage} has {cells} cells, which do not divide it; give a patch "
                "size that all strides of the network divide"
            )
        return tuple(p // c for p, c in zip(self.patch_size, cells, strict=True))


@torch.no_grad()
def measure(encoder: nn.Module, image_channels: int, patch_size: Sequence[int], layers: str) -> Layout:
    """The layout of an encoder, by one pass over an empty patch; the encoder stays as it is.

    `layers`: bottom (the last stage) or multi (from the third on, at least the last two).

    Raises:
        ValueError: if the encoder does not return a list of maps.
    """
    parameter = next(encoder.parameters())
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()  # leaves running statistics alone
    try:
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
    first = n - 1 if layers == "bottom" else max(0, min(2, n - 2))
    return Layout(
        image_channels,
        tuple(int(p) for p in patch_size),
        tuple(m.shape[1] for m in maps),
        tuple(tuple(m.shape[2:]) for m in maps),
        tuple(range(first, n)),
    )


def pooled_heads(layout: Layout, config: PretrainingConfig, prototypes: bool) -> nn.ModuleDict:
    """One head per stage for its pooled map; those of inner stages are narrower."""
    heads = {}
    for stage in layout.stages:
        channels = layout.channels[stage]
        hidden = config.head_hidden if stage == layout.stages[-1] else min(config.head_hidden, 8 * channels)
        n_prototypes = layout.n_prototypes(stage, config) if prototypes else None
        heads[str(stage)] = ProjectionHead(channels, hidden, config.head_bottleneck, n_prototypes)
    return nn.ModuleDict(heads)


def standards(layout: Layout, config: ObjectiveKeys) -> nn.ModuleDict:
    """By stage: `Standardise`, or nothing if the key `standardise` is off."""
    return nn.ModuleDict(
        {str(s): Standardise(layout.channels[s]) if config.standardise else nn.Identity() for s in layout.stages}
    )


def remember(standard: nn.Module, features: Tensor) -> None:
    """Note the teacher's features (..., C) for the statistics, where there are any."""
    if isinstance(standard, Standardise):
        standard.remember(features)


@dataclass
class Outputs:
    """What a branch makes of V views of B images; dictionaries go by stage.

    Attributes:
        features: pooled maps (V, B, C), float32 or wider.
        embeddings: of unit length (V, B, E). logits: (V, B, K).
        maps: of the two global views (B * 2, C, *cells), where an objective looks at them; row 2 b + v is view v of b.
        heads: the branch's heads by name.
    """

    features: dict[int, Tensor]
    embeddings: dict[int, Tensor]
    logits: dict[int, Tensor]
    maps: dict[int, Tensor]
    heads: nn.ModuleDict


def pool(x: Tensor, n_views: int) -> Tensor:
    """(B * V, C, *cells) -> means (V, B, C), summed in float32 or wider without a wider copy of the map."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.mean(tuple(range(2, x.ndim)), dtype=dtype).unflatten(0, (-1, n_views)).transpose(0, 1)


class Branch(nn.Module):
    """Encoder and heads. `encoder(x)` returns a list of maps, highest resolution first."""

    def __init__(self, encoder: nn.Module, heads: dict[str, nn.ModuleDict]):
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)

    def forward(
        self,
        views: Tensor,
        local_views: Tensor | None,
        stages: Collection[int],
        keep_maps: bool,
        standards: nn.ModuleDict,
    ) -> Outputs:
        """Views (B, V, C, *patch) go through the encoder in one call, local ones (B, L, C, *local_patch) in another.

        standards: by stage, what pooled features pass before their head.
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
                embeddings[s], logits[s] = self.heads["pooled"][str(s)](standards[str(s)](f))
        return Outputs(features, embeddings, logits, maps, self.heads)

    def _encode(self, views: Tensor, stages: Collection[int]) -> dict[int, Tensor]:
        maps = self.encoder(views.flatten(0, 1))
        return {s: maps[s] for s in stages}
