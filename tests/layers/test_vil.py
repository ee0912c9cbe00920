import pytest
import torch

from nnunet_xlstm.layers import vil
from nnunet_xlstm.layers.mlstm import mlstm_recurrent
from nnunet_xlstm.layers.scan import resolve_orders
from nnunet_xlstm.layers.segsync import SegSyncBlock
from nnunet_xlstm.layers.vil import BlockDiagonal, ChannelTokens, ViLBlock


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("dim, expected", [(128, 109_448), (256, 415_496), (320, 642_248), (512, 1_617_416)])
def test_parameter_count_of_version_1(dim, expected):
    block = ViLBlock(dim, 3, ("dhw+",), conv="causal1d")
    assert count(block) == expected == 6 * dim**2 + 87 * dim + 8


def test_initial_values():
    block = ViLBlock(256, 3, ("dhw+",))
    cell = block.mlstm[0]
    assert block.proj_up.weight.std().item() == pytest.approx((2 / (5 * 256)) ** 0.5, rel=0.05)
    assert block.proj_down.weight.std().item() == pytest.approx(2 / 16, rel=0.05)
    assert cell.fgate.bias.tolist() == [3, 4, 5, 6]
    assert not cell.fgate.weight.any() and not cell.igate.weight.any()


def test_block_diagonal_equals_a_dense_matrix():
    layer = BlockDiagonal(8, 4).double()
    torch.nn.init.normal_(layer.weight)
    dense = torch.block_diag(*layer.weight)
    x = torch.randn(3, 5, 8).double()
    assert torch.allclose(layer(x), x @ dense)


def test_vil_block_equals_the_equations_token_by_token():
    """One direction, no convolution, one head: y = W_down((GN(mLSTM) + s * c) * SiLU(z)) written out."""
    block = ViLBlock(4, 2, ("hw+",), n_heads=1, conv="none").double()
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.5)
    x = torch.randn(1, 4, 2, 3).double()
    tokens = x.flatten(2).transpose(1, 2)
    normed = torch.nn.functional.layer_norm(tokens, (4,), 1 + block.norm.weight, None, 1e-5)
    up = normed @ block.proj_up.weight.T
    values, z = up[..., :8], up[..., 8:]
    c = torch.nn.functional.silu(values)
    cell = block.mlstm[0]
    q, k, v = cell.q_proj(c), cell.k_proj(c), cell.v_proj(values)
    qkv = torch.cat((q, k, v), -1)
    h = mlstm_recurrent(q[:, None], k[:, None], v[:, None], cell.igate(qkv).mT, cell.fgate(qkv).mT)[:, 0]
    h = torch.nn.functional.layer_norm(h, (8,), eps=1e-5) * (1 + cell.norm_weight)
    y = ((h + block.skip * c) * torch.nn.functional.silu(z)) @ block.proj_down.weight.T
    expected = x + y.transpose(1, 2).view_as(x)
    assert torch.allclose(block(x), expected, atol=1e-10)


@pytest.mark.parametrize("kind", [ViLBlock, SegSyncBlock])
@pytest.mark.parametrize("orders, sees", [("forward", False), ("reverse", True), ("pair", True), ("shuffled", True)])
def test_which_tokens_the_first_one_sees(kind, orders, sees):
    """With a forward scan the first token cannot depend on the last one; with a reverse or a pair it must."""
    kwargs = {"conv": "none"} if kind is ViLBlock else {}
    block = kind(8, 3, resolve_orders(orders, 3), **kwargs).double()
    if kind is SegSyncBlock:
        block.conv = torch.nn.Identity()  # its instance norm sees all tokens
    x = torch.randn(1, 8, 2, 3, 2).double().requires_grad_()
    (gradient,) = torch.autograd.grad(block(x)[0, :, 0, 0, 0].sum(), x)
    assert bool(gradient[0, :, -1, -1, -1].abs().max() > 1e-12) == sees


def test_shared_pair_equals_the_sum_of_two_scans():
    pair = ViLBlock(8, 3, ("dhw+", "dhw-"), share_weights=True).double()
    one = {s: ViLBlock(8, 3, (f"dhw{s}",)).double() for s in "+-"}
    for block in one.values():
        block.load_state_dict(pair.state_dict())
    x = torch.randn(2, 8, 3, 2, 4).double()
    inputs = (torch.randn(2, 3, 2, 4, 16).double(), torch.randn(2, 3, 2, 4, 16).double())
    for cell in (pair.mlstm[0], one["+"].mlstm[0], one["-"].mlstm[0]):
        cell.norm_weight.data.zero_()
    raw = {}
    for name, block in (("pair", pair), *one.items()):
        original, vil.F.layer_norm = vil.F.layer_norm, lambda h, *a, **k: h
        try:
            raw[name] = block.mlstm[0](*inputs)
        finally:
            vil.F.layer_norm = original
    assert torch.allclose(raw["pair"], raw["+"] + raw["-"], atol=1e-12)
    assert pair(x).shape == x.shape


def test_separate_weights_double_the_cell():
    shared, separate = (ViLBlock(8, 3, ("dhw+", "dhw-"), share_weights=s) for s in (True, False))
    assert count(separate) - count(shared) == count(shared.mlstm)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [ViLBlock, SegSyncBlock])
def test_safe_under_autocast(dtype, kind):
    block = kind(16, 3, ("dhw+", "dhw-"))
    x = 30 * torch.randn(1, 16, 4, 6, 5)
    expected = block(x)
    with torch.autocast("cpu", dtype=dtype):
        y = block(x.to(dtype))
    assert y.dtype == dtype and torch.isfinite(y).all()
    assert (y.float() - expected).norm() / expected.norm() < 2e-2


@pytest.mark.parametrize("kind", [ViLBlock, SegSyncBlock])
@pytest.mark.parametrize("share_weights", [True, False])
def test_every_parameter_gets_a_gradient(kind, share_weights):
    block = kind(8, 2, resolve_orders("pair", 2), share_weights=share_weights)
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.3)
    block(torch.randn(1, 8, 3, 4)).square().sum().backward()
    assert [n for n, p in block.named_parameters() if p.grad is None or not p.grad.any()] in (
        [],
        ["conv.0.bias"],  # SegSync's instance norm removes the bias of the convolution before it
    )


@pytest.mark.parametrize("merge, extra", [("mul", 0), ("add", 0), ("concat", 16 * 8)])
def test_segsync_merges(merge, extra):
    block = SegSyncBlock(8, 3, ("dhw-",), merge=merge)
    assert block(torch.randn(1, 8, 2, 2, 2)).shape == (1, 8, 2, 2, 2)
    assert count(block) == count(SegSyncBlock(8, 3, ("dhw-",))) + extra


def test_channel_tokens_fit_one_grid():
    block = ChannelTokens(10, (3, 3, 3), ("dhw+", "dhw-"))
    x = torch.randn(2, 10, 3, 3, 3)
    assert block(x).shape == x.shape
    with pytest.raises(ValueError, match="fit no other size"):
        block(torch.randn(2, 10, 3, 3, 4))


def test_errors_name_the_choices():
    with pytest.raises(ValueError, match="use dw, causal1d or none"):
        ViLBlock(8, 3, ("dhw+",), conv="dense")
    with pytest.raises(ValueError, match="use mul, add or concat"):
        SegSyncBlock(8, 3, ("dhw+",), merge="max")
    with pytest.raises(ValueError, match=r"n_heads 5 does not divide 16, .*\['n_heads'\] to one of 1, 2,"):
        ViLBlock(8, 3, ("dhw+",), n_heads=5)
    with pytest.raises(ValueError, match="qkv_block 3 does not divide 16"):
        SegSyncBlock(8, 3, ("dhw+",), qkv_block=3)


@pytest.mark.parametrize("share_weights", [True, False])
@pytest.mark.parametrize("kind, kwargs", [(ViLBlock, {}), (ViLBlock, {"conv": "none"}), (SegSyncBlock, {})])
def test_activation_elements_are_what_the_layers_write(kind, kwargs, share_weights, monkeypatch):
    """By hooks on the projections and convolutions, and on what goes into and comes out of the cell."""
    block = kind(8, 3, ("dhw+", "dhw-"), share_weights=share_weights, **kwargs)
    written = 0

    def add(*tensors):
        nonlocal written
        written += sum(t.numel() for t in tensors)

    original = vil.mlstm

    def cell(q, k, v, igate, fgate, **settings):
        h = original(q, k, v, igate, fgate, **settings)
        add(q, k, v, h)
        return h

    monkeypatch.setattr(vil, "mlstm", cell)
    for name, module in block.named_modules():
        gate = name.endswith(("igate", "fgate"))  # NH numbers a token: left out
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv3d, BlockDiagonal)) and not gate:
            module.register_forward_hook(lambda module, inputs, output: add(output))
    block(torch.randn(1, 8, 2, 3, 4))
    assert block.activation_elements(2 * 3 * 4) == written
