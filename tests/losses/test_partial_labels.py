"""The partial-label loss: by hand, against plain loops, and its properties."""

import math

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn import functional as F

from nnunet_xlstm.losses.partial_labels import PartialLabelLoss


@pytest.fixture
def batch():
    """Three cases, four targets, of which each is valid somewhere but the last."""
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, 7, dtype=torch.float32)
    target = torch.rand(3, 4, 5, 6, 7) > 0.7
    valid = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
    return logits, target, valid


def naive(logits, target, valid, smooth=0.0, reduction="sum", ignore=None):
    """Sums one by one."""
    bce, both, predicted, labelled = 0.0, {}, {}, {}
    for b in range(len(logits)):
        for c in range(logits.shape[1]):
            if not valid[b, c]:
                continue
            keep = torch.ones_like(target[b, c]) if ignore is None else ~ignore[b]
            z, y = logits[b, c][keep], target[b, c][keep].float()
            p = torch.sigmoid(z)
            bce = bce - (y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()
            both[c] = both.get(c, 0) + (p * y).sum()
            predicted[c] = predicted.get(c, 0) + p.sum()
            labelled[c] = labelled.get(c, 0) + y.sum()
    dice = sum((2 * both[c] + smooth) / (predicted[c] + labelled[c] + smooth) for c in both)
    return bce / int(valid.sum()) - dice / len(both) if reduction == "mean" else bce - dice


def test_by_hand():
    """One voxel pair: p = 1/2 and 3/4, y = 1 and 0; the second target is not annotated."""
    logits = torch.tensor([[[0.0, math.log(3)], [9.0, 9.0]]])
    target = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    bce = (math.log(2) + math.log(4)) / 2
    dice = 2 * 0.5 / (0.5 + 0.75 + 1)
    loss = PartialLabelLoss()(logits, target, torch.tensor([[True, False]]))
    assert loss.item() == pytest.approx(bce - dice, abs=1e-6)
    weighted = PartialLabelLoss(dice_weight=2.0, ce_weight=0.5)(logits, target, torch.tensor([[True, False]]))
    assert weighted.item() == pytest.approx(0.5 * bce - 2 * dice, abs=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_equals_plain_loops(batch, reduction, smooth):
    loss = PartialLabelLoss(reduction=reduction, smooth=smooth)(*batch)
    assert loss.item() == pytest.approx(naive(*batch, smooth, reduction).item(), rel=1e-5)


def test_other_pairs_get_no_gradient(batch):
    logits, target, valid = batch
    logits.requires_grad_()
    PartialLabelLoss()(logits, target, valid).backward()
    reached = logits.grad.flatten(2).abs().sum(-1)
    assert (reached[~valid] == 0).all() and (reached[valid] > 0).all()


def test_other_pairs_may_hold_anything(batch):
    """What is not annotated has no say, also where it is not a number."""
    logits, target, valid = batch
    expected = PartialLabelLoss()(logits, target, valid)
    spoilt = torch.where(valid[:, :, None, None, None], logits, torch.nan)
    assert torch.equal(PartialLabelLoss()(spoilt, target, valid), expected)


def test_a_mixed_batch_is_the_sum_of_its_data_sets(batch):
    """Data sets that share no target add up; nothing of one reaches the other."""
    logits, target, _ = batch
    valid = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], dtype=torch.bool)
    loss = PartialLabelLoss()
    parts = loss(logits[:2], target[:2], valid[:2]) + loss(logits[2:], target[2:], valid[2:])
    assert loss(logits, target, valid).item() == pytest.approx(parts.item(), rel=1e-6)


def test_all_valid_is_binary_cross_entropy_and_batch_dice(batch):
    logits, target, _ = batch
    everything = torch.ones(3, 4, dtype=torch.bool)
    y, p = target.float(), logits.sigmoid()
    axes = (0, 2, 3, 4)
    dice = 2 * (p * y).sum(axes) / (p.sum(axes) + y.sum(axes))
    expected = F.binary_cross_entropy_with_logits(logits, y) - dice.mean()
    assert PartialLabelLoss(reduction="mean")(logits, target, everything).item() == pytest.approx(expected.item())


def test_ignored_voxels(batch):
    logits, target, valid = batch
    torch.manual_seed(1)
    ignore = torch.rand(3, 1, 5, 6, 7) > 0.5
    loss = PartialLabelLoss(ignore_label=True)
    expected = naive(logits, target, valid, ignore=ignore[:, 0]).item()
    for kind in (torch.bool, torch.float32):
        both = torch.cat([target, ignore], 1).to(kind)
        assert loss(logits, both, valid).item() == pytest.approx(expected, rel=1e-5)
    changed = torch.where(ignore, logits + 5, logits)
    assert torch.equal(loss(changed, both, valid), loss(logits, both, valid))


def test_a_case_without_any_target(batch):
    logits, target, _ = batch
    logits.requires_grad_()
    loss = PartialLabelLoss(reduction="mean")(logits, target, torch.zeros(3, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_scales_have_weights(batch):
    logits, target, valid = batch
    small, small_target = logits[..., ::2], target[..., ::2]
    loss, one = PartialLabelLoss((0.75, 0.25, 0)), PartialLabelLoss()
    expected = 0.75 * one(logits, target, valid) + 0.25 * one(small, small_target, valid)
    found = loss([logits, small, small], [target, small_target, small_target], valid)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss(logits, target, valid).item() == pytest.approx(one(logits, target, valid).item())


def test_half_precision_is_summed_in_float32(batch):
    logits, target, valid = batch
    large = logits.repeat(1, 1, 8, 8, 8).half()
    loss = PartialLabelLoss()(large, target.repeat(1, 1, 8, 8, 8), valid)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(PartialLabelLoss()(logits, target, valid).item(), rel=2e-3)


def test_absent_targets():
    """Valid but nowhere: without smoothing no reward is to be had, with it silence is rewarded."""
    logits, target, valid = torch.full((1, 1, 8), -40.0), torch.zeros(1, 1, 8), torch.ones(1, 1, dtype=torch.bool)
    assert PartialLabelLoss()(logits, target, valid).item() == pytest.approx(0, abs=1e-6)
    assert PartialLabelLoss(smooth=1e-5)(logits, target, valid).item() == pytest.approx(-1)


def test_what_is_valid_must_be_known(batch):
    logits, target, valid = batch
    loss = PartialLabelLoss()
    with pytest.raises(ValueError, match=r"shape None; the logits need \(3, 4\)"):
        loss(logits, target)
    with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
        loss(logits, target, valid[:, :3])
    loss.set_valid(valid)
    assert torch.equal(loss(logits, target), loss(logits, target, valid))
    with pytest.raises(ValueError, match="reduction 'max'"):
        PartialLabelLoss(reduction="max")


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    part = slice(0, 2) if rank == 0 else slice(2, 3)
    logits, target, valid = (one[part] for one in torch.load(f"{folder}/batch.pt"))
    loss = PartialLabelLoss(distributed=True)(logits.requires_grad_(), target, valid)
    loss.backward()
    torch.save((loss.detach(), logits.grad / 2), f"{folder}/{rank}.pt")  # DDP takes the mean over ranks
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_are_one_batch(batch, tmp_path):
    torch.save(batch, tmp_path / "batch.pt")
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    logits, target, valid = batch
    whole = PartialLabelLoss()(logits.requires_grad_(), target, valid)
    whole.backward()
    losses, gradients = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
    assert torch.allclose(torch.stack(losses), whole.detach(), rtol=1e-5)
    assert torch.allclose(torch.cat(gradients), logits.grad, atol=1e-6)


def test_what_was_said_of_one_batch_does_not_serve_the_next(batch):
    logits, target, valid = batch
    loss = PartialLabelLoss()
    loss.set_valid(valid)
    assert loss(logits, target).item() == loss(logits, target, valid).item()
    with pytest.raises(ValueError, match="valid has the shape None"):
        loss(logits, target)
