"""Projection heads: from features to an embedding and to scores of prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_xlstm.layers.amp import no_autocast


class Prototypes(nn.Module):
    """Cosines with K unit vectors: a weight-normed linear layer without bias whose norms are fixed at 1.

    In float32 under any autocast: at temperature 0.04 an error of bfloat16's size is one tenth of a logit.
    """

    def __init__(self, dim: int, n_prototypes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_prototypes, dim))

    def forward(self, unit: Tensor) -> Tensor:
        """Map unit vectors (..., dim) to cosines (..., K)."""
        with no_autocast(unit):
            return F.linear(unit, F.normalize(self.weight, dim=-1))


class ProjectionHead(nn.Module):
    """in -> hidden -> GELU -> hidden -> GELU -> bottleneck -> unit length -> prototypes (DINO, Caron et al. 2021).

    Args:
        dim: features in.
        hidden: width of both hidden layers.
        bottleneck: size of the embedding.
        n_prototypes: K; None leaves the prototypes out.

    No batch norm: it would couple the images of a small batch. Linear layers start at a truncated normal of 0.02.
    """

    def __init__(self, dim: int, hidden: int, bottleneck: int, n_prototypes: int | None):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = None if n_prototypes is None else Prototypes(bottleneck, n_prototypes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map features (..., dim) to embeddings of unit length (..., bottleneck) and logits (..., K) or None.

        Both in float32 or wider.
        """
        x = self.mlp(features)
        embedding = F.normalize(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x, dim=-1)
        return embedding, None if self.prototypes is None else self.prototypes(embedding)
