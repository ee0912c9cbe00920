"""Whether fake tensors can lie on a GPU that is not there: torch 2.6 cannot, and builds without CUDA cannot."""

import functools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F


@functools.cache
def _works() -> bool:
    try:
        with FakeTensorMode(), torch.device("cuda"):
            F.instance_norm(torch.empty(1, 2, 2, requires_grad=True))[..., -1].cumsum(-1)
    except (RuntimeError, AssertionError):  # AssertionError: "Torch not compiled with CUDA enabled"
        return False
    return True


needs_fake_gpu = pytest.mark.skipif(not _works(), reason="this torch cannot fake a GPU on a machine without one")
