"""Which tensors are whose, in networks of ours, of nnU-Net and of nnssl."""

import pytest
import torch
from dynamic_network_architectures.architectures.primus import Primus
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_xlstm.networks import XLSTMUNet
from nnunet_xlstm.networks.encoder_stages import EncoderStages, named_once

COMMON = {
    "input_channels": 2,
    "n_stages": 3,
    "features_per_stage": [4, 8, 8],
    "conv_op": nn.Conv3d,
    "kernel_sizes": 3,
    "strides": [1, 2, 2],
    "num_classes": 2,
    "n_conv_per_stage_decoder": 1,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"affine": True},
}
NETWORKS = {
    "ours": lambda: XLSTMUNet(n_conv_per_stage=1, **COMMON),
    "plain": lambda: PlainConvUNet(n_conv_per_stage=1, nonlin=nn.ReLU, **COMMON),
    "residual": lambda: ResidualEncoderUNet(n_blocks_per_stage=1, nonlin=nn.ReLU, **COMMON),
    "primus": lambda: Primus(2, 24, (4, 4, 4), 2, eva_depth=2, eva_numheads=2, input_shape=(8, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_has_one_name_and_one_part(name):
    network = NETWORKS[name]()
    stages = EncoderStages.of(network)
    tensors = named_once(network)
    assert len({id(t) for t, _ in tensors.values()}) == len(tensors)
    assert {id(t) for t, _ in tensors.values()} == {id(t) for t in network.state_dict(keep_vars=True).values()}
    encoder = {"ours": "encoder.", "plain": "encoder.", "residual": "encoder."}.get(name, ("eva.", "down_projection."))
    for tensor_name in tensors:
        assert (stages.index(tensor_name) is not None) == tensor_name.startswith(encoder), tensor_name
    assert {stages.index(n) for n in tensors} == {None, *range(len(stages.prefixes))}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layers_that_see_the_image(name):
    network = NETWORKS[name]()
    stages = EncoderStages.of(network)
    seen = [tensor for n, (tensor, names) in named_once(network).items() if any(map(stages.is_input, names))]
    assert seen and all(tensor.shape[1] == 2 for tensor in seen)
    assert len(seen) == (2 if name == "ours" else 1)  # ours: also the stem's shortcut


def test_parts_from_the_image_inwards():
    labels = [p for p in EncoderStages.of(NETWORKS["ours"]()).prefixes]
    assert labels == ["encoder.stem.", "encoder.stages.0.", "encoder.stages.1.", "encoder.stages.2."]
    assert EncoderStages.of(NETWORKS["plain"]()).prefixes[0] == "encoder.stages.0."
    primus = EncoderStages.of(NETWORKS["primus"]())
    assert primus.prefixes == ("down_projection.", "eva.blocks.0.", "eva.blocks.1.")
    assert primus.index("eva.pos_embed") == 0 and primus.label("up_projection.x") == "decoder"


def test_a_network_without_an_encoder():
    with pytest.raises(ValueError, match="has no module named encoder.stages"):
        EncoderStages.of(torch.nn.Linear(2, 2))
