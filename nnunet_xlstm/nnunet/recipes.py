"""The recipe of a trainer by its name."""

import importlib

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.names import TRAINERS


def load_recipe(name: str):
    """The recipe (an instance of a config class) of one of our trainers.

    Raises:
        ValueError: not one of ours.
    """
    if name not in TRAINERS:
        raise ConfigError(f"{name} is not a trainer of this package; use one of {', '.join(TRAINERS)}")
    return getattr(importlib.import_module(TRAINERS[name]), name).recipe


def nnunet_finds(name: str) -> bool:
    """Return whether `nnUNetv2_train -tr` knows a trainer of this name."""
    try:
        recursive_find_trainer_class_by_name(name)
    except RuntimeError:
        return False
    return True
