"""The frozen encoder over whole images and tiles, in 2D and 3D, and its encoders."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xlstm.choices import ENCODERS
from nnunet_xlstm.nnunet.checkpoints import pretraining
from nnunet_xlstm.nnunet.probing.frozen_encoder import FrozenEncoder, Pretrained
from nnunet_xlstm.pretraining.probe import LinearModel


class Means(nn.Module):
    """Stands for an encoder: the image, and its means over tokens of 2 and 4 voxels. Each is right at its own place."""

    def forward(self, x):
        pool = F.avg_pool3d if x.ndim == 5 else F.avg_pool2d
        return [x, pool(x, 2), torch.cat([pool(x, 4)] * 2, 1)]


def voxels(size):
    return np.stack([g.ravel() for g in np.indices(size)], 1)


def made(dim=3, **options):
    return FrozenEncoder(Means(), (4,) * dim, (8,) * dim, **options)


@pytest.mark.parametrize("size", [(8, 12, 16), (5, 9, 13), (3, 3, 3)])
def test_the_first_stage_is_the_image_itself(size):
    image = np.random.default_rng(0).normal(size=(1, *size)).astype(np.float32)
    seen = made().extract(image, voxels(size), np.random.default_rng(0))
    assert seen.points.shape == (np.prod(size), 4) and [len(p) for p in seen.pooled] == [1, 1, 2]
    np.testing.assert_allclose(seen.points[:, 0], image.ravel(), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 12, 16), (5, 9, 13)])
@pytest.mark.parametrize("whole", [2**22, 8**3])
def test_projection_is_the_model_at_every_voxel(size, whole):
    image = np.random.default_rng(0).normal(size=(1, *size)).astype(np.float32)
    encoder = made(whole_image=whole)
    model = LinearModel(torch.randn(3, 4), torch.randn(3))
    points = encoder.extract(image, voxels(size), np.random.default_rng(0)).points
    expected = model(points).T.reshape(3, *size)
    torch.testing.assert_close(encoder.project(image, model), expected, atol=1e-4, rtol=1e-4)


def test_tiles_agree_with_the_whole_image_where_features_are_local():
    """A ramp, which averaging and interpolation keep: tiles must leave no seam."""
    size = (20, 24, 28)
    image = np.indices(size)[1][None].astype(np.float32)
    model = LinearModel(torch.tensor([[1.0, 0, 0, 0]]), torch.zeros(1))
    torch.testing.assert_close(made(whole_image=8**3).project(image, model)[0], torch.from_numpy(image[0]))


def test_a_2d_encoder_reads_slices():
    size = (3, 9, 13)
    image = np.random.default_rng(0).normal(size=(1, *size)).astype(np.float32)
    points = voxels(size)[np.random.default_rng(1).permutation(np.prod(size))]
    encoder = made(2)
    seen = encoder.extract(image, points, np.random.default_rng(0))
    np.testing.assert_allclose(seen.points[:, 0], image[0][tuple(points.T)], atol=1e-5)
    projected = encoder.project(image, LinearModel(torch.tensor([[1.0, 0, 0, 0]]), torch.zeros(1)))
    np.testing.assert_allclose(projected[0], image[0], atol=1e-5)


def test_chosen_stages():
    image = np.zeros((1, 8, 8, 8), np.float32)
    rng = np.random.default_rng(0)
    assert made(stages=[-1]).extract(image, voxels((2, 2, 2)), rng).points.shape == (8, 2)
    assert made(stages=[0, 1]).extract(image, voxels((2, 2, 2)), rng).points.shape == (8, 2)
    with pytest.raises(ValueError, match="stage 3: this encoder has 3 stages, 0 to 2"):
        made(stages=[3]).extract(image, voxels((2, 2, 2)), rng)


def test_encoders(pretrained_file):
    pretrained = Pretrained.read(pretrained_file)
    trained, untrained, permuted = (pretrained.encoder(encoder_name, 0).state_dict() for encoder_name in ENCODERS)
    content = pretraining.read(pretrained_file)["network_weights"]
    name = "stages.0.convs.0.conv1.all_modules.0.weight"
    assert torch.equal(trained[name], content[f"encoder.{name}"])
    assert not torch.equal(untrained[name], trained[name]) and not torch.equal(permuted[name], trained[name])
    assert torch.equal(permuted[name].flatten().sort().values, trained[name].flatten().sort().values)
    assert torch.equal(pretrained.encoder("untrained", 0).state_dict()[name], untrained[name])
    assert not torch.equal(pretrained.encoder("untrained", 1).state_dict()[name], untrained[name])


def test_weights_of_another_network(pretrained_file, tmp_path):
    content = pretraining.read(pretrained_file)
    content["network_weights"].pop("encoder.stages.0.convs.0.conv1.all_modules.0.weight")
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="do not fit XLSTMUNet.*Missing key"):
        Pretrained.read(tmp_path / "other.pth").encoder("trained", 0)
    content["network_weights"] = {}
    torch.save(content, tmp_path / "none.pth")
    with pytest.raises(ValueError, match="no part named `encoder`"):
        Pretrained.read(tmp_path / "none.pth")
