import pytest
import torch

from nnunet_xlstm.layers.scan import AXES, resolve_orders, shuffled_index, to_grid, to_sequence


def all_orders(dim):
    return [f"{axes}{sign}" for axes in (*AXES[dim], "shuffled") for sign in "+-"]


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 3, 5), (1, 1, 1), (3, 3, 2)])
@pytest.mark.parametrize("snake", [False, True])
def test_round_trip_of_every_order(grid, snake):
    x = torch.randn(2, *grid, 3)
    for order in all_orders(len(grid)):
        sequence = to_sequence(x, order, snake)
        assert sequence.shape == (2, x[0, ..., 0].numel(), 3)
        assert torch.equal(to_grid(sequence, order, grid, snake), x)


def test_hand_computed_orders():
    x = torch.arange(6).view(1, 2, 3, 1)  # rows 0 1 2 / 3 4 5
    read = {order: to_sequence(x, order).flatten().tolist() for order in ("hw+", "hw-", "wh+")}
    assert read == {"hw+": [0, 1, 2, 3, 4, 5], "hw-": [5, 4, 3, 2, 1, 0], "wh+": [0, 3, 1, 4, 2, 5]}
    assert to_sequence(x, "hw+", snake=True).flatten().tolist() == [0, 1, 2, 5, 4, 3]


@pytest.mark.parametrize("grid", [(2, 3, 4), (3, 3, 3), (4, 2, 5)])
@pytest.mark.parametrize("axes", AXES[3])
def test_snake_makes_sequence_neighbours_space_neighbours(grid, axes):
    position = torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij"), -1)[None]
    path = to_sequence(position, f"{axes}+", snake=True)[0]
    assert (path.diff(dim=0).abs().sum(-1) == 1).all()


@pytest.mark.parametrize("length", [1, 2, 64, 1000, 4096])
def test_shuffled_is_a_fixed_permutation_far_from_the_identity(length):
    index = shuffled_index(length, torch.device("cpu"))
    assert torch.equal(index.sort().values, torch.arange(length))
    assert torch.equal(index, shuffled_index(length, torch.device("cpu")))
    if length >= 64:
        # neighbours in the sequence are as far apart as random pairs: a third of the length on average
        assert 0.25 < index.diff().abs().double().mean() / length < 0.42


def test_sets_and_errors():
    assert resolve_orders("pair", 3) == ("dhw+", "dhw-")
    assert len(resolve_orders("six", 3)) == 6 and len(resolve_orders("six", 2)) == 4
    assert resolve_orders(["wh-"], 2) == ("wh-",)
    with pytest.raises(ValueError, match="unknown set; use one of forward"):
        resolve_orders("spiral", 3)
    with pytest.raises(ValueError, match="'dhw\\+': unknown for a 2D grid; use hw\\+"):
        resolve_orders(["dhw+"], 2)
    with pytest.raises(ValueError, match="at least one"):
        resolve_orders([], 3)
