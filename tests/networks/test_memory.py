"""The estimate of training's memory, against bytes counted on fake CUDA tensors."""

from collections.abc import Callable

import pytest
import torch
from support.fake_gpu import needs_fake_gpu
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunet_xlstm.networks.build import build_network
from nnunet_xlstm.networks.memory import KEPT_BYTES, estimate_memory
from nnunet_xlstm.networks.presets import PRESETS

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def kept_for_backward(module: nn.Module, run: Callable[[], object]) -> int:
    """Bytes that a forward pass saves, each storage once, without parameters."""
    parameters = {p.untyped_storage()._cdata for p in module.parameters()}
    saved = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            saved[storage._cdata] = (storage, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = run()  # noqa: F841 (a graph that is let go lets its tensors go)
    return sum(nbytes for _, nbytes in saved.values())


def counted(preset: str, patch: tuple[int, ...], precision: str) -> int:
    """Of one image, on a fake GPU."""
    with FakeTensorMode(), torch.device("cuda"):
        network = build_network(preset, patch, 1, 8).train()
        x = torch.empty(1, 1, *patch)
        try:
            if AUTOCAST[precision] is not None:  # torch.autocast turns itself off where there is no GPU
                torch.set_autocast_dtype("cuda", AUTOCAST[precision])
                torch.set_autocast_enabled("cuda", True)
            return kept_for_backward(network, lambda: network(x))
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", torch.float16)
            torch.clear_autocast_cache()


@needs_fake_gpu
@pytest.mark.parametrize("precision", KEPT_BYTES)
@pytest.mark.parametrize("preset", ["small", "tsfm_b", "tsfm_1p6b"])
def test_bytes_kept_per_element(preset, precision):
    patch = PRESETS[preset].patch_3d or (96, 96, 96)
    with torch.device("meta"):
        network = build_network(preset, patch, 1, 8)
    again = PRESETS[preset].arch_kwargs.get("recompute", False)
    estimate = network.compute_conv_feature_map_size(patch) * KEPT_BYTES[precision][again]
    # in fp16, TSFM alone makes its sums in fp32: others keep a third less
    assert 0.9 < estimate / counted(preset, patch, precision) < 1.4


def test_parts_by_hand():
    """A network of one convolution: 2 * 3 * 27 + 3 = 165 parameters of 4 bytes; 4 x 4 x 4 voxels, 3 classes."""

    class Network(nn.Conv3d):
        def compute_conv_feature_map_size(self, size):
            return 3 * size[0] * size[1] * size[2]

    memory = estimate_memory(Network(2, 3, 3), (4, 4, 4), 2, 3, optimizer_states=2)
    assert (memory.weights, memory.gradients, memory.optimizer, memory.casts) == (660, 660, 1320, 330)
    assert memory.activations == 2 * 3 * 64 * 4
    assert memory.loss == int(2 * 64 * 3 * 16 * 8 / 7)
    assert memory.total == memory.parameters + 330 + memory.activations + memory.loss
    alone = estimate_memory(Network(2, 3, 3), (4, 4, 4), 2, 3, precision="fp32", self_supervised=True)
    assert alone.weights == 2 * 660 and alone.casts == alone.loss == 0  # a teacher, no masks
    assert alone.activations == int(2 * 3 * 64 * 7.4 * 1.35)


def test_the_largest_does_not_fit_40_gb():
    with torch.device("meta"):
        network = build_network("tsfm_1p6b", (112, 160, 192), 1, 30)
    memory = estimate_memory(network, (112, 160, 192), 2, 30)
    assert memory.parameters / 1e9 == pytest.approx(18.8, abs=0.1)
    assert 40e9 < memory.total < 48e9
    network.decoder.recompute = False
    for module in network.modules():
        if hasattr(module, "recompute"):
            module.recompute = False
    assert estimate_memory(network, (112, 160, 192), 2, 30).total > 70e9
    assert "training needs about 43.9 GB (weights, gradients and optimizer 18.8" in str(memory)


def test_nnunets_own_networks_are_estimated_too():
    with torch.device("meta"):
        network = build_network("small_plain", (64, 64, 64))
    assert estimate_memory(network, (64, 64, 64), 2, 8).total > 0


def test_pretraining_keeps_no_more_than_estimated():
    """Real tensors: the recipe that keeps most, one student's views against the network trained with masks."""
    from nnunet_xlstm.config.pretraining import PretrainingConfig
    from nnunet_xlstm.pretraining.student_teacher import StudentTeacher
    from nnunet_xlstm.pretraining.views import ViewBatch

    edge, images = 32, 2
    method = StudentTeacher(build_network("small", (edge,) * 3).encoder, 1, (edge,) * 3, PretrainingConfig())
    method.set_step(0, 100, 10)
    boxes = torch.tensor([[0.0, 0.7]] * 3).repeat(images, 2, 1, 1)
    views = ViewBatch(torch.randn(images, 2, 1, *(edge,) * 3), boxes, torch.zeros(images, 2, 3, dtype=torch.bool))
    network = build_network("small", (edge,) * 3, deep_supervision=True)
    kept = (
        kept_for_backward(method, lambda: method(views)),
        kept_for_backward(network, lambda: network(views.global_views[:, 0])),
    )
    assert kept[0] < 1.5 * kept[1]  # heads weigh more beside small maps


def test_errors():
    with pytest.raises(ValueError, match="precision 'int8' is unknown; use bf16, fp16, fp32"):
        estimate_memory(nn.Identity(), (4, 4, 4), 1, 2, precision="int8")
    with pytest.raises(ValueError, match="Identity does not tell the size of its feature maps"):
        estimate_memory(nn.Identity(), (4, 4, 4), 1, 2)
