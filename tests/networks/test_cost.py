"""Counts of the full-size presets, by fake tensors: `method.md`'s table."""

import pytest
import torch
from torch import nn

from nnunet_xlstm.networks.build import build_network
from nnunet_xlstm.networks.cost import count_cost, measure

PATCH = (128, 128, 128)


def cost_of(preset):
    return count_cost(lambda: build_network(preset, PATCH, 1, 8), (1, 1, *PATCH))


def test_hand_counted_convolution():
    cost = count_cost(lambda: nn.Conv3d(2, 3, 3, padding=1), (1, 2, 4, 5, 6))
    assert cost.params == 2 * 3 * 27 + 3
    assert cost.macs == 2 * 3 * 27 * 4 * 5 * 6
    assert cost.activations == 2 * 4 * 5 * 6  # the input is kept, the weights are not counted
    assert cost.activation_bytes == 4 * cost.activations


def test_heartseg_30m_is_the_published_size():
    cost = cost_of("heartseg_30m")
    assert cost.params / 1e6 == pytest.approx(30.93, abs=0.02)
    assert cost.macs / 1e9 == pytest.approx(605, rel=0.01)


def test_heartseg_bi_adds_one_block():
    cost = cost_of("heartseg_bi")
    assert cost.params / 1e6 == pytest.approx(31.6, abs=0.03)


def test_planner_estimate_of_heartseg_is_the_published_activation_count():
    with torch.device("meta"):
        network = build_network("heartseg_30m", PATCH)
    assert network.compute_conv_feature_map_size(PATCH) / 1e6 == pytest.approx(843, abs=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_holds_weights_input_and_output():
    found = measure(lambda: nn.Linear(1000, 2000, bias=False), (500, 1000), 2, "cuda")
    assert found.peak_bytes >= 4 * (1000 * 2000 + 500 * 1000 + 500 * 2000)


def test_peak_memory_is_of_the_passes_that_count(monkeypatch):
    """What a GPU would be asked, in order."""
    calls = []

    class Network(nn.Module):
        def to(self, device):
            return self

        def forward(self, x):
            calls.append("run")

    randn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda shape, device: randn(shape))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 10 if calls[-1] == "wait" else None)
    assert measure(Network, (1, 1), 2, "cuda").peak_bytes == 10
    assert calls == ["run", "wait", "run", "wait", "reset", "run", "wait", "run", "wait"]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["enc", "large"])
def test_largest_presets_are_counted_without_memory(preset):
    assert cost_of(preset).params > 30e6
