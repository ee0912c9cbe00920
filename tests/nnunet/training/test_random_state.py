"""Random states through a file, and back."""

import random

import numpy as np
import pytest
import torch

from nnunet_xlstm.nnunet.training.random_state import random_state, restore_random_state


@pytest.mark.parametrize("old", [False, True])
def test_random_state_round_trip(tmp_path, old):
    """Through a file of tensors and plain types; older checkpoints hold NumPy's state as NumPy gives it."""
    torch.save(random_state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    if old:
        state["numpy"] = np.random.get_state()
    draw = lambda: (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: E731
    first = draw()
    restore_random_state(state)
    assert draw() == first
