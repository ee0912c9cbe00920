"""Memory and reads on the device."""

import numpy as np
import pytest
import torch

from nnunet_xlstm.layers.device import read_scalars, use_channels_last_on_cpu


@pytest.mark.parametrize(("conv", "n_axes"), [(torch.nn.Conv2d, 2), (torch.nn.Conv3d, 3)])
def test_weights_are_channels_last_on_a_cpu_alone(conv, n_axes):
    layer = conv(2, 3, 3)
    use_channels_last_on_cpu(layer, torch.device("cuda"), n_axes)
    assert layer.weight.is_contiguous()
    use_channels_last_on_cpu(layer, torch.device("cpu"), n_axes)
    assert layer.weight.stride(1) == 1 and not layer.weight.is_contiguous()


def test_scalars_of_all_kinds_become_numbers():
    assert read_scalars([torch.tensor(0.5), torch.tensor(1.5)]) == [0.5, 1.5]
    assert read_scalars([np.float32(0.5), 2.0]) == [0.5, 2.0]
