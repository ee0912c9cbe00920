"""Copy-paste on arrays that can be written down."""

import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform

from nnunet_xlstm.semi.copy_paste import downsample_targets, random_box, swap_box


def test_a_box_changes_places():
    first = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]])
    second = -first
    mixed = swap_box(first, second, (slice(0, 1), slice(1, 3)))
    assert mixed.tolist() == [[[[1, -2, -3], [4, 5, 6]]], [[[-1, 2, 3], [-4, -5, -6]]]]
    assert first[0, 0, 0].tolist() == [1, 2, 3]  # the input stays


def test_images_and_targets_are_mixed_alike():
    torch.manual_seed(0)
    target = torch.randint(0, 3, (4, 1, 6, 8, 5))
    images = target.repeat(1, 2, 1, 1, 1).float()
    box = random_box((6, 8, 5), 0.5)
    mixed, labels = swap_box(images[:2], images[2:], box), swap_box(target[:2], target[2:], box)
    assert torch.equal(mixed, labels.repeat(1, 2, 1, 1, 1).float())


@pytest.mark.parametrize("share, lengths", [(2 / 3, (6, 10)), (1.0, (9, 15)), (0.05, (1, 1))])
def test_the_box_has_its_share_of_each_edge_and_lies_anywhere(share, lengths):
    torch.manual_seed(0)
    boxes = [random_box((9, 15), share) for _ in range(300)]
    for axis, (edge, n) in enumerate(zip((9, 15), lengths, strict=True)):
        assert {box[axis].stop - box[axis].start for box in boxes} == {n}
        assert {box[axis].start for box in boxes} == set(range(edge - n + 1))


@pytest.mark.parametrize("kind", [torch.int16, torch.bool])
def test_targets_of_deep_supervision_are_nnunets(kind):
    torch.manual_seed(0)
    target = torch.randint(0, 2, (2, 2, 8, 10, 6)).to(kind)
    stock = DownsampleSegForDSTransform([[1, 1, 1], [0.5, 0.5, 0.5], [0.25, 0.5, 0.5]])
    wanted = [
        torch.stack(scale) for scale in zip(*(stock(segmentation=t)["segmentation"] for t in target), strict=True)
    ]
    found = downsample_targets(target, [t.shape[2:] for t in wanted])
    assert all(torch.equal(a, b) and a.dtype == kind for a, b in zip(found, wanted, strict=True))
