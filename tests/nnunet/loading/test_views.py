"""The loader of views: where parent crops lie, how frames follow each other, what a batch holds."""

import numpy as np
import pytest
import torch

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.nnunet.loading.views import ViewLoader, map_box, view_batch
from nnunet_xlstm.pretraining.views import Views


class Cases:
    """Stands for nnU-Net's data set: name -> (image (C, D, H, W), foreground voxels)."""

    def __init__(self, cases):
        self.cases, self.identifiers = cases, list(cases)

    def load_case(self, key):
        image, voxels = self.cases[key]
        shape = image.shape[1:]
        properties = {
            "class_locations": {1: [(0, *v) for v in voxels]},
            "shape_after_cropping_and_before_resampling": shape,
            "bbox_used_for_cropping": [[0, n] for n in shape],
        }
        return image, np.zeros((1, *shape), np.int8), None, properties


def loader(cases, patch=(8, 8, 8), share=1.0, **options):
    keys = {"intensity": "none", "crop_scale_min": 0.5}
    views = Views(patch, (1.0,) * len(patch), PretrainingConfig(**keys), True)
    return ViewLoader(Cases(cases), 2, views, share, **options)


def image(shape, value=None):
    return (
        np.full((1, *shape), value, np.float32) if value is not None else np.random.rand(1, *shape).astype(np.float32)
    )


def test_a_batch_holds_what_the_method_needs():
    batch = next(loader({"a": (image((20, 24, 28)), [(3, 4, 5)])}))
    assert batch["global_views"].shape == (2, 2, 1, 8, 8, 8)
    assert batch["boxes"].shape == (2, 2, 3, 2) and batch["flips"].shape == (2, 2, 3)
    assert batch["keys"] == ["a", "a"] and "local_views" not in batch
    made = view_batch(batch, torch.device("cpu"))
    assert made.local_views is None and torch.equal(made.boxes, batch["boxes"])


def test_two_dimensions_take_one_slice():
    batch = next(loader({"a": (image((20, 24, 28)), [(3, 4, 5)])}, patch=(8, 8)))
    assert batch["global_views"].shape == (2, 2, 1, 8, 8)


@pytest.mark.parametrize("voxel", [(0, 0, 0), (10, 12, 14), (19, 23, 27)])
def test_the_parent_crop_holds_the_drawn_voxel_and_stays_inside(voxel):
    made = loader({"a": (image((20, 24, 28)), [voxel])})
    for _ in range(10):
        box = made._parent_box((20, 24, 28), {1: [(0, *voxel)]})
        assert all(a <= v < b for (a, b), v in zip(box, voxel, strict=True))
        assert all(a >= 0 and b <= n and b - a == 12 for (a, b), n in zip(box, (20, 24, 28), strict=True))


def test_a_small_image_is_padded_no_further_than_the_patch():
    box = loader({"a": (image((5, 10, 40)), [])})._parent_box((5, 10, 40), {1: []})
    assert box[0] == [-1, 7]  # 8 voxels around 5
    assert box[1][1] - box[1][0] == 10 and box[1][0] == 0  # between patch and parent: the whole image
    assert box[2][1] - box[2][0] == 12
    assert next(loader({"a": (image((5, 10, 40), 1.0), [])}))["global_views"].max() == 1


def test_cases_are_drawn_as_often_as_asked():
    made = loader({"a": (image((12, 12, 12)), []), "b": (image((12, 12, 12)), [])}, probabilities=[0.9, 0.1])
    keys = [key for _ in range(100) for key in next(made)["keys"]]
    assert 0.8 < keys.count("a") / len(keys) < 0.98


def test_the_second_view_comes_from_the_partner():
    cases = {"t0": (image((12, 12, 12), 0.0), []), "t1": (image((12, 12, 12), 1.0), [])}
    batch = next(loader(cases, partner=lambda key: "t1" if key == "t0" else "t0"))
    for views, key in zip(batch["global_views"], batch["keys"], strict=True):
        own = 0.0 if key == "t0" else 1.0
        assert views[0].unique().tolist() == [own] and views[1].unique().tolist() == [1 - own]


def test_a_box_is_followed_into_a_frame_with_another_crop():
    one = (
        (20, 20),
        {"shape_after_cropping_and_before_resampling": (10, 20), "bbox_used_for_cropping": [[5, 15], [0, 20]]},
    )
    other = (
        (24, 18),
        {"shape_after_cropping_and_before_resampling": (12, 18), "bbox_used_for_cropping": [[4, 16], [2, 20]]},
    )
    # axis 0: both resampled by 2, the other crop begins one voxel (two after resampling) earlier; axis 1: two later
    assert map_box([[4, 10], [6, 12]], one, other) == [[6, 12], [4, 10]]
    assert map_box([[4, 10], [6, 12]], one, one) == [[4, 10], [6, 12]]


def test_the_same_seed_gives_the_same_batch():
    cases = {"a": (image((20, 24, 28)), [(3, 4, 5)])}

    def draw(seed):
        np.random.seed(seed)
        return next(loader(cases))["global_views"]

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


def test_places_anywhere_are_drawn_alike():
    """Along an edge of 20 with a crop of 12 there are 9 starts; a uniform centre would put 6 of 10 at the two ends."""
    made = loader({"a": (image((20, 24, 28)), [])}, share=0.0)
    starts = np.array([[a for a, _ in made._parent_box((20, 24, 28), {1: []})] for _ in range(3000)])
    for axis, n in enumerate((9, 13, 17)):
        share = np.bincount(starts[:, axis], minlength=n) / len(starts)
        assert len(share) == n and np.abs(share - 1 / n).max() < 0.03
