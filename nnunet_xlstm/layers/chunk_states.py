"""The state of the chunkwise mLSTM from chunk to chunk of a span, by a few batched products (and their transposes).

Letters: `nnunet_xlstm.layers.mlstm`; G groups of n chunks, X the elements of a state.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Level = tuple[Tensor, Tensor]


def chunk_decays(decay: Tensor) -> list[Level]:
    """Compute the decay of the state from chunk to chunk of a span, from log decays (H, n) of the chunks.

    A level is a pair (G, n + 1, n), (G, n + 1). The first holds the weight of chunk s's own update in the state that
    enters chunk c (c = n: that leaves the span), the second that of the span's incoming state: sums of non-positive
    terms only, no cancellation. Many chunks take two levels, groups of 8 chunks and chunks in a group: O(n) products.
    """
    n = decay.shape[1]
    groups = [decay.reshape(-1, 8), decay.reshape(-1, n // 8, 8).sum(-1)] if n > 16 and n % 8 == 0 else [decay]
    levels = []
    for x in groups:
        # [c, s]: sum over s < r < c, by a cumulative sum along c
        pair = F.pad(x[..., None].expand(-1, -1, x.shape[1]).tril(-1).cumsum(1).exp2_().tril_(), (0, 0, 1, 0))
        levels.append((pair, F.pad(x.cumsum(1).exp2_(), (1, 0), value=1.0)))
    return levels


def advance(own: Tensor, before: Tensor | None, decays: list[Level]) -> tuple[Tensor, Tensor]:
    """Solve C_{c+1} = decay_c C_c + own_c.

    Args:
        own: Each chunk's own update (H, n, X).
        before: The state that enters the span (H, X); None for 0.
        decays: From `chunk_decays`.

    Returns:
        The states that enter each chunk (H, n, X) and the one that leaves the span (H, X).
    """
    (pair, first), *outer = decays
    part = own.view(pair.shape[0], -1, own.shape[-1])
    states, after = torch.bmm(pair[:, :-1], part), torch.bmm(pair[:, -1:], part)[:, 0]
    if outer:
        before, after = advance(after.view(own.shape[0], -1, own.shape[-1]), before, outer)
        states.addcmul_(first[:, :-1, None], before.view(-1, 1, own.shape[-1]))
    elif before is not None:
        states.addcmul_(first[:, :-1, None], before[:, None])
        after = after.addcmul_(first[:, -1:], before)
    return states.view_as(own), after


def retreat(grad: Tensor, after: Tensor | None, decays: list[Level]) -> tuple[Tensor, Tensor]:
    """Apply the transpose of `advance`: gradients of its results to those of `own` (H, n, X) and `before` (H, X)."""
    (pair, first), *outer = decays
    part = grad.view(pair.shape[0], -1, grad.shape[-1])
    own, before = torch.bmm(pair[:, :-1].mT, part), torch.bmm(first[:, None, :-1], part)[:, 0]
    if outer:
        after, before = retreat(before.view(grad.shape[0], -1, grad.shape[-1]), after, outer)
        own.addcmul_(pair[:, -1, :, None], after.view(-1, 1, grad.shape[-1]))
    elif after is not None:
        own.addcmul_(pair[:, -1, :, None], after[:, None])
        before = before.addcmul_(first[:, -1:], after)
    return own.view_as(grad), before
