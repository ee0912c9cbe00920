"""The body mask: thresholds by hand, components, holes, and never empty."""

import numpy as np
import pytest

from nnunet_xlstm.imaging.body_mask import MAX_EDGE, body_mask, otsu, threshold


def body(shape=(12, 40, 40), outside=-1000.0, inside=40.0):
    """A box of 10 x 30 x 30 voxels in air, and where it is."""
    image = np.full(shape, outside, np.float32)
    where = (slice(1, 11), slice(5, 35), slice(5, 35))
    image[where] = inside
    mask = np.zeros(shape, np.uint8)
    mask[where] = 1
    return image, mask


def test_otsu_by_hand():
    # two peaks at 0 and 10: every cut between them is as good, so the middle is taken
    assert otsu(np.repeat([0.0, 10.0], 50)) == pytest.approx(5.0, abs=0.05)
    # variance between classes for 0 x 6, 1 x 3, 5 x 1: cut above 0: 6*4*(2)^2 = 96; cut above 1: 9*1*(5-1/3)^2 = 196
    assert 1 < otsu(np.array([0.0] * 6 + [1.0] * 3 + [5.0])) < 5


def test_ct_is_cut_at_its_threshold_and_lungs_are_filled():
    image, mask = body()
    image[3:9, 10:20, 10:20] = -850  # a lung
    np.testing.assert_array_equal(body_mask(image, "CT"), mask)
    image[:, 10:20, 10:20] = -850  # open above and below: closed slice by slice
    filled = body_mask(image, "CT")
    np.testing.assert_array_equal(filled[1:11], mask[1:11])


def test_ct_without_negative_values_is_no_hounsfield():
    image, mask = body(outside=0, inside=1040)
    assert 0 < threshold(image, "CT") < 1040
    np.testing.assert_array_equal(body_mask(image, "CT"), mask)


def test_ct_of_the_body_alone_is_all_body():
    image = np.random.default_rng(0).normal(40, 30, (6, 20, 20))
    assert body_mask(image, "CT").all()


@pytest.mark.parametrize("modality", ["MR", "PET"])
def test_noise_outside_and_a_very_bright_spot(modality):
    rng = np.random.default_rng(0)
    image, mask = body(outside=0, inside=100)
    image = np.abs(image + rng.normal(0, 5, image.shape)).astype(np.float32)
    image[4:6, 10:12, 10:12] = 5000  # contrast agent or uptake
    np.testing.assert_array_equal(body_mask(image, modality), mask)


def test_small_components_go_and_a_second_leg_stays():
    image = np.zeros((8, 40, 60), np.float32)
    image[:, 5:35, 5:25] = 100
    image[:, 5:25, 35:50] = 100  # half as large
    expected = (image > 0).astype(np.uint8)
    image[:, 37:39, 55:58] = 100  # a cable
    np.testing.assert_array_equal(body_mask(image, "MR"), expected)


def test_never_empty():
    constant = np.full((4, 10, 10), 7.0)
    assert body_mask(constant, "MR").all() and body_mask(constant - 3000, "CT").all()
    single = np.zeros((4, 10, 10))
    single[2, 3, 4] = 1e-30
    for modality in ("CT", "MR"):
        mask = body_mask(single, modality)
        assert mask.dtype == np.uint8 and mask.any() and set(np.unique(mask)) <= {0, 1}


def test_holes_of_a_single_slice_are_filled():
    image, mask = body((1, 40, 40))
    image[0, 5:35, 5:35], mask[0, 5:35, 5:35] = 40, 1
    image[0, 10:20, 10:20] = -1000
    np.testing.assert_array_equal(body_mask(image, "CT"), mask)


def test_large_images_keep_their_shape():
    image = np.zeros((3, MAX_EDGE * 2 + 1, MAX_EDGE + 1), np.float32)
    image[:, 100:200, 40:120] = 100
    mask = body_mask(image, "MR")
    assert mask.shape == image.shape
    assert np.abs(mask.astype(int) - (image > 0)).mean() < 0.02  # an edge of one coarse voxel
