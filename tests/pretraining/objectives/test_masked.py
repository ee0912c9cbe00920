import pytest
import torch
from support.ssl_toys import ToyEncoder, random_batch, small_config

from nnunet_xlstm.pretraining.branch import EncoderFeatureInfo, Outputs
from nnunet_xlstm.pretraining.objectives.base import ObjectiveInputs
from nnunet_xlstm.pretraining.objectives.masked import MaskedObjective, draw_mask, refine_mask
from nnunet_xlstm.pretraining.student_teacher import StudentTeacher


def feature_info(dims: int, tokens: int = 4) -> EncoderFeatureInfo:
    stages = tuple(tokens * 2 ** (3 - s) for s in range(4))
    return EncoderFeatureInfo(1, (tokens * 8,) * dims, (2, 3, 4, 5), tuple((n,) * dims for n in stages), (2, 3))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("ratio, block", [(0.5, 8), (0.25, 16), (0.6, 16)])
def test_masked_share_and_whole_blocks(dims, ratio, block):
    mask = draw_mask(5, feature_info(dims), small_config(mask_ratio=ratio, mask_block=block))
    n_blocks = (32 // block) ** dims
    voxels = refine_mask(mask, (32,) * dims)
    assert voxels.shape == (5, *[32] * dims)
    assert voxels.flatten(1).float().mean(1).tolist() == pytest.approx([round(ratio * n_blocks) / n_blocks] * 5)
    blocks = voxels.unfold(1, block, block).unfold(2, block, block)
    blocks = blocks.unfold(3, block, block).flatten(4) if dims == 3 else blocks.flatten(3)
    assert torch.equal(blocks.all(-1), blocks.any(-1))
    assert not torch.equal(voxels[0], voxels[1]) or n_blocks < 8


def test_extreme_ratios_leave_something_to_see_and_to_predict():
    for ratio, expected in ((0.0, 1), (1.0, 15)):
        mask = draw_mask(3, feature_info(2), small_config(mask_ratio=ratio, mask_block=1))
        assert mask.flatten(1).sum(1).tolist() == [expected] * 3
    with pytest.raises(ValueError, match="give a smaller mask_block"):
        draw_mask(1, feature_info(2), small_config(mask_block=32))


def test_views_hold_the_token_where_they_are_masked():
    method = MaskedObjective(feature_info(2), small_config(masked_weight=1.0, mask_block=8))
    method.token.data.fill_(7)
    views = torch.randn(2, 2, 1, 32, 32)
    masked, mask = method.mask(views)
    voxels = refine_mask(mask, (32, 32)).view(2, 2, 1, 32, 32)
    assert (masked[voxels] == 7).all() and torch.equal(masked[~voxels], views[~voxels])


@pytest.mark.parametrize("target", ["features", "voxels"])
def test_gradient_comes_from_masked_cells_only(target):
    shape = feature_info(2)
    objective = MaskedObjective(shape, small_config(masked_weight=1.0, mask_block=8, masked_target=target))
    batch = random_batch(2, size=32)
    _, mask = objective.mask(batch.global_views)
    maps = {s: torch.randn(4, shape.channels[s], *shape.tokens[s], requires_grad=True) for s in (2, 3)}
    teacher = {s: torch.randn_like(x) for s, x in maps.items()}
    student, teacher = (Outputs({}, {}, {}, m, {}) for m in (maps, teacher))
    objective(ObjectiveInputs(batch, student, teacher, 0.04, mask)).backward()
    touched = maps[3].grad.abs().sum(1) > 0
    assert torch.equal(touched, mask)
    assert maps[2].grad is None  # the third stage is too fine


def test_voxel_loss_by_hand():
    """A decoder that says 0: the loss is the mean absolute voxel of each view's masked tokens, mean over views."""
    config = small_config(dino_weight=0.0, masked_weight=1.0, masked_target="voxels", mask_block=8)
    method = StudentTeacher(ToyEncoder(3, channels=2), 2, (16, 16, 16), config)
    assert method.needs == {"maps", "mask"}
    for p in method.objectives["masked"].predictors.parameters():
        torch.nn.init.zeros_(p)
    batch = random_batch(2, 3, channels=2)
    torch.manual_seed(5)
    loss = method(batch)["loss"]
    torch.manual_seed(5)
    mask = refine_mask(draw_mask(4, method.feature_info, config), (16, 16, 16))
    views = batch.global_views.flatten(0, 1)
    expected = torch.stack([view[:, m].abs().mean() for view, m in zip(views, mask, strict=True)]).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_voxel_targets_follow_the_tokens():
    shape = EncoderFeatureInfo(1, (4, 6), (2,), ((2, 3),), (0,))
    objective = MaskedObjective(shape, small_config(masked_weight=1.0, masked_target="voxels", mask_block=2))
    view = torch.arange(24.0).view(1, 1, 1, 4, 6)
    rows = objective._voxels(view, 0)
    assert rows[0].tolist() == [0, 1, 6, 7] and rows[5].tolist() == [16, 17, 22, 23]
