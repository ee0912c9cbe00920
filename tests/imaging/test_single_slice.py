"""2D images as volumes of one slice: voxels, places and sizes stay, and a slice is not thinner than its pixels."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.imaging.single_slice import as_gray, as_volume


def image(shape, spacing, **options):
    made = sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), **options)
    made.SetSpacing(spacing)
    made.SetOrigin(range(1, len(shape) + 1))
    return made


def test_a_2d_image_by_hand():
    flat = image((2, 3), (0.5, 0.75))
    solid = as_volume(flat)
    assert solid.GetSize() == (3, 2, 1) and solid.GetSpacing() == (0.5, 0.75, 0.75)
    assert solid.GetOrigin()[:2] == flat.GetOrigin()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(solid), [[[0, 1, 2], [3, 4, 5]]])


@pytest.mark.parametrize("across", [0, 1, 2])
@pytest.mark.parametrize("thickness", [0.1, 8.0])
def test_the_single_slice_lies_along_z_and_every_voxel_where_it_was(across, thickness):
    size, spacing = [4, 5, 6], [1.0, 1.25, 1.5]
    size[across], spacing[across] = 1, thickness
    before = image(size[::-1], spacing)
    before.SetDirection(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].ravel())
    after = as_volume(before)
    assert after.GetSize()[2] == 1 and after.GetSpacing()[2] == max(thickness, *after.GetSpacing()[:2])
    place_of = {
        made[index]: made.TransformIndexToPhysicalPoint(index)
        for made in (before,)
        for index in itertools.product(*map(range, made.GetSize()))
    }
    for index in itertools.product(*map(range, after.GetSize())):
        assert after.TransformIndexToPhysicalPoint(index) == pytest.approx(place_of[after[index]])


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 9), (2, 3, 4, 5)])
def test_what_has_several_slices_stays(shape):
    made = image(shape, (1.0,) * len(shape), isVector=False)
    assert as_volume(made) is made
    thick = image((1, 4, 5), (1.0, 1.0, 3.0))
    assert as_volume(thick) is thick


def test_grey_in_colours():
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for channels in ([gray] * 3, [gray] * 3 + [np.full_like(gray, 255)]):
        made = as_gray(sitk.GetImageFromArray(np.stack(channels, -1), isVector=True))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(made), gray)
    for channels in ([gray, gray, gray + 1], [gray] * 4, [gray] * 2):  # colour; a mask as alpha; two channels
        made = sitk.GetImageFromArray(np.stack(channels, -1), isVector=True)
        assert as_gray(made) is made
