"""The presets of 3D-SegSync, at few features."""

import dataclasses

import pytest
import torch

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.layers.segsync import SegSyncBlock
from nnunet_xlstm.networks import presets
from nnunet_xlstm.networks.build import build_network

NAMES = ["segsync", "segsync_no_xlstm", "segsync_bi", "segsync_bi_no_xlstm"]
PATCHES = {"2d": (16, 24), "3d": (16, 16, 24), "anisotropic": (4, 16, 16)}


@pytest.fixture(autouse=True)
def few_features(monkeypatch):
    for name in NAMES:
        row = presets.PRESETS[name]
        small = dataclasses.replace(row, base_features=4, max_features_2d=16, max_features_3d=16, max_stages=3)
        monkeypatch.setitem(presets.PRESETS, name, small)


def blocks(network):
    return [m for m in network.modules() if isinstance(m, SegSyncBlock)]


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_brings_what_its_block_needs(name, patch):
    network = build_network(name, patch, 2, 3, deep_supervision=True)
    outputs = network(torch.randn(1, 2, *patch))
    assert outputs[0].shape == (1, 3, *patch)
    sum(o.square().mean() for o in outputs).backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None]
    (block,) = blocks(network)
    assert block is network.encoder.stages[-1].xlstm[0]


def test_to_the_letter_a_token_sees_later_ones_alone_and_both_ways_all():
    for name, seen in (("segsync", {"last"}), ("segsync_bi", {"first", "last"})):
        (block,) = blocks(build_network(name, (16, 16, 16)))
        block.conv = torch.nn.Identity()
        with torch.no_grad():
            for scan in block.mlstm:
                scan.fgate.bias.fill_(20.0)  # forgets nothing
        x = torch.randn(1, 16, 4, 4, 4)
        changed = {"first": x.clone(), "last": x.clone()}
        changed["first"][..., 0, 0, 0] += torch.randn(16)
        changed["last"][..., -1, -1, -1] += torch.randn(16)
        found = set()
        y = block(x)
        if not torch.equal(block(changed["last"])[..., 0, 0, 0], y[..., 0, 0, 0]):
            found.add("last")
        if not torch.equal(block(changed["first"])[..., -1, -1, -1], y[..., -1, -1, -1]):
            found.add("first")
        assert found == seen, name


def test_the_control_differs_by_the_xlstm_alone():
    full, control = (build_network(name, (16, 16, 16)).state_dict() for name in ("segsync", "segsync_no_xlstm"))
    assert control.keys() < full.keys()
    left_out = {name.split(".xlstm.0.")[1].split(".")[0] for name in full.keys() - control.keys()}
    assert left_out == {"norm", "gate_proj", "cell_proj", "mlstm", "proj_down"}
    (block,) = blocks(build_network("segsync_no_xlstm", (16, 16, 16)))
    x = torch.randn(1, 16, 4, 4, 4)
    assert torch.equal(block(x), block.conv(x))
    assert block.activation_elements(64) == 64 * 16  # one convolution


@pytest.mark.parametrize(
    "preset, foreign, sentence",
    [
        ("segsync", "conv", "xlstm_kwargs 'conv' is unknown to the block 'segsync'; use share_weights, .*merge"),
        ("tiny", "merge", "xlstm_kwargs 'merge' is unknown to the block 'vil'; use share_weights, .*conv"),
    ],
)
def test_keys_of_the_other_block_are_refused(preset, foreign, sentence, monkeypatch):
    row = presets.PRESETS[preset]
    kwargs = row.arch_kwargs | {"xlstm_kwargs": row.arch_kwargs["xlstm_kwargs"] | {foreign: "none"}}
    monkeypatch.setitem(presets.PRESETS, preset, dataclasses.replace(row, arch_kwargs=kwargs))
    with pytest.raises(ConfigError, match=sentence):
        build_network(preset, (16, 16, 16))


def test_channels_as_tokens_go_with_the_vil_block_alone(monkeypatch):
    row = presets.PRESETS["segsync"]
    kwargs = row.arch_kwargs | {"channel_token_patch": [16, 16, 16]}
    monkeypatch.setitem(presets.PRESETS, "segsync", dataclasses.replace(row, arch_kwargs=kwargs))
    with pytest.raises(ConfigError, match="goes with the block 'vil'"):
        build_network("segsync", (16, 16, 16))
