"""Training on data sets that each label some of the targets: only annotated (case, target) pairs count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.nn import functional as across_ranks
from torch.nn import functional as F

from nnunet_xlstm.layers.device import to_device

REDUCTIONS = ("sum", "mean")
LEAST_DENOMINATOR = 1e-7


class PartialLabelLoss(nn.Module):
    """Binary cross-entropy and batch Dice over the valid pairs of a batch (Ulrich et al. 2023, MultiTalent).

    With V(b) the targets that are annotated in case b, and sums over voxels of p = sigmoid(logits) and y:

        L = w_ce sum_b sum_{c in V(b)} mean BCE(p_bc, y_bc)  -  w_dice sum_c dice_c
        dice_c = (2 TP_c + s) / max(2 TP_c + FP_c + FN_c + s, 1e-7),   TP_c = sum_{b: c in V(b)} sum p_bc y_bc ...

    Logits of other pairs get a gradient of exactly 0. Padding is background, as in nnU-Net. The counts of Dice, and
    under DDP both sums, are those of the whole batch over all ranks.

    Args:
        scale_weights: of the outputs of deep supervision, highest resolution first.
        reduction: `sum` over pairs, so that rare targets keep their gradient; `mean` divides BCE by the valid pairs and
            Dice by the targets that are valid in any case.
        smooth: s. With 0 a valid target that is absent has dice 0, whatever is predicted.
        ignore_label: the last channel of the target marks voxels that do not count.
        distributed: gather the counts of all ranks.
        dice_weight: w_dice and w_ce.
        ce_weight: w_dice and w_ce.

    Raises:
        ValueError: unknown reduction.
    """

    def __init__(
        self,
        scale_weights: Sequence[float] = (1.0,),
        reduction: str = "sum",
        smooth: float = 0.0,
        ignore_label: bool = False,
        distributed: bool = False,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
    ):
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction {reduction!r}; use one of {', '.join(REDUCTIONS)}")
        self.scale_weights = tuple(float(w) for w in scale_weights)
        self.reduction, self.smooth = reduction, smooth
        self.ignore_label, self.distributed = ignore_label, distributed
        self.dice_weight, self.ce_weight = dice_weight, ce_weight
        self._valid: Tensor | None = None

    def set_valid(self, valid: Tensor) -> None:
        """Say what is annotated in the next batch, (B, C) bool: nnU-Net's steps pass output and target only."""
        self._valid = valid

    def forward(
        self, logits: Tensor | Sequence[Tensor], target: Tensor | Sequence[Tensor], valid: Tensor | None = None
    ) -> Tensor:
        """Compute the loss, a scalar in float32.

        Args:
            logits: (B, C, ...), or one such tensor per scale.
            target: likewise, bool or 0 and 1; with an ignore label (B, C + 1, ...).
            valid: (B, C) bool, on the CPU so that nobody waits for the device; without it, what `set_valid` was told
                since the last call.

        Raises:
            ValueError: nothing says what is valid, or it is of another shape.
        """
        scales = [logits] if isinstance(logits, Tensor) else list(logits)
        targets = [target] if isinstance(target, Tensor) else list(target)
        if valid is None:
            valid, self._valid = self._valid, None  # that of an earlier batch must not serve this one
        if valid is None or valid.shape != scales[0].shape[:2]:
            raise ValueError(
                f"valid has the shape {None if valid is None else tuple(valid.shape)}; the logits need "
                f"{tuple(scales[0].shape[:2])} (cases, targets)"
            )
        case, channel = (to_device(index, scales[0].device) for index in valid.cpu().nonzero(as_tuple=True))
        if len(scales) == 1 < len(self.scale_weights):  # deep supervision is off
            return self._one_scale(scales[0], targets[0], case, channel)
        weighted = [
            weight * self._one_scale(z, y, case, channel)
            for weight, z, y in zip(self.scale_weights, scales, targets, strict=True)
            if weight
        ]
        return torch.stack(weighted).sum()

    def _one_scale(self, logits: Tensor, target: Tensor, case: Tensor, channel: Tensor) -> Tensor:
        """Compute the loss of one output; `case` and `channel` (P,) are the indices of the P valid pairs."""
        z = logits[case, channel].flatten(1).float()  # (P, voxels)
        y = target[case, channel].flatten(1).float()
        bce = F.binary_cross_entropy_with_logits(z, y, reduction="none")
        p = z.sigmoid()
        if self.ignore_label:
            counts = 1 - target[:, -1].flatten(1).float()[case]
            bce = (bce * counts).sum(1) / counts.sum(1).clamp_min(1)
            p, y = p * counts, y * counts
        else:
            bce = bce.mean(1)
        per_pair = torch.stack([(p * y).sum(1), p.sum(1), y.sum(1), torch.ones_like(bce), bce])
        sums = per_pair.new_zeros(len(per_pair), logits.shape[1]).index_add(1, channel, per_pair)  # per target
        if self.distributed:
            # the gradient of this sum is summed over ranks too, and DDP divides it by their number again
            sums = across_ranks.all_reduce(sums)
        both, predicted, labelled, pairs, bce = sums
        dice = (2 * both + self.smooth) / (predicted + labelled + self.smooth).clamp_min(LEAST_DENOMINATOR)
        present = pairs > 0
        bce, dice = bce.sum(), torch.where(present, dice, 0).sum()
        if self.reduction == "mean":
            bce, dice = bce / pairs.sum().clamp_min(1), dice / present.sum().clamp_min(1)
        return self.ce_weight * bce - self.dice_weight * dice
