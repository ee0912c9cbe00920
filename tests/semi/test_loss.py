"""The loss of a batch of labelled and other images."""

import torch
from torch.nn import functional as F

from nnunet_xlstm.semi.loss import SemiLoss, Term


class Supervised(torch.nn.Module):
    def forward(self, outputs, target):
        return sum(F.mse_loss(o, t) for o, t in zip(outputs, target, strict=True))


def test_equals_a_naive_sum_and_forgets_its_terms():
    torch.manual_seed(0)
    outputs = [torch.randn(7, 2, n, n) for n in (8, 4)]
    target = [torch.randn(2, 2, n, n) for n in (8, 4)]
    loss = SemiLoss(Supervised())
    loss.set_terms([Term(3, 0.5, lambda o: o[0].sum()), Term(2, 2.0, lambda o: (o[1] ** 2).mean())])
    naive = sum(((o[:2] - t) ** 2).mean() for o, t in zip(outputs, target, strict=True))
    naive = naive + 0.5 * outputs[0][2:5].sum() + 2.0 * (outputs[1][5:7] ** 2).mean()
    torch.testing.assert_close(loss(outputs, target), naive)
    whole = [torch.randn_like(o) for o in outputs]
    assert loss(outputs, whole) == Supervised()(outputs, whole)  # validation, the next call
