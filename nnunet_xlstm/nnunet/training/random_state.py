"""States of the random generators of a run: saved, restored, seeded."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import distributed as dist


def random_state() -> dict:
    """Return the states of the random generators of Python, NumPy and torch (CPU and CUDA).

    In plain types and tensors: `adapt` reads no others from a checkpoint without --allow-pickle.
    """
    state = np.random.get_state()
    assert isinstance(state, tuple)  # a dictionary only if asked for
    name, keys, *rest = state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict) -> None:
    """Restore what `random_state` returned; CUDA states are restored where the number of devices is the same."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))  # a checkpoint may hold lists
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.asarray(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])


def random_states() -> list[dict]:
    """Return `random_state` of every rank, by rank; all ranks must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return [random_state()]
    states: list = [None] * dist.get_world_size()
    dist.all_gather_object(states, random_state())
    return states


def restore_random_states(states: Sequence[dict], rank: int) -> None:
    """Go on drawing where this rank stopped. A rank without a state of its own gets another stream than all others."""
    if states:
        restore_random_state(states[min(rank, len(states) - 1)])
    if rank >= max(len(states), 1):
        seed_everything(int(torch.randint(2**31 - 1, ())), rank)


def seed_everything(*entropy: int) -> None:
    """Seed Python, NumPy and torch from one or more numbers, such as seed, epoch and rank."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
