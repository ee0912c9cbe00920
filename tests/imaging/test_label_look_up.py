"""Look-up of label values: swaps, large ids, all types, values that are no label."""

import numpy as np
import pytest

from nnunet_xlstm.imaging.label_look_up import look_up


def test_look_up_of_swaps_and_large_ids():
    label = np.array([0, 500, 205, 420, 205], np.int16)
    assert look_up(label, {500: 2, 205: 1, 420: 3}).tolist() == [0, 2, 1, 3, 1]
    assert look_up(np.array([1, 2, 1]), {1: 2, 2: 1}).tolist() == [2, 1, 2]
    assert look_up(np.zeros((2, 0), int), {}).shape == (2, 0)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.uint64])
def test_look_up_is_one_for_all_types(kind):
    """Also of arrays that do not lie in one piece, and with codes beyond 255."""
    label = np.random.default_rng(0).integers(0, 7, (5, 6, 4)).astype(kind)[::2].T
    for table in ({i: 7 - i for i in range(1, 7)}, {i: 1000 + i for i in range(1, 7)}):
        expected = np.array([0, *table.values()])[label.astype(int)]
        found = look_up(label, table)
        assert np.array_equal(found, expected) and found.itemsize == 1 + (max(table.values()) > 255)


@pytest.mark.parametrize(("label", "said"), [
    ([0, 421, 421], "421 in 2 voxels"), ([0, 1, 3], "3 in 1 voxels"), ([0, -1], "-1 in 1 voxels"),
    ([0, 70_000], "70000 in 1 voxels"),
])  # fmt: skip
def test_values_that_are_no_label(label, said):
    with pytest.raises(ValueError, match=said):
        look_up(np.array(label), {1: 1, 2: 2, 500: 3})
