"""The type of autocast on CUDA, asked for on a machine without one."""

from contextlib import nullcontext

import pytest
import torch

from nnunet_xlstm.nnunet.training.precision import Precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def set_types(monkeypatch):
    """The types that autocast on CUDA was set to."""
    types = []
    monkeypatch.setattr(torch, "set_autocast_dtype", lambda kind, dtype: types.append((kind, dtype)))
    return types


@pytest.mark.parametrize(
    ("key", "has_bf16", "name", "dtype"),
    [
        ("auto", True, "bf16", torch.bfloat16),
        ("auto", False, "fp16", torch.float16),
        ("bf16", False, "bf16", torch.bfloat16),
        ("fp32", True, "fp32", torch.float32),
    ],
)
def test_types_and_scaling(monkeypatch, set_types, key, has_bf16, name, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    scaler = torch.amp.GradScaler("cpu")
    precision = Precision(key, CUDA)
    assert precision.name == name
    assert precision.begin(scaler) is (scaler if name == "fp16" else None)
    precision.end()
    assert set_types == [("cuda", dtype), ("cuda", torch.float16)]


def test_nothing_changes_on_a_cpu(set_types):
    precision = Precision("bf16", CPU)
    assert precision.begin(None) is None and isinstance(precision.autocast(), nullcontext)
    precision.end()
    assert set_types == []
