# nnunet_xlstm shim: put here by `nnunet_xlstm register`, taken out by `nnunet_xlstm register --remove`.
"""Lets nnU-Net find the trainers and planners of nnunet_xlstm by name (module `__getattr__`, PEP 562).

nnU-Net imports every module of this folder and asks each for the class name. This one answers only for names of
nnunet_xlstm, and imports nothing heavy before it is asked for one: with the plugin absent or broken, stock trainers
and planners are found as if this file were not here. The folder that ships it also serves as `nnUNet_extTrainer`.
"""

import importlib
import warnings


def __getattr__(name):
    module = None if name.startswith("_") else _table().get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:
        # nnU-Net asks with hasattr, which would turn this into a mere "not found".
        raise ImportError(f"{module}, which should define {name}, is broken: {error}") from error


def _table():
    """Class name -> module of everything that nnunet_xlstm offers; empty if it is not installed."""
    try:
        from nnunet_xlstm.registry import PLANNERS, TRAINERS
    except Exception as error:  # whatever is wrong with the plugin must not reach a stock look-up
        if not (isinstance(error, ModuleNotFoundError) and error.name == "nnunet_xlstm"):
            warnings.warn(f"nnunet_xlstm is broken, its classes will not be found: {error!r}", stacklevel=2)
        return {}
    return {**TRAINERS, **PLANNERS}
