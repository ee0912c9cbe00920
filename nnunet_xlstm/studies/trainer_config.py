"""What the trainers of a study get: the same number of iterations, a seed, and the keys of study and arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_xlstm.config import override
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.names import TRAINERS
from nnunet_xlstm.nnunet.recipes import load_recipe
from nnunet_xlstm.pretraining.config import PretrainingConfig
from nnunet_xlstm.studies.request import Arm

OWN_KEYS = ("num_epochs", "seed")  # the study sets them
SHORTEST_EPOCH = 10  # iterations; every epoch costs a validation


def schedule(arms: Sequence[Arm], config: Mapping[str, Any], asked: int | None) -> tuple[int, int]:
    """Iterations of every run and of an epoch.

    Args:
        asked: iterations; None takes those of the trainers' recipes.

    Raises:
        ValueError: the recipes differ, or the iterations make no whole epochs.
    """
    recipes = {arm.name: _recipe(arm) for arm in arms}
    epochs = {n: config.get("num_iterations_per_epoch", r.num_iterations_per_epoch) for n, r in recipes.items()}
    totals = {name: recipe.num_epochs * epochs[name] for name, recipe in recipes.items()}
    if asked is None and len(set(totals.values())) > 1:
        raise ConfigError(f"the trainers of the arms take {totals} iterations; give --iterations, the same for all")
    iterations, epoch = asked or next(iter(totals.values())), next(iter(epochs.values()))
    fitting = math.gcd(iterations, epoch)
    if fitting < min(SHORTEST_EPOCH, iterations):
        raise ConfigError(
            f"--iterations {iterations} with {epoch} per epoch would make epochs of {fitting}; give a multiple of 50, "
            "or num_iterations_per_epoch in --config"
        )
    return iterations, fitting


def trainer_config(arm: Arm, config: Mapping[str, Any], iterations: int, epoch: int, seed: int) -> dict[str, Any]:
    """The keys of one run: what its trainer reads from nnUNet_xlstm_config.

    Args:
        config: of the study. epoch: iterations of an epoch.

    Raises:
        ValueError: a key that the trainer does not know, or that the study sets itself.
    """
    for where, keys, own in (
        ("config", config, OWN_KEYS),
        (f"config of arm '{arm.name}'", arm.config, (*OWN_KEYS, "num_iterations_per_epoch")),
    ):
        if taken := [key for key in own if key in keys]:
            raise ConfigError(f"{where}: {taken[0]} is the same for all arms; use --iterations and --seeds instead")
    values = {"num_val_iterations_per_epoch": 1, **config, **arm.config}  # nothing depends on the pseudo-Dice
    values |= {"num_epochs": iterations // epoch, "num_iterations_per_epoch": epoch, "seed": seed}
    used = override(_recipe(arm), values, f"config of arm '{arm.name}' ({arm.trainer})")
    stage = getattr(used, "decoder_epochs", 0)  # the recipes of fine-tuning trainers are made for longer runs
    if stage >= used.num_epochs:
        raise ConfigError(
            f"arm '{arm.name}': {arm.trainer} trains the decoder alone for {stage} epochs, and a run has "
            f"{used.num_epochs} of {epoch} iterations; set decoder_epochs in the arm's config (a preset), or smaller "
            "epochs (num_iterations_per_epoch in --config)"
        )
    return values


def _recipe(arm: Arm):
    """The recipe of the arm's trainer, which must be ours and train with labels."""
    fix = (
        "the plans decide the network, so use one of ours over them, such as "
        f"{arm.name}:nnUNetTrainerXLSTMUNet@{arm.plans}"
    )
    if arm.trainer not in TRAINERS:
        raise ConfigError(
            f"arm '{arm.name}': {arm.trainer} does not read the iterations and the seed that a study sets; {fix} "
            f"(ours: {', '.join(TRAINERS)})"
        )
    recipe = load_recipe(arm.trainer)
    if isinstance(recipe, PretrainingConfig):
        raise ConfigError(f"arm '{arm.name}': {arm.trainer} trains without labels; {fix}")
    return recipe
