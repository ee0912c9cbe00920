"""Whether fake tensors can lie on a GPU that is not there."""

import pytest
import torch

# A probe would end the process: torch 2.6 aborts, 2.14 can. Builds without CUDA have no such device.
_recent = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 10)
_works = torch.backends.cuda.is_built() and (_recent or torch.cuda.is_available())
needs_fake_gpu = pytest.mark.skipif(not _works, reason="this torch cannot fake a GPU on a machine without one")
