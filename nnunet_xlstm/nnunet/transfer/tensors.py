"""Tensors changed to fit another network: input channels, kernels, position embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.transformer import resize_grid


def parse_channels(pairs: Mapping[str, str]) -> dict[int, list[int]] | None:
    """Return target channel -> source channels, from texts such as {"1": "0,1"}; None where there are none.

    Raises:
        ConfigError: a text that is no number.
    """
    try:
        return {int(j): [int(i) for i in sources.split(",")] for j, sources in pairs.items()} or None
    except ValueError as error:
        given = " ".join(f"{j}={sources}" for j, sources in pairs.items())
        raise ConfigError(
            f"--channels {given}: give target channel = source channels, by number, such as 0=1 1=0,1"
        ) from error


def channel_map(
    source: Sequence[str], target: Sequence[str], chosen: Mapping[int, Sequence[int]] | None = None
) -> list[list[int]]:
    """Return, for each target channel, the source channels whose weights it gets (their mean).

    Channels of one name (any case) belong together, unless several have it. A target channel without a namesake gets
    the source channel at its place where both have as many channels and no namesake takes that one, else all of them.

    Args:
        source: names of the channels.
        target: names of the channels.
        chosen: target channel -> source channels; for the others the rule holds.

    Raises:
        ConfigError: `chosen` names a channel that is not there.
    """
    chosen = dict(chosen or {})
    for j, sources in chosen.items():
        wrong = [j] if not 0 <= j < len(target) else [i for i in sources if not 0 <= i < len(source)]
        if wrong or not sources:
            raise ConfigError(
                f"channel map {j}={','.join(map(str, sources))}: the target has the channels 0 to {len(target) - 1} "
                f"({', '.join(target)}), the source 0 to {len(source) - 1} ({', '.join(source)})"
            )
    folded = [name.casefold() for name in source]
    by_name = {name: i for i, name in enumerate(folded) if folded.count(name) == 1}
    named = {j: by_name[name.casefold()] for j, name in enumerate(target) if name.casefold() in by_name}
    if len(set(named.values())) < len(named):
        named = {}  # names that do not tell channels apart
    result = []
    for j in range(len(target)):
        if j in chosen:
            result.append(list(chosen[j]))
        elif j in named:
            result.append([named[j]])
        elif len(source) == len(target) and j not in named.values():
            result.append([j])
        else:
            result.append(list(range(len(source))))
    return result


def adapt_channels(weight: Tensor, mapping: Sequence[Sequence[int]]) -> Tensor:
    """Fit a weight to other input channels: (out, C_source, *kernel) -> (out, C_target, *kernel).

    w'_j = mean(w_i, i in mapping[j]) * C_source / C_target: where all channels show one image the answer of the layer
    stays the same, and a mere change of order changes nothing else (method of nnssl and of Carreira and Zisserman,
    2017, for inflated channels).
    """
    scale = weight.shape[1] / len(mapping)
    return torch.stack([weight[:, list(sources)].mean(1) for sources in mapping], 1) * scale


def adapt_kernel(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Fit a convolution's weight to a kernel of another odd size: larger ones get zeros around, smaller ones the sum.

    The sum keeps the answer to an image that is constant along the axis; what the kernel knew of changes along it is
    lost.

    Raises:
        ConfigError: a kernel without elements.
    """
    if min(*shape[2:], *weight.shape[2:]) < 1:
        raise ConfigError(f"kernel {tuple(shape[2:])} for {tuple(weight.shape[2:])}: each axis needs an element")
    for axis in range(2, weight.ndim):
        have, want = weight.shape[axis], int(shape[axis])
        if want > have:
            before = (want - have) // 2
            padding = [0, 0] * (weight.ndim - 1 - axis) + [before, want - have - before]
            weight = F.pad(weight, padding)
        elif want < have:
            before = (have - want) // 2
            kept = weight.narrow(axis, before, want).clone()
            rest = weight.sum(axis, keepdim=True) - kept.sum(axis, keepdim=True)
            kept.narrow(axis, want // 2, 1).add_(rest)
            weight = kept
    return weight


def resize_position_embedding(embedding: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Resample (1, prefix + prod(old), C) to (1, prefix + prod(new), C), linear in 3D, cubic in 2D; keep the prefix.

    Raises:
        ConfigError: the embedding has fewer tokens than the old grid.
    """
    prefix = embedding.shape[1] - math.prod(old)
    if prefix < 0:
        raise ConfigError(
            f"position embedding of {embedding.shape[1]} tokens: too few for a grid of {tuple(old)}; the patch size or "
            "the token size of the source is wrong"
        )
    if tuple(old) == tuple(new):
        return embedding
    grid = resize_grid(embedding[:, prefix:].reshape(1, *old, -1).movedim(-1, 1), new)
    return torch.cat((embedding[:, :prefix], grid.flatten(2).transpose(1, 2)), 1)
