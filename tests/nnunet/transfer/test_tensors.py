"""Channels, kernels and position embeddings: by hand, and by what must stay the same."""

import pytest
import torch
from torch.nn import functional as F

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.transfer.tensors import adapt_channels, adapt_kernel, channel_map, resize_position_embedding


def test_channels_by_hand():
    weight = torch.tensor([[[[[1.0]]], [[[5.0]]]]])  # one output, two input channels
    assert adapt_channels(weight, [[0, 1]]).flatten().tolist() == [6.0]  # 2 -> 1: the sum
    assert adapt_channels(weight[:, :1], [[0], [0], [0], [0]]).flatten().tolist() == [0.25] * 4  # 1 -> 4
    assert adapt_channels(weight, [[1], [0]]).flatten().tolist() == [5.0, 1.0]  # another order
    assert adapt_channels(weight, [[0], [1], [0, 1]]).flatten().tolist() == pytest.approx([2 / 3, 10 / 3, 2.0])


@pytest.mark.parametrize("n, m", [(1, 3), (3, 1), (2, 4), (4, 2)])
def test_the_answer_stays_where_all_channels_show_one_image(n, m):
    weight, image = torch.randn(5, n, 3, 3, 3), torch.randn(1, 1, 6, 6, 6)
    mapping = channel_map([f"a{i}" for i in range(n)], [f"b{j}" for j in range(m)])
    before = F.conv3d(image.expand(1, n, 6, 6, 6), weight)
    after = F.conv3d(image.expand(1, m, 6, 6, 6), adapt_channels(weight, mapping))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "source, target, chosen, expected",
    [
        (["MR"], ["MR"], None, [[0]]),
        (["MR"], ["T1", "T2"], None, [[0], [0]]),
        (["FLAIR", "T1"], ["t1", "flair"], None, [[1], [0]]),
        (["image"], ["CT"], None, [[0]]),
        (["CT", "CT", "CT"], ["CT"], None, [[0, 1, 2]]),  # frames of a CT: none of them is the image
        (["CT", "CT"], ["CT", "CT"], None, [[0], [1]]),
        (["a", "b"], ["c", "d"], None, [[0], [1]]),
        (["T1", "T2"], ["T1", "PD", "T2"], None, [[0], [0, 1], [1]]),
        (["T1", "T2"], ["T2", "PD"], None, [[1], [0, 1]]),  # T2's place is T2's
        (["T1", "T2"], ["T1"], {0: [1]}, [[1]]),
        (["MR"], ["MR", "MR"], None, [[0], [0]]),  # names that tell nothing apart
    ],
)
def test_which_channel_gets_which(source, target, chosen, expected):
    assert channel_map(source, target, chosen) == expected


@pytest.mark.parametrize("chosen", [{2: [0]}, {0: [3]}, {0: []}])
def test_a_channel_that_is_not_there(chosen):
    with pytest.raises(ValueError, match="the target has the channels 0 to 0"):
        channel_map(["a", "b"], ["c"], chosen)


def test_kernels_by_hand():
    weight = torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3)
    assert adapt_kernel(weight, (1, 1, 1)).flatten().tolist() == [7.0]
    assert adapt_kernel(weight, (1, 1, 5)).flatten().tolist() == [0.0, 1.0, 2.0, 4.0, 0.0]
    assert adapt_kernel(weight, weight.shape) is weight


def test_a_smaller_kernel_answers_alike_to_images_that_are_constant_along_the_axis():
    weight, plane = torch.randn(4, 2, 3, 3, 3), torch.randn(1, 2, 1, 7, 7)
    before = F.conv3d(plane.expand(1, 2, 3, 7, 7), weight)
    torch.testing.assert_close(F.conv3d(plane, adapt_kernel(weight, (4, 2, 1, 3, 3))), before, rtol=1e-4, atol=1e-5)


def test_position_embeddings():
    ramp = torch.arange(4.0).view(1, 4, 1)
    with_class = torch.cat((torch.full((1, 1, 1), 9.0), ramp), 1)
    wide = resize_position_embedding(with_class, (4,), (8,)).flatten()
    assert wide[0] == 9 and wide[1:].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]
    assert resize_position_embedding(ramp, (2, 2), (2, 2)) is ramp
    cube = torch.randn(1, 2 + 8, 6)
    larger = resize_position_embedding(cube, (2, 2, 2), (4, 2, 6))
    assert larger.shape == (1, 2 + 48, 6) and torch.equal(larger[:, :2], cube[:, :2])
    with pytest.raises(ValueError, match="too few for a grid"):
        resize_position_embedding(ramp, (2, 3), (2, 2))


@pytest.mark.parametrize("shape", [(2, 1, 0, 3), (2, 1, 3, 0)])
def test_a_kernel_without_elements(shape):
    with pytest.raises(ConfigError, match="each axis needs an element"):
        adapt_kernel(torch.ones(2, 1, 3, 3), shape)
