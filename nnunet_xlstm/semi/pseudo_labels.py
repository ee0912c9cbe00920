"""Pseudo-labels: what a teacher's logits say, where they are sure enough, as targets of nnU-Net's losses.

Voxels that are not sure are marked with nnU-Net's own means, the ignore label (FixMatch, Sohn et al. 2020, keeps
confident pixels alone; BCP, Bai et al. 2023, keeps the largest component of each class).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

NO_LABEL = -1  # the ignore label where the data set has none; nnU-Net's labels start at 0


@dataclass(frozen=True)
class TargetCoding:
    """How a target says what every voxel is, and which voxels no loss counts.

    Attributes:
        regions: a channel of bool per region, and a last one for ignored voxels; else one channel of label ids.
        ignore_label: of the data set; None if it has none.
    """

    regions: bool
    ignore_label: int | None

    @property
    def ignored(self) -> int:
        """Return the label id that marks ignored voxels."""
        return NO_LABEL if self.ignore_label is None else self.ignore_label

    def with_ignore(self, target: Tensor) -> Tensor:
        """Return a target of the data set, (B, C, *patch), in the form that can mark ignored voxels."""
        if not self.regions or self.ignore_label is not None:
            return target
        return torch.cat([target, torch.zeros_like(target[:, :1])], 1)

    def encode(self, labels: Tensor, sure: Tensor) -> Tensor:
        """Return pseudo-labels as a target.

        Args:
            labels: (B, 1, *patch) label ids, or (B, regions, *patch) bool.
            sure: (B, 1, *patch) bool, what the loss counts.
        """
        return torch.cat([labels, ~sure], 1) if self.regions else torch.where(sure, labels, self.ignored)

    def foreground(self, target: Tensor) -> Tensor:
        """Return whether a target that `with_ignore` or `encode` made shows any foreground, a bool scalar."""
        return target[:, :-1].any() if self.regions else ((target > 0) & (target != self.ignored)).any()


def pseudo_labels(logits: Tensor, regions: bool, confidence: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return labels, and where the network is sure of them.

    Args:
        logits: (B, C, *patch).
        regions: sigmoids, a channel per region; else softmax over classes.
        confidence: least probability of the answer; of regions, of every region's answer.

    Returns:
        Labels, (B, 1, *patch) int64 or (B, C, *patch) bool; and (B, 1, *patch) bool.
    """
    if regions:
        probability = logits.float().sigmoid()
        sure = torch.maximum(probability, 1 - probability).amin(1, keepdim=True) >= confidence
        return logits > 0, sure
    probability, labels = logits.float().softmax(1).max(1, keepdim=True)
    return labels, probability >= confidence


def keep_largest_components(labels: Tensor, regions: bool) -> Tensor:
    """Return pseudo-labels with only the largest component of each class; the rest becomes background.

    Voxels that touch at a face, an edge or a corner are connected. It runs on the CPU.

    Args:
        labels: (B, 1, *patch) label ids, or (B, regions, *patch) bool.
        regions: the latter.
    """
    values = labels.cpu().numpy()
    kept = np.zeros_like(values)
    for image, result in zip(values, kept, strict=True):
        if regions:
            for channel, answer in zip(image, result, strict=True):
                answer[...] = largest_component(channel)
        else:
            for label in np.unique(image[image > 0]):
                result[0][largest_component(image[0] == label)] = label
    return torch.from_numpy(kept).to(labels.device)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest component of a bool array, the first of several; an empty one as it is."""
    components, n = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return mask if n < 2 else components == np.bincount(components.ravel())[1:].argmax() + 1


@dataclass
class PseudoLabelMonitor:
    """Counts what an epoch's pseudo-labels showed; stays on the device until `line` reads it.

    Attributes:
        steps: that were seen.
        sums: of the shares of sure and of foreground voxels, and of the batches with labelled foreground; (3,).
    """

    steps: int = 0
    sums: Tensor | None = None

    def add(self, labels: Tensor, sure: Tensor, labelled_foreground: Tensor) -> None:
        """Count a step.

        Args:
            labels: of the teacher, before they are encoded.
            sure: (B, 1, *patch) bool.
            labelled_foreground: bool scalar, whether the labelled batch shows foreground.
        """
        foreground = (labels > 0).any(1).float().mean()
        row = torch.stack([sure.float().mean(), foreground, labelled_foreground.float()])
        self.sums = row if self.sums is None else self.sums + row
        self.steps += 1

    def line(self) -> str:
        """Say what was seen, for the log, with a warning if all pseudo-labels were background; "" without steps."""
        if self.sums is None:
            return ""
        sure, foreground, labelled = (self.sums / self.steps).tolist()
        text = f"pseudo-labels: {foreground:.4f} of the voxels foreground, {sure:.4f} confident"
        if foreground == 0 and labelled > 0 and not math.isnan(labelled):
            text = (
                f"WARNING: {text}; the teacher says background everywhere while the labelled images show foreground "
                "(collapse): lengthen pretrain_fraction or ramp_fraction, or lower unlabelled_weight"
            )
        return text
