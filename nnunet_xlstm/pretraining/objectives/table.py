"""The table of objectives: a new one is a file and a row. The key `<name>_weight` turns a row on."""

from __future__ import annotations

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.pretraining.objectives.base import Objective
from nnunet_xlstm.pretraining.objectives.dense import DenseObjective
from nnunet_xlstm.pretraining.objectives.dino import DINOObjective
from nnunet_xlstm.pretraining.objectives.koleo import KoLeoObjective
from nnunet_xlstm.pretraining.objectives.masked import MaskedObjective
from nnunet_xlstm.pretraining.objectives.mse import MSEObjective

OBJECTIVES: dict[str, type[Objective]] = {
    "dino": DINOObjective,
    "mse": MSEObjective,
    "koleo": KoLeoObjective,
    "dense": DenseObjective,
    "masked": MaskedObjective,
}


def active_weights(config: PretrainingConfig) -> dict[str, float]:
    """Return name -> weight of the objectives with a weight above 0.

    Raises:
        ConfigError: if there is none.
    """
    weights = {name: float(getattr(config, f"{name}_weight")) for name in OBJECTIVES}
    weights = {name: weight for name, weight in weights.items() if weight > 0}
    if not weights:
        keys = ", ".join(f"{name}_weight" for name in OBJECTIVES)
        raise ConfigError(f"all weights are 0, so there is nothing to learn; set one of {keys} above 0")
    return weights
