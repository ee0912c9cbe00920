"""Networks outside training: exported, traced, in half precision, in fp16 beyond its range, against the eager fp32."""

import copy
import importlib.util

import pytest
import torch
from torch import nn

from nnunet_xlstm.layers import chunkwise
from nnunet_xlstm.layers.amp import in_range, wide
from nnunet_xlstm.layers.residual import ResidualBlock
from nnunet_xlstm.networks import TSFM, XLSTMUNet

SETTINGS = {
    "conv_bias": True,
    "norm_op_kwargs": {"affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
}
VIT = {"dim": 6, "layers": 2, "heads": 2}


def network_of(kind: str, depth: int = 1) -> tuple[nn.Module, torch.Tensor]:
    """An untrained network in eval mode, its parameters as training leaves them (they want gradients), and an image."""
    torch.manual_seed(0)
    dim = 2 if kind == "2d" else 3
    patch = (48, 48) if dim == 2 else (16, 16, 16)  # 576 and 512 tokens at the bottleneck: several chunks
    conv, norm = ((nn.Conv2d, nn.InstanceNorm2d), (nn.Conv3d, nn.InstanceNorm3d))[dim - 2]
    common = {
        "conv_op": conv,
        "norm_op": norm,
        "kernel_sizes": 3,
        "num_classes": 2,
        "n_conv_per_stage": depth,
        **SETTINGS,
    }
    if kind == "tsfm":
        network = TSFM(
            1, 3, (4, 8, 8), strides=[1, 2, 2], n_conv_per_stage_decoder=1, vit=VIT, vit_grid=[4] * 3, **common
        )
    else:
        own = {
            "vil": {},
            "2d": {"scan_orders": "six", "scan_mode": "alternate", "xlstm_kwargs": {"snake": True, "conv": "causal1d"}},
            "segsync": {"scan_orders": "shuffled", "xlstm_block": "segsync", "xlstm_kwargs": {"merge": "concat"}},
        }[kind]
        network = XLSTMUNet(1, 2, (4, 8), strides=[1, 2], n_conv_per_stage_decoder=1, **common, **own)
    network.apply(network.initialize)
    return network.eval(), torch.randn(1, 1, *patch)


knows_that_it_exports = pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="torch below 2.7 does not say that it exports"
)
KINDS = ("vil", "2d", "segsync", "tsfm")


def eager(network, x):
    with torch.no_grad():
        return network(x)


@knows_that_it_exports
@pytest.mark.parametrize("kind", KINDS)
def test_torch_export_equals_eager(kind):
    network, x = network_of(kind)
    exported = torch.export.export(network, (x,)).module()
    torch.testing.assert_close(exported(x), eager(network, x))
    other = torch.randn_like(x)
    torch.testing.assert_close(exported(other), eager(network, other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_jit_trace_equals_eager(kind):
    network, x = network_of(kind)
    traced = torch.jit.trace(network, x, check_trace=False)
    other = torch.randn_like(x)
    torch.testing.assert_close(traced(other), eager(network, other), rtol=1e-4, atol=1e-5)


@knows_that_it_exports
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vil", "tsfm"])
def test_onnx_equals_eager(kind, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install onnx onnxscript onnxruntime")
    import onnxruntime

    network, x = network_of(kind)
    torch.onnx.export(network, (x,), tmp_path / "network.onnx", dynamo=True)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    other = torch.randn_like(x)
    (y,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), eager(network, other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
def test_half_precision_copies_run_on_a_cpu(kind, dtype, tolerance):
    network, x = network_of(kind)
    expected = eager(network, x)
    y = eager(copy.deepcopy(network).to(dtype), x.to(dtype))
    assert y.dtype == dtype and torch.isfinite(y).all()
    assert (y.float() - expected).norm() < tolerance * expected.norm()


def test_the_autograd_function_is_for_gradients_only(monkeypatch):
    network, x = network_of("vil")
    calls = []
    apply = chunkwise.ChunkwiseMLSTM.apply
    monkeypatch.setattr(chunkwise.ChunkwiseMLSTM, "apply", lambda *a: calls.append(1) or apply(*a))
    expected = eager(network, x)
    assert not calls
    y = network(x)
    assert calls and y.requires_grad
    assert torch.equal(y, expected)


# ---- fp16, whose largest number is 65504


def test_sums_of_preactivation_blocks_pass_the_range_of_fp16():
    """Each convolution stays in range, their sum does not; the maps after it are those of fp32."""
    torch.manual_seed(0)
    common = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "dropout_op": None, "dropout_op_kwargs": None}
    blocks = nn.Sequential(*(ResidualBlock("preact", 4, 4, (3,) * 3, (1,) * 3, **common, **SETTINGS) for _ in range(8)))
    x = torch.randn(1, 4, 8, 8, 8)
    largest = []
    with torch.no_grad():
        for block in blocks:
            block.conv2.weight.abs_()  # terms of one sign add up
            block.conv2.weight.mul_(2e4 / block.conv2(block.nonlin(block.norm2(block.conv1(x)))).abs().max())
            block.conv2.register_forward_hook(lambda module, args, y: largest.append(y.abs().max().item()))
        expected = blocks(x)
        assert max(largest) < 65504 < expected.abs().max()
        with torch.autocast("cpu", dtype=torch.float16):
            y = blocks(x.half())
    assert (y - expected).norm() < 1e-2 * expected.norm()


def test_tsfm_predicts_in_fp16_what_it_predicts_in_fp32():
    """Through the convolutions that no norm precedes: upsampling, the transformer's tokens, the heads."""
    network, x = network_of("tsfm", depth=4)
    largest = {"convolution": 0.0, "sum": 0.0}

    def watch(name):
        return lambda module, args, y: largest.update({name: max(largest[name], y.abs().max().item())})

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, ResidualBlock):
                module.conv2.weight.abs_().mul_(2e3)
                module.conv2.register_forward_hook(watch("convolution"))
                module.register_forward_hook(watch("sum"))
        expected = network(x)
        assert largest["convolution"] < 65504 < largest["sum"]
        with torch.autocast("cpu", dtype=torch.float16):
            y = network(x)
    assert (y.float() - expected).norm() < 1e-2 * expected.norm()


def test_only_autocast_to_fp16_is_widened():
    x = torch.ones(2)
    layer = nn.Linear(2, 2)
    assert wide(x.half()).dtype == torch.float16  # a half-precision copy has no autocast to narrow it again
    for dtype, kept, made in (
        (torch.float16, torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
    ):
        with torch.autocast("cpu", dtype=dtype):
            assert wide(x.to(dtype)).dtype == kept
            assert in_range(layer, x).dtype == made
            assert in_range(layer, x.to(dtype)).dtype == dtype
