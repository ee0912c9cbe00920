"""Views: boxes and flips are what they say, overlap is kept, draws repeat by seed, thick slices are spared."""

import numpy as np
import pytest
import torch

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.pretraining.views import INTENSITY, Solarize, View, Views, overlap


def config(**keys):
    return PretrainingConfig(**{"intensity": "none", **keys})


def coordinates(size):
    """(D, *size): each voxel holds its center as a share of the edge of the array."""
    axes = [(torch.arange(n) + 0.5) / n for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


@pytest.mark.parametrize("size", [(30, 40), (20, 30, 40)])
@pytest.mark.parametrize("seed", range(5))
def test_every_voxel_of_a_view_shows_the_place_that_box_and_flip_name(size, seed):
    patch = [n // 2 for n in size]
    views = Views(patch, [1.0] * len(size), config(n_local_crops=1), True, local_patch_size=[n // 4 for n in size])
    made = views.make([coordinates(size)], np.random.default_rng(seed))
    assert made["local_views"].shape == (1, len(size), *[n // 4 for n in size])
    for view, box, flip in zip(made["global_views"], made["boxes"], made["flips"], strict=True):
        for axis, n in enumerate(patch):
            own = (torch.arange(n) + 0.5) / n
            own = 1 - own if flip[axis] else own
            expected = box[axis, 0] + own * box[axis, 1]
            values = view[axis].movedim(axis, 0).reshape(n, -1)
            inner = slice(1, -1)  # resampling repeats the edge
            assert torch.allclose(values[inner], expected[inner, None].expand_as(values[inner]), atol=1e-5)


def test_two_boxes_by_hand():
    one = (np.array([0, 0]), np.array([4, 4]))
    other = (np.array([2, 2]), np.array([4, 2]))
    assert overlap(one, other) == 4 / 8
    assert overlap(one, (np.array([4, 0]), np.array([2, 2]))) == 0


def test_global_views_always_overlap_and_scales_stay_in_range():
    views = Views((32, 32, 32), (1, 1, 1), config(min_overlap=0.4, crop_scale_min=0.3, crop_scale_max=0.8), True)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        (first, second), local = views.draw((48, 48, 48), rng)
        assert local == []
        assert overlap((first.start, first.size), (second.start, second.size)) >= 0.4
        for view in (first, second):
            assert (view.start >= 0).all() and (view.start + view.size <= 48).all()
            shares.append(view.size / 48)
    shares = np.array(shares)
    assert 0.28 < shares.min() < 0.33 and 0.77 < shares.max() < 0.82
    assert 0.3 < shares.mean() < 0.8 and shares.std() > 0.05
    # the aspect of a box stays close to 1
    assert (shares.max(1) / shares.min(1)).max() < 1.11 / 0.9 * 1.1


def test_an_overlap_that_never_comes_by_chance_still_holds():
    views = Views((16, 16, 16), (1, 1, 1), config(min_overlap=1.0, crop_scale_min=0.2), False)
    for seed in range(20):
        first, second = views.draw((40, 40, 40), np.random.default_rng(seed))[0]
        assert overlap((first.start, first.size), (second.start, second.size)) == 1


def test_thick_slices_are_hardly_resampled():
    views = Views((8, 64, 64), (10, 2.5, 2.5), config(), True)
    assert views.parent_size.tolist() == [8, 96, 96]
    rng = np.random.default_rng(0)
    drawn = [view for _ in range(100) for view in views.draw(views.parent_size, rng)[0]]
    assert min(view.size[0] for view in drawn) >= 6
    assert min(view.size[1] for view in drawn) < 60


def test_without_mirroring_nothing_is_flipped():
    views = Views((8, 8, 8), (1, 1, 1), config(), False)
    assert not any(v.flip.any() for s in range(20) for v in views.draw((12, 12, 12), np.random.default_rng(s))[0])


def test_the_second_view_may_come_from_another_frame():
    one, other = torch.zeros(1, 12, 12, 12), torch.ones(1, 12, 12, 12)
    made = Views((8, 8, 8), (1, 1, 1), config(), True).make([one, other])
    assert made["global_views"][0].max() == 0 and made["global_views"][1].min() == 1


def test_parents_are_never_changed():
    parent = torch.randn(2, 24, 24, 24)
    before = parent.clone()
    for seed in range(10):
        np.random.seed(seed)
        # a box of the patch's size is not resampled: the view must still be a copy
        Views((24, 24, 24), (1, 1, 1), PretrainingConfig(crop_scale_min=1.0), False).make([parent])
    assert torch.equal(parent, before)


@pytest.mark.parametrize("preset", [name for name in INTENSITY if name != "none"])
def test_draws_repeat_by_seed_and_differ_between_seeds(preset):
    views = Views((16, 16, 16), (1, 1, 1), PretrainingConfig(intensity=preset), True)
    parent = torch.randn(1, 24, 24, 24)

    def make(seed):
        np.random.seed(seed)
        torch.manual_seed(seed)
        return views.make([parent])["global_views"]

    assert torch.equal(make(1), make(1))
    assert not torch.equal(make(1), make(2))
    assert all(torch.isfinite(make(seed)).all() for seed in range(20))


def test_each_change_comes_as_often_as_its_probability():
    views = Views((8, 8), (1, 1), PretrainingConfig(intensity="standard"), True)
    image = torch.randn(1, 8, 8)
    counts = {name: [0, 0] for name in (type(t).__name__ for t, _, _ in views.changes)}
    n = 600
    for _ in range(n):
        for index in (0, 1):
            view = View(np.zeros(2, int), np.full(2, 8), np.zeros(2, bool))
            views.draw_intensity(view, index, image)
            for transform, _ in view.intensity:
                counts[type(transform).__name__][index] += 1
    for transform, probability, only in views.changes:
        for index in (0, 1):
            expected = probability if only in (None, index) else 0
            assert abs(counts[type(transform).__name__][index] / n - expected) < 0.07, (transform, index)


def test_solarise_by_hand():
    image = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]])
    out = Solarize().apply({"image": image.clone()}, quantile=0.5)["image"]
    assert out.tolist() == [[0.0, 1.0, 2.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"crop_scale_min": 0.9, "crop_scale_max": 0.5}, "crop_scale_min = 0.9, crop_scale_max = 0.5"),
        ({"crop_scale_max": 1.5}, "<= 1"),
        ({"through_plane_scale_min": 1.2}, "through_plane_scale_min = 1.2"),
        ({"min_overlap": 1.5}, "share of a view's volume"),
    ],
)
def test_ranges_that_are_empty_are_errors(keys, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Views((8, 8, 8), (1, 1, 1), config(**keys), True)
