"""Consistency of a student with its teacher on two views of an image, and the student's strong view.

Mean Teacher (Tarvainen and Valpola 2017) with the squared error of soft outputs, or their divergence.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def consistency_loss(student: Tensor, teacher: Tensor, regions: bool, kind: str) -> Tensor:
    r"""Return the mean over voxels (and, of mse and of regions, over channels) of one distance.

    $\|p_s - p_t\|^2$ (mse) or $\mathrm{KL}(p_t \,\|\, p_s)$ (kl), with softmax over classes or a sigmoid per region.

    Args:
        student: logits, (B, C, *patch).
        teacher: the same; no gradient flows into it.
        regions: sigmoids in place of softmax.
        kind: mse or kl.

    Returns:
        A scalar, float32.
    """
    student, teacher = student.float(), teacher.detach().float()
    if kind == "mse":
        soft = torch.sigmoid if regions else (lambda logits: logits.softmax(1))
        return F.mse_loss(soft(student), soft(teacher))
    if regions:
        target = teacher.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(teacher, target)
        return F.binary_cross_entropy_with_logits(student, target) - entropy
    divergence = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True)
    return divergence.sum(1).mean()


def strong_view(images: Tensor, strength: float) -> Tensor:
    """Return images with other intensities: each channel times a factor, shifted, and with noise.

    Factors are uniform in 1 +- strength, shifts in +- strength, the noise has a standard deviation of strength / 2.
    The geometry stays, so that labels and soft outputs of the weak view still fit.

    Args:
        images: normalized to a standard deviation of about 1, (B, C, *patch).
        strength: 0 returns them unchanged.
    """
    if strength == 0:
        return images
    shape = (*images.shape[:2], *(1,) * (images.ndim - 2))
    factor = 1 + strength * (2 * torch.rand(shape, device=images.device) - 1)
    shift = strength * (2 * torch.rand(shape, device=images.device) - 1)
    return images * factor + shift + strength / 2 * torch.randn_like(images)
