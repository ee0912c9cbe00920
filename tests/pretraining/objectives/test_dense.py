"""Correspondence: views are cut from an image whose voxels store their own position."""

import pytest
import torch
from support.ssl_toys import ToyEncoder, small_config
from torch import nn

from nnunet_xlstm.pretraining.branch import infer_feature_info
from nnunet_xlstm.pretraining.objectives.dense import sample, shared_points
from nnunet_xlstm.pretraining.student_teacher import StudentTeacher
from nnunet_xlstm.pretraining.views import ViewBatch


def coordinate_views(n: int, dims: int, voxels: int = 16) -> ViewBatch:
    """Views of 16 voxels per axis whose D channels are the position in the parent crop (share of its edge).

    Crops have whole voxels of a parent of 32; a view of a linear image, resampled, is that image at voxels' centers.
    """
    start = torch.randint(0, 8, (n, 2, dims))
    size = torch.randint(12, 24, (n, 2, dims))
    flips = torch.rand(n, 2, dims) < 0.5
    views = torch.empty(n, 2, dims, *[voxels] * dims)
    for b in range(n):
        for v in range(2):
            axes = [(start[b, v, a] + size[b, v, a] * (torch.arange(voxels) + 0.5) / voxels) / 32 for a in range(dims)]
            view = torch.stack(torch.meshgrid(*axes, indexing="ij"))
            views[b, v] = view.flip([1 + int(a) for a in flips[b, v].nonzero()[:, 0]])
    return ViewBatch(views, torch.stack((start, size), -1) / 32, flips)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_points_show_the_same_place_in_both_views(dims, stride):
    batch = coordinate_views(6, dims)
    assert batch.flips.any() and not batch.flips.all()
    positions, shown = shared_points(batch, 200)
    assert positions.min() >= 0 and positions.max() <= 1 and shown.all()
    pool = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[dims](stride)  # tokens that cover their share of the view
    maps = pool(batch.global_views.flatten(0, 1))
    places = sample(maps, positions.flatten(0, 1)).unflatten(0, (-1, 2))
    margin = 0.5 * stride / 16  # the outermost half tokens have no neighbor to interpolate with
    inner = ((positions > margin) & (positions < 1 - margin)).all(-1).all(1)
    assert inner.sum() > 50
    first, second = (places[:, v][inner] for v in range(2))
    assert torch.allclose(first, second, atol=1e-5)
    low = batch.boxes[..., 0].amax(1)
    high = batch.boxes.sum(-1).amin(1)
    assert ((places[:, 0] >= low[:, None] - 1e-5) & (places[:, 0] <= high[:, None] + 1e-5))[inner].all()


class Averages(nn.Module):
    """Convolutions of kernel 3 and stride 2 that average what they see, and beside them, if asked for, pooling by 2."""

    def __init__(self, dims: int, shortcut: bool):
        super().__init__()
        conv, pool = {2: (nn.Conv2d, nn.AvgPool2d), 3: (nn.Conv3d, nn.AvgPool3d)}[dims]
        self.convs = nn.ModuleList(conv(dims, dims, 3, 2, 1, groups=dims, bias=False) for _ in range(3))
        for layer in self.convs:
            nn.init.constant_(layer.weight, 3.0**-dims)
        self.pool = pool(2) if shortcut else None

    def forward(self, x):
        maps = []
        for layer in self.convs:
            x = layer(x) if self.pool is None else (layer(x) + self.pool(x)) / 2
            maps.append(x)
        return maps


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("shortcut", "per_layer"), [(False, -0.5), (True, -0.25)])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_tokens_of_strided_convolutions_show_the_same_place_in_both_views(dims, shortcut, per_layer, stage):
    """By hand: a kernel of 3 at stride 2 sees 2i - 1 to 2i + 1, half a voxel before the middle of 2i and 2i + 1."""
    encoder, voxels = Averages(dims, shortcut), 64
    feature_info = infer_feature_info(encoder, dims, (voxels,) * dims, "multi")
    stride = 2 ** (stage + 1)
    shift = per_layer * (1 + 2 + 4 - {0: 6, 1: 4, 2: 0}[stage]) / stride
    assert feature_info.shifts[stage] == (shift,) * dims
    batch = coordinate_views(4, dims, voxels)
    positions, _ = shared_points(batch, 400)
    with torch.no_grad():
        maps = encoder(batch.global_views.flatten(0, 1))[stage]
    margin = 2 * stride / voxels  # what is nearer to the edge sees padding
    inner = ((positions > margin) & (positions < 1 - margin)).all(-1).all(1)
    assert inner.sum() > 20

    def apart(shift):
        """Greatest distance, in tokens of the first view, of the places that the two views show of a point."""
        moved = (positions - shift * stride / voxels).flatten(0, 1)
        places = sample(maps, moved).unflatten(0, (-1, 2))
        token = batch.boxes[:, 0, :, 1][:, None] * stride / voxels
        return ((places[:, 0] - places[:, 1]).abs() / token)[inner].max()

    assert apart(shift) < 1e-3 < 0.4 * -shift < apart(0.0)


def test_without_undoing_the_flips_places_differ():
    batch = coordinate_views(6, 2)
    positions, _ = shared_points(ViewBatch(batch.global_views, batch.boxes, ~batch.flips), 50)
    places = sample(batch.global_views.flatten(0, 1), positions.flatten(0, 1)).unflatten(0, (-1, 2))
    assert (places[:, 0] - places[:, 1]).abs().max() > 0.1


def test_boxes_that_do_not_meet_count_nothing():
    batch = coordinate_views(2, 2)
    batch.boxes[0, 0, 0] = torch.tensor([0.0, 0.2])
    batch.boxes[0, 1, 0] = torch.tensor([0.5, 0.5])
    assert shared_points(batch, 4)[1].tolist() == [0, 1]
    config = small_config(dino_weight=0.0, dense_weight=1.0)
    method = StudentTeacher(ToyEncoder(channels=2), 2, (16, 16), config)
    torch.manual_seed(1)
    both = method(batch)["dense"]
    one = ViewBatch(*(t[1:] for t in (batch.global_views, batch.boxes, batch.flips)))
    torch.manual_seed(1)
    torch.rand(4 * 5)  # the points of the first image (10 points, 2 axes)
    assert both.item() == pytest.approx(method(one)["dense"].item() / 2, rel=1e-5)


@pytest.mark.parametrize("distance", ["prototypes", "cosine"])
def test_loss_equals_the_naive_loop(distance):
    config = small_config(
        dino_weight=0.0,
        dense_weight=1.0,
        dense_distance=distance,
        feature_stages="bottleneck",
        centering="none",
        dense_points=6,
    )
    method = StudentTeacher(ToyEncoder(channels=2), 2, (16, 16), config).eval()
    nn.init.normal_(method.teacher.heads["dense"]["2"].mlp[0].weight)
    batch = coordinate_views(2, 2)
    torch.manual_seed(3)
    loss = method(batch)["loss"]
    torch.manual_seed(3)
    positions, _ = shared_points(batch, 6)
    shift = -7 / 16 / 2  # of tokens that three convolutions of stride 2 make of 16 voxels, as a share of the view
    total = 0.0
    with torch.no_grad():
        for b in range(2):
            for v in range(2):
                for i in range(6):

                    def head(branch, view, b=b, i=i):
                        x = branch.encoder(batch.global_views[b, view][None])[-1]
                        point = sample(x, (positions[b, view, i] - shift)[None, None])
                        return branch.heads["dense"]["2"](point[0, 0])

                    s, t = head(method.student, v), head(method.teacher, 1 - v)
                    if distance == "cosine":
                        total += 1 - (s[0] * t[0]).sum()
                    else:
                        total -= (torch.softmax(t[1] / 0.04, -1) * torch.log_softmax(s[1] / 0.1, -1)).sum()
    assert loss.item() == pytest.approx((total / 24).item(), rel=1e-4)
