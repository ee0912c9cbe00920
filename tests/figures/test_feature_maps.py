"""Pictures of features: which slices, and that images of any size and direction are drawn."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.figures.feature_maps import draw_feature_maps, even_slices, slice_axis


def test_slices_are_even_and_as_far_from_both_ends():
    assert even_slices(10, 5) == [1, 3, 5, 7, 9]
    assert even_slices(9, 3) == [1, 4, 7]
    assert even_slices(2, 5) == [0, 1]


@pytest.mark.parametrize("spacing, axis", [((1, 1, 1), 0), ((1, 1.2, 1), 0), ((1, 1, 5), 2), ((10, 1, 1), 0)])
def test_slices_are_taken_across_the_thick_axis(spacing, axis):
    assert slice_axis(spacing) == axis


@pytest.mark.parametrize("size", [(1, 20, 16), (6, 20, 16)])
def test_a_picture(tmp_path, size):
    rng = np.random.default_rng(0)

    def image():
        made = sitk.GetImageFromArray(rng.random(size).astype(np.float32))
        made.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        return made

    maps = {variant: [image() for _ in range(3)] for variant in ("trained", "un$trained")}
    path = draw_feature_maps(tmp_path / "new" / "a.png", image(), maps, title="a_$b", n_slices=3)
    assert path.stat().st_size > 5000
