import pydoc

import pytest
import torch
from torch import nn

from nnunet_xlstm.networks.build import build_network
from nnunet_xlstm.networks.cost import count_cost
from nnunet_xlstm.networks.presets import PRESETS, XLSTM_UNET

PATCHES = {"3d": (16, 24, 16), "2d": (16, 24), "anisotropic": (6, 32, 32)}
STRIDES = {"anisotropic": [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2)]}
# The counts of the full-size presets are in test_cost.py; here every one is built small.
SMALL = {name: row for name, row in PRESETS.items() if row.base_features <= 16}


@pytest.mark.parametrize("case", PATCHES)
@pytest.mark.parametrize("preset", SMALL)
def test_contract(preset, case):
    """What nnU-Net needs of a network, for every preset and dimension."""
    network = build_network(preset, PATCHES[case], 2, 3, deep_supervision=True, strides=STRIDES.get(case))
    x = torch.randn(2, 2, *PATCHES[case])
    outputs = network(x)
    assert isinstance(outputs, list)
    strides = STRIDES.get(case) or [(1,) * x[0, 0].ndim] + [(2,) * x[0, 0].ndim] * len(outputs)
    size = torch.tensor(PATCHES[case])
    for stride, output in zip(strides, outputs, strict=False):
        size = size // torch.tensor(stride)
        assert output.shape == (2, 3, *size.tolist())
    sum(o.square().mean() for o in outputs).backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not unused
    network.decoder.deep_supervision = False
    with torch.no_grad():
        assert torch.allclose(network(x), outputs[0], atol=1e-5)
    assert network.get_submodule(network.key_to_encoder) and network.get_submodule(network.key_to_stem)


@pytest.mark.parametrize("preset", [name for name in SMALL if name != "small_plain"])
def test_state_dict_holds_each_weight_once(preset):
    network = build_network(preset, (16, 16, 16))
    state = network.state_dict()
    assert len({t.data_ptr() for t in state.values()}) == len(state)
    assert sum(t.numel() for t in state.values()) == sum(p.numel() for p in network.parameters())
    assert not [key for key in state if key.startswith("decoder.encoder")]
    heads = [key for key in state if ".seg_layers." in key]
    assert heads and all(key.startswith("decoder.seg_layers.") for key in heads)


def test_keys_to_in_proj_are_all_that_depends_on_the_image_channels():
    one, two = (build_network("tiny", (16, 16, 16), channels).state_dict() for channels in (1, 2))
    differing = {key.rsplit(".", 1)[0] for key in one if one[key].shape != two[key].shape}
    from nnunet_xlstm.networks import XLSTMUNet

    assert differing == set(XLSTMUNet.keys_to_in_proj)


def test_same_weights_on_any_patch():
    network = build_network("small", (96, 96, 96))
    reference = network.state_dict()
    for patch in [(128, 128, 128), (40, 56, 72), (24, 40, 56)]:
        build_network("small", patch).load_state_dict(reference)
    with torch.no_grad():
        for patch in [(24, 24, 24), (8, 40, 24), (40, 8, 56)]:
            assert torch.isfinite(network(torch.randn(1, 1, *patch))).all()


@pytest.mark.parametrize("preset", [name for name in SMALL if SMALL[name].network_class == XLSTM_UNET])
@pytest.mark.parametrize("case", PATCHES)
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_feature_map_size_equals_what_runs(preset, case, deep_supervision):
    """Arithmetic against hooks: all convolutions outside the xLSTM, plus the blocks' own count."""
    network = build_network(preset, PATCHES[case], deep_supervision=deep_supervision, strides=STRIDES.get(case))
    written = 0

    def add(module, inputs, output):
        nonlocal written
        written += output[0].numel()

    xlstm = 0
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)) and ".xlstm." not in name:
            module.register_forward_hook(add)
    for stage in network.encoder.stages:
        for block in stage.xlstm:
            block.register_forward_hook(
                lambda m, i, o: sizes.append((m, o[0, 0].numel())),
            )
    sizes = []
    with torch.no_grad():
        network(torch.randn(1, 1, *PATCHES[case]))
    xlstm = sum(block.activation_elements(voxels) for block, voxels in sizes)
    assert network.compute_conv_feature_map_size(PATCHES[case]) == written + xlstm


def test_feature_map_size_allocates_nothing():
    with torch.device("meta"):
        network = build_network("large", (128, 128, 128))
    assert network.compute_conv_feature_map_size((128, 128, 128)) > 1e9


def test_ablation_differs_in_the_xlstm_only():
    full, ablation = (build_network(name, (16, 16, 16)).state_dict() for name in ("small", "small_no_xlstm"))
    assert {k: v.shape for k, v in ablation.items()} == {k: v.shape for k, v in full.items() if ".xlstm." not in k}
    assert any(".xlstm." in key for key in full)


def test_shuffled_control_has_the_same_parameters():
    full, shuffled = (build_network(name, (16, 16, 16)).state_dict() for name in ("small", "small_shuffled"))
    assert {k: v.shape for k, v in full.items()} == {k: v.shape for k, v in shuffled.items()}


def test_initialize_touches_convolutions_only():
    network = build_network("tiny", (16, 16, 16))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.apply(network.initialize)
    convolutions = {n for n, m in network.named_modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d))}
    changed = {k.rsplit(".", 1)[0] for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and changed <= convolutions


def test_found_by_dotted_path_as_nnunet_does():
    assert pydoc.locate("nnunet_xlstm.networks.XLSTMUNet").__name__ == "XLSTMUNet"


@pytest.mark.slow
@pytest.mark.parametrize("edge", [96, 128])
def test_runs_on_full_size_patches(edge):
    """The same weights on 96^3 and 128^3: 216 and 512 tokens at the bottleneck, thousands in `small`'s stage 2."""
    network = build_network("tiny", (32, 32, 32)).eval()
    with torch.no_grad():
        y = network(torch.randn(1, 1, edge, edge, edge))
    assert y.shape == (1, 8, edge, edge, edge) and torch.isfinite(y).all()
    network = build_network("small", (32, 32, 32)).eval()
    with torch.no_grad():
        assert torch.isfinite(network(torch.randn(1, 1, edge // 2, edge, edge))).all()


@pytest.mark.parametrize(
    "preset, patches", [("small", [(16, 16, 16), (8, 24, 16)]), ("tiny", [(32, 32), (24, 40)])], ids=["3d", "2d"]
)
def test_compiles_without_graph_breaks_and_agrees(preset, patches):
    network = build_network(preset, patches[0]).eval()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for patch in patches:
            x = torch.randn(1, 1, *patch)
            assert torch.allclose(compiled(x), network(x), atol=1e-4)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 1e-2), (torch.bfloat16, 5e-2)])
def test_close_to_float32_under_autocast(dtype, tolerance):
    network = build_network("small", (16, 16, 16)).eval()
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        expected = network(x)
        with torch.autocast("cpu", dtype=dtype):
            y = network(x)
    assert y.dtype == dtype and torch.isfinite(y).all()
    assert (y.float() - expected).norm() < tolerance * expected.norm()


def test_channel_tokens_only_on_request():
    kwargs = {"xlstm_from_stage": -1}
    plain = build_network("tiny", (16, 16, 16))
    assert not [n for n, m in plain.named_modules() if type(m).__name__ == "ChannelTokens"]
    from nnunet_xlstm.networks import XLSTMUNet

    network = XLSTMUNet(
        1, 3, (8, 16, 32), nn.Conv3d, 3, [1, 2, 2], 2, 1, n_conv_per_stage=1, channel_token_patch=(8, 8, 8), **kwargs
    )
    assert network(torch.randn(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)
    with pytest.raises(ValueError, match="channel tokens were built for"):
        network(torch.randn(1, 1, 16, 8, 8))


def test_errors_say_what_was_given_the_rule_and_the_fix():
    network = build_network("tiny", (16, 16, 16), input_channels=1)
    with pytest.raises(ValueError, match=r"\(16, 20, 16\): axis 1 is not divisible by 8, .* use 16 or 24"):
        build_network("tiny", (16, 20, 16), strides=[(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)])
    with pytest.raises(ValueError, match="axis 2 is not divisible by 4, the product of its strides; use 4 or 8"):
        network(torch.randn(1, 1, 16, 16, 6))
    with pytest.raises(ValueError, match="image with 2 channels: the network was built for 1"):
        network(torch.randn(1, 2, 16, 16, 16))
    with pytest.raises(ValueError, match="preset 'huge' is unknown; use one of tiny"):
        build_network("huge", (16, 16, 16))
    from nnunet_xlstm.networks import XLSTMUNet

    common = (1, 3, (8, 16, 32), nn.Conv3d, 3, [1, 2, 2], 2, 1)
    for wrong, match in [
        ({}, "needs one of n_conv_per_stage"),
        ({"n_conv_per_stage": [1, 1]}, "2 entries for 3 stages"),
        ({"n_conv_per_stage": 1, "xlstm_from_stage": 3}, "stages 0 to 2"),
        ({"n_conv_per_stage": 1, "xlstm_block": "gru"}, "use vil or segsync"),
        ({"n_conv_per_stage": 1, "scan_mode": "both"}, "use parallel or alternate"),
        ({"n_conv_per_stage": 1, "xlstm_block": "segsync", "xlstm_kwargs": {"conv": "dw"}}, "'conv' is unknown to"),
    ]:
        with pytest.raises(ValueError, match=match):
            XLSTMUNet(*common, **wrong)


def test_lists_of_the_plans_are_not_changed():
    blocks = [1, 1, 1]
    from nnunet_xlstm.networks import XLSTMUNet

    XLSTMUNet(1, 3, (8, 16, 32), nn.Conv3d, 3, [1, 2, 2], 2, [1, 1], n_conv_per_stage=blocks)
    assert blocks == [1, 1, 1]


def test_a_small_network_counts_the_same_fake_and_real():
    cost = count_cost(lambda: build_network("tiny", (16, 16, 16)), (1, 1, 16, 16, 16))
    network = build_network("tiny", (16, 16, 16))
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(1, 1, 16, 16, 16))
    assert cost.params == sum(p.numel() for p in network.parameters())
    assert cost.macs == counter.get_total_flops() // 2
