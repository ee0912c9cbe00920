"""Settings that a study gives to its trainers: how long a run is, a seed, and the keys of study and variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_xlstm.config import PoolConfig, SegmentationConfig, override
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.training.run_config import load_recipe, nnunet_finds
from nnunet_xlstm.registry import TRAINERS
from nnunet_xlstm.studies.request import Variant

SHORTEST_EPOCH = 10  # iterations; every epoch costs a validation
EPOCH_KEYS = ("num_epochs", "num_iterations_per_epoch")


def schedule(
    length: str, variants: Sequence[Variant], config: Mapping[str, Any], asked: int | None
) -> tuple[int | None, int | None]:
    """Return the iterations of every run, and of an epoch; None where something else decides (`Study.length`).

    Args:
        length: of the kind.
        variants: all of the study.
        config: keys of all trainers.
        asked: iterations; None takes those of the trainers' recipes.

    Raises:
        ConfigError: the recipes differ, or the iterations make no whole epochs.
    """
    if length == "recipe" and asked is None:
        return None, None
    recipes = {variant.name: _recipe_of(variant) for variant in variants}
    epochs = {n: config.get("num_iterations_per_epoch", r.num_iterations_per_epoch) for n, r in recipes.items()}
    if length == "epochs":
        if len(set(epochs.values())) > 1:
            raise ConfigError(
                f"the trainers of the variants take {epochs} iterations per epoch; give the same number for all: "
                "num_iterations_per_epoch in --config"
            )
        return None, next(iter(epochs.values()))
    totals = {name: recipe.num_epochs * epochs[name] for name, recipe in recipes.items()}
    if asked is None and len(set(totals.values())) > 1:
        raise ConfigError(f"the trainers of the variants take {totals} iterations; give --iterations, the same for all")
    iterations, epoch = asked or next(iter(totals.values())), next(iter(epochs.values()))
    fitting = math.gcd(iterations, epoch)
    if fitting < min(SHORTEST_EPOCH, iterations):
        raise ConfigError(
            f"--iterations {iterations} with {epoch} per epoch would make epochs of {fitting}; give a multiple of 50, "
            "or num_iterations_per_epoch in --config"
        )
    return iterations, fitting


def trainer_config(
    variant: Variant, config: Mapping[str, Any], length: tuple[int, int] | None, seed: int
) -> dict[str, Any]:
    """Return the keys of one run: what its trainer reads from nnUNet_xlstm_config.

    Args:
        variant: of the run.
        config: of the study.
        length: epochs and iterations per epoch; None leaves both to the recipe.
        seed: of the run.

    Raises:
        ConfigError: a key that the trainer does not know, or that the study sets itself.
    """
    if length is None and not config and not variant.config and variant.trainer not in TRAINERS:
        if nnunet_finds(variant.trainer):
            return {}  # it reads no keys and no seed
        raise ConfigError(f"variant '{variant.name}': neither this package nor nnU-Net has a trainer {variant.trainer}")
    recipe = _recipe_of(variant)
    for where, keys, own in (
        ("config", config, ("seed", *(EPOCH_KEYS[:1] if length else ()))),
        (f"config of variant '{variant.name}'", variant.config, ("seed", *(EPOCH_KEYS if length else ()))),
    ):
        if taken := [key for key in own if key in keys]:
            raise ConfigError(
                f"{where}: {taken[0]} is the same for all variants; use --iterations and --seeds, or --epochs, instead"
            )
    values = {**config, **variant.config, "seed": seed}
    if length is not None:  # and nothing depends on the pseudo-Dice
        values = {"num_val_iterations_per_epoch": 1} | values | dict(zip(EPOCH_KEYS, length, strict=True))
    used = override(recipe, values, f"config of variant '{variant.name}' ({variant.trainer})")
    stage = getattr(used, "decoder_epochs", 0)  # the recipes of fine-tuning trainers are made for longer runs
    if stage >= used.num_epochs:
        raise ConfigError(
            f"variant '{variant.name}': {variant.trainer} trains the decoder alone for {stage} epochs, and a run has "
            f"{used.num_epochs} of {used.num_iterations_per_epoch} iterations; set decoder_epochs in the variant's "
            "config (a preset), or smaller epochs (num_iterations_per_epoch in --config)"
        )
    return values


def trains_on_pools(variant: Variant) -> bool:
    """Return whether the variant's trainer is one for pools."""
    return variant.trainer in TRAINERS and isinstance(load_recipe(variant.trainer), PoolConfig)


def _recipe_of(variant: Variant) -> SegmentationConfig:
    """Return the recipe of the variant's trainer, which must be ours and train with labels."""
    fix = (
        "the plans decide the network, so use one of ours over them, such as "
        f"{variant.name}:nnUNetTrainerXLSTMUNet@{variant.plans}"
    )
    if variant.trainer not in TRAINERS:
        raise ConfigError(
            f"variant '{variant.name}': {variant.trainer} does not read the iterations, keys and seed that a study "
            f"sets; {fix} (ours: {', '.join(TRAINERS)})"
        )
    recipe = load_recipe(variant.trainer)
    if not isinstance(recipe, SegmentationConfig):
        raise ConfigError(f"variant '{variant.name}': {variant.trainer} trains without labels; {fix}")
    return recipe
