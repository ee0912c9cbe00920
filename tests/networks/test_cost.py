"""Counts of the full-size presets, by fake tensors."""

from pathlib import Path

import pytest
import torch
from torch import nn

from nnunet_xlstm.networks.build import build_network
from nnunet_xlstm.networks.cost import count_cost, measure
from nnunet_xlstm.networks.presets import PRESETS

PATCH = (128, 128, 128)


def test_hand_counted_convolution():
    cost = count_cost(lambda: nn.Conv3d(2, 3, 3, padding=1), (1, 2, 4, 5, 6))
    assert cost.params == 2 * 3 * 27 + 3
    assert cost.macs == 2 * 3 * 27 * 4 * 5 * 6
    assert cost.activations == 2 * 4 * 5 * 6  # the input is kept, the weights are not counted
    assert cost.activation_bytes == 4 * cost.activations


def rows_of_the_docs() -> dict[str, tuple[str, str]]:
    """Preset -> parameters in millions and GMAC, as docs/reference/presets.md has them."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "presets.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): (row[-2].removesuffix(" M"), row[-1]) for row in rows}


def test_the_docs_have_every_preset():
    assert set(rows_of_the_docs()) == {name for name, row in PRESETS.items() if row.control_of is None}


@pytest.mark.slow
@pytest.mark.parametrize("preset", rows_of_the_docs())
def test_counts_of_the_docs(preset):
    """As `nnunet_xlstm cost` counts; heartseg_30m is the published size."""
    millions, gmac = rows_of_the_docs()[preset]
    patch, classes = PRESETS[preset].patch_3d or PATCH, 30 if PRESETS[preset].patch_3d else 8
    cost = count_cost(lambda: build_network(preset, patch, 1, classes), (1, 1, *patch))
    for text, value in ((millions, cost.params / 1e6), (gmac, cost.macs / 1e9)):
        decimals = len(text.partition(".")[2])
        assert f"{value:.{decimals}f}" == text


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
