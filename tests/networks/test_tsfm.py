"""TSFM: counts, the transformer on any grid, blocks by hand, activation checkpointing."""

import pytest
import torch
from torch import nn

from nnunet_xlstm.layers.residual import ResidualBlock
from nnunet_xlstm.layers.transformer import TransformerBlock, ViT, resize_grid
from nnunet_xlstm.networks import TSFM
from nnunet_xlstm.networks.build import build_network, default_strides
from nnunet_xlstm.networks.cost import count_cost, count_parameters
from nnunet_xlstm.networks.presets import PRESETS, TSFM_PATCH, arch_kwargs_for

PATCHES = {"3d": (16, 24, 16), "2d": (16, 24), "anisotropic": (6, 32, 32)}
STRIDES = {"anisotropic": [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2)]}
SETTINGS = {
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
}
BLOCK = SETTINGS | {"conv_op": nn.Conv3d, "dropout_op": None, "dropout_op_kwargs": None}


def toy(**kwargs):
    """Three stages, four tokens per axis on 16^3."""
    defaults = {"n_conv_per_stage": 2, "vit": {"dim": 12, "layers": 2, "heads": 3}, "vit_grid": [4, 4, 4]}
    network = TSFM(1, 3, (4, 8, 8), nn.Conv3d, 3, [1, 2, 2], 2, 2, **SETTINGS | defaults | kwargs)
    network.apply(network.initialize)
    return network


SHALLOW = {"n_conv_per_stage": 1, "vit": {"dim": 6, "layers": 1, "heads": 2}}  # torch.compile takes long


def stunet(base, depth):
    """Of 105 outputs on six stages: what the authors of STU-Net count."""
    return TSFM(
        1,
        6,
        [base * f for f in (1, 2, 4, 8, 16, 16)],
        nn.Conv3d,
        3,
        default_strides((128, 128, 128)),
        105,
        depth,
        n_conv_per_stage=depth,
        block="post",
        stem=False,
        **SETTINGS,
    )


@pytest.mark.parametrize("base, depth, millions", [(16, 1, 14.60), (32, 1, 58.26), (64, 2, 440.30), (96, 3, 1457.33)])
def test_published_counts_of_stunet(base, depth, millions):
    with torch.device("meta"):
        network = stunet(base, depth)
    assert count_parameters(network) / 1e6 == pytest.approx(millions, abs=5e-3)


@pytest.mark.parametrize(
    "preset, millions", [("tsfm_s", 20.0), ("tsfm_b", 80.0), ("tsfm_l", 334), ("tsfm_1p6b", 1568.6)]
)
def test_counts_of_the_sizes(preset, millions):
    with torch.device("meta"):
        network = build_network(preset, TSFM_PATCH, 1, 30)
    assert count_parameters(network) / 1e6 == pytest.approx(millions, rel=5e-3)


def test_the_largest_is_counted_without_allocation():
    cost = count_cost(lambda: build_network("tsfm_1p6b", TSFM_PATCH, 1, 30), (1, 1, *TSFM_PATCH))
    assert cost.params / 1e6 == pytest.approx(1568.6, abs=0.1)
    assert cost.macs / 1e9 == pytest.approx(12681, abs=1)
    assert cost.outputs / 1e9 == pytest.approx(5.70, abs=5e-3)


def test_tokens_of_the_published_patch():
    row = PRESETS["tsfm_b"]
    stock = {"n_stages": 7, "kernel_sizes": [(3, 3, 3)] * 7, "strides": [(1, 1, 1)] + [(2, 2, 2)] * 5 + [(2, 1, 1)]}
    kwargs = arch_kwargs_for(row, stock, TSFM_PATCH)
    assert kwargs["vit_grid"] == [7, 5, 6]
    # 112 is halved four times, whatever the plan would do with another patch; a stage that is left no stride goes
    assert kwargs["strides"] == [[1, 1, 1], *[[2, 2, 2]] * 4, [1, 2, 2]] and kwargs["n_stages"] == 6
    assert kwargs["features_per_stage"] == [32, 64, 128, 256, 512, 512]
    assert "vit_grid" not in arch_kwargs_for(PRESETS["tsfm_b_novit"], stock, TSFM_PATCH)
    flat = {"n_stages": 8, "kernel_sizes": [(3, 3)] * 8, "strides": [(1, 1)] + [(2, 2)] * 7}
    assert arch_kwargs_for(row, flat, (512, 384))["vit_grid"] == [16, 12]


@pytest.mark.parametrize("preset", ["tsfm_s", "tsfm_s_novit"])
@pytest.mark.parametrize("case", PATCHES)
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_feature_map_size_equals_what_runs(preset, case, deep_supervision):
    """Arithmetic against hooks: all convolutions and linear layers."""
    network = build_network(preset, PATCHES[case], deep_supervision=deep_supervision, strides=STRIDES.get(case))
    written = 0

    def add(module, inputs, output):
        nonlocal written
        written += output.numel()

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            module.register_forward_hook(add)
    with torch.no_grad():
        network(torch.randn(1, 1, *PATCHES[case]))
    assert network.compute_conv_feature_map_size(PATCHES[case]) == written


def test_keys_to_in_proj_are_all_that_depends_on_the_image_channels():
    for stem in (True, False):
        one, two = (
            TSFM(c, 2, (4, 8), nn.Conv3d, 3, [1, 2], 2, 1, n_conv_per_stage=1, stem=stem, block="post", **SETTINGS)
            for c in (1, 2)
        )
        shapes = two.state_dict()
        differing = {k.rsplit(".", 1)[0] for k, v in one.state_dict().items() if v.shape != shapes[k].shape}
        assert differing == set(one.keys_to_in_proj)


def test_ablation_is_the_same_network_without_the_transformer():
    full, ablation = (build_network(name, (16, 16, 16)) for name in ("tsfm_s", "tsfm_s_novit"))
    shared = {k: v for k, v in full.state_dict().items() if ".vit." not in k}
    assert len(shared) < len(full.state_dict())
    ablation.load_state_dict(shared)
    vit = full.encoder.stages[-1].vit
    nn.init.zeros_(vit.out.weight)  # a transformer that adds nothing
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(full(x), ablation(x))


# ---- the transformer


def test_transformer_block_equals_torch():
    ours = TransformerBlock(12, 3)
    theirs = nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True)
    attention = theirs.self_attn
    for mine, parts in (
        (ours.qkv, (attention.in_proj_weight, attention.in_proj_bias)),
        (ours.proj, (attention.out_proj.weight, attention.out_proj.bias)),
        (ours.mlp[0], (theirs.linear1.weight, theirs.linear1.bias)),
        (ours.mlp[2], (theirs.linear2.weight, theirs.linear2.bias)),
    ):
        mine.load_state_dict({"weight": parts[0], "bias": parts[1]})
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x), theirs(x))


def test_attention_is_counted():
    cost = count_cost(lambda: TransformerBlock(12, 3), (1, 5, 12))
    assert cost.macs == 5 * 12 * 12 * 12 + 2 * 5 * 5 * 12


def test_position_decides_where_a_token_is():
    vit = ViT(4, 6, 1, 2, (2, 3))
    assert vit.position.shape == (1, 6, 2, 3)
    nn.init.normal_(vit.position)
    x = torch.ones(1, 4, 2, 3)
    y = vit(x)
    assert y.shape == x.shape and y.flatten(2).std(2).min() > 0
    nn.init.zeros_(vit.position)
    y = vit(x)
    torch.testing.assert_close(y, y[..., :1, :1].expand_as(y))


@pytest.mark.parametrize("size", [(2, 2, 2), (4, 6, 3), (1, 5, 2)])
def test_any_grid(size):
    vit = ViT(4, 6, 1, 2, (4, 3, 2))
    other = ViT(4, 6, 1, 2, size)
    weights = vit.state_dict() | {"position": resize_grid(vit.position, size)}
    other.load_state_dict(weights)
    x = torch.randn(1, 4, *size)
    torch.testing.assert_close(vit(x), other(x))


def test_resized_grid_by_hand():
    ramp = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, 1, 4, 2, 2)
    wide = resize_grid(ramp, (8, 2, 1))
    assert wide[0, 0, :, 0, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]
    assert resize_grid(ramp, (4, 2, 2)) is ramp


def test_same_weights_on_odd_patches():
    network = toy().eval()
    with torch.no_grad():
        for patch in [(16, 16, 16), (12, 20, 28), (4, 36, 8)]:
            y = network(torch.randn(1, 1, *patch))
            assert y.shape == (1, 2, *patch) and torch.isfinite(y).all()


# ---- blocks


@pytest.mark.parametrize("kind", ["preact", "post_noact", "post"])
@pytest.mark.parametrize("channels, stride", [(3, (1, 1, 1)), (5, (1, 2, 2)), (3, (2, 1, 1))])
def test_blocks_by_their_formulas(kind, channels, stride):
    block = ResidualBlock(kind, 3, channels, (1, 3, 3), stride, **BLOCK)
    x = torch.randn(2, 3, 4, 6, 6)
    act = nn.functional.leaky_relu
    changes = channels != 3 or max(stride) > 1
    assert (block.shortcut is not None) == changes
    start = act(block.norm1(x)) if kind == "preact" else x
    shortcut = block.shortcut(start) if changes else x
    if kind == "preact":
        expected = block.conv2(act(block.norm2(block.conv1(start)))) + shortcut
    else:
        inner = block.norm2(block.conv2(act(block.norm1(block.conv1(x)))))
        expected = act(inner + shortcut) if kind == "post" else act(inner) + shortcut
    given = x.clone()
    torch.testing.assert_close(block(given), expected)
    assert torch.equal(given, x)  # activations in place must not reach the input


# ---- running


def test_compiles_without_graph_breaks_and_agrees():
    network = toy(**SHALLOW).eval()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        for patch in [(16, 16, 16), (8, 24, 16)]:
            x = torch.randn(1, 1, *patch)
            assert torch.allclose(compiled(x), network(x), atol=1e-4)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 1e-2), (torch.bfloat16, 5e-2)])
def test_close_to_float32_under_autocast(dtype, tolerance):
    network = toy().eval()
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        expected = network(x)
        with torch.autocast("cpu", dtype=dtype):
            y = network(x)
    assert torch.isfinite(y).all() and (y.float() - expected).norm() < tolerance * expected.norm()


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_recomputed_activations_give_the_same_gradients_from_less_memory(compiled):
    depth = SHALLOW if compiled else {}
    networks = [toy(recompute=recompute, deep_supervision=True, **depth) for recompute in (False, True)]
    networks[1].load_state_dict(networks[0].state_dict())
    x = torch.randn(2, 1, 16, 16, 16)
    kept = []

    def keep(tensor):
        kept[-1] += tensor.numel()
        return tensor

    for network in networks:
        kept.append(0)
        forward = torch.compile(network, backend="eager") if compiled and network is networks[1] else network
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = sum(y.square().mean() for y in forward(x))
        loss.backward()
    for (name, p), q in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    assert compiled or kept[1] < 0.3 * kept[0]


def test_the_count_of_activations_is_without_recomputing():
    plain, again = (count_cost(lambda r=r: toy(recompute=r), (1, 1, 16, 16, 16)) for r in (False, True))
    assert plain == again


def test_errors_say_what_was_given_the_rule_and_the_fix():
    for wrong, match in [
        ({"vit": {"dim": 10, "layers": 1, "heads": 3}}, "3 heads do not divide dim 10"),
        ({"vit": {"dim": 10}}, "give dim, layers, heads and no other keys"),
        ({"vit_grid": None}, "vit_grid None: give the tokens per axis of the planned patch, 3 numbers"),
        ({"vit_grid": [4, 4]}, "3 numbers"),
        ({"block": "dense"}, "block 'dense' is unknown; use preact, post_noact, post"),
        ({"norm_op": None}, "need norm_op and nonlin"),
        ({"n_conv_per_stage": [1]}, "1 entries for 3 stages"),
        ({"n_blocks_per_stage": 1}, "needs one of"),
    ]:
        with pytest.raises(ValueError, match=match):
            toy(**wrong)
    with pytest.raises(ValueError, match="axis 1 is not divisible by 4"):
        toy()(torch.randn(1, 1, 16, 18, 16))
    with pytest.raises(ValueError, match="image with 2 channels"):
        toy()(torch.randn(1, 2, 16, 16, 16))
