"""The loss of a batch whose first images are labelled: nnU-Net's, plus a weighted term for each group behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

Outputs = Tensor | Sequence[Tensor]  # of a network, in deep supervision one per scale, the full resolution first


@dataclass(frozen=True)
class Term:
    """A group of images of a batch and what the loss makes of them.

    Attributes:
        n_images: in the group.
        weight: of the term.
        criterion: outputs of these images -> a scalar.
    """

    n_images: int
    weight: float
    criterion: Callable[[Outputs], Tensor]


class SemiLoss(nn.Module):
    """L(labelled) + the sum of weight * criterion(group); in validation, where no terms are set, L alone.

    One forward pass over all images serves every term, so nnU-Net's own step (autocast, scaler, clipping) and DDP see
    a plain batch.

    Args:
        supervised: nnU-Net's loss of outputs and targets.
    """

    def __init__(self, supervised: nn.Module):
        super().__init__()
        self.supervised = supervised
        self.terms: tuple[Term, ...] = ()

    def set_terms(self, terms: Sequence[Term]) -> None:
        """Set the groups behind the labelled images, in their order, for the next call alone."""
        self.terms = tuple(terms)

    def forward(self, outputs: Outputs, target: Outputs) -> Tensor:
        """Return the loss, a scalar; `target` is of the labelled images, as nnU-Net gives it."""
        terms, self.terms = self.terms, ()
        start = len(full_resolution(outputs)) - sum(term.n_images for term in terms)
        loss = self.supervised(images_of(outputs, 0, start), target)
        for term in terms:
            stop = start + term.n_images
            loss = loss + term.weight * term.criterion(images_of(outputs, start, stop))
            start = stop
        return loss


def as_list(outputs: Outputs) -> list[Tensor]:
    """Return outputs or targets as a list, one entry without deep supervision."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def full_resolution(outputs: Outputs) -> Tensor:
    """Return the output at full resolution."""
    return as_list(outputs)[0]


def images_of(outputs: Outputs, start: int, stop: int) -> Outputs:
    """Return the outputs of some images of a batch."""
    return outputs[start:stop] if isinstance(outputs, Tensor) else [output[start:stop] for output in outputs]
