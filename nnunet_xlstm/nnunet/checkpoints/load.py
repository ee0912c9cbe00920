"""Reading checkpoint files without running what they hold."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_xlstm.errors import CheckpointError

NUMBERS = "efdbhilqBHILQ?"  # NumPy's codes of real numbers and truth values
MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # in files of NumPy 1 and 2
FOREIGN = re.compile("unsupported (global|class)|unrecognized function", re.IGNORECASE)  # in torch's refusals


class HoldsObjects(CheckpointError):
    """A checkpoint holds objects other than tensors, numbers, text and containers of them."""


def load_checkpoint(path: Path, *, allow_pickle: bool = False, mmap: bool = False, fix: str = "") -> Any:
    """Return the content of a checkpoint file, with its tensors on the CPU.

    Tensors, Python's plain types and NumPy's numbers and arrays are read; other objects only with `allow_pickle`,
    because unpickling them can run any code.

    Args:
        path: of the file.
        allow_pickle: also unpickle other objects.
        mmap: leave the tensors in the file until they are used.
        fix: what the user can do about other objects.

    Raises:
        HoldsObjects: the file holds other objects.
        CheckpointError: there is no such file, or it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a checkpoint (.pth)")
    try:
        with torch.serialization.safe_globals(_numpy_types()), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the pickle protocol of files that are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if not FOREIGN.search(str(error)):  # torch raises this also for what is no file of its own
            raise _unreadable(path) from error
        if not allow_pickle:
            raise HoldsObjects(
                f"{path}: holds objects besides tensors and plain types, and unpickling them can run any code{fix}"
            ) from error
    except Exception as error:  # a damaged or foreign pickle can raise anything
        raise _unreadable(path) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False, mmap=mmap)
    except Exception as error:  # as above; torch's own text advises to trust the file
        raise _unreadable(path) from error


def _unreadable(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: not a readable checkpoint: cut off, damaged, or not made by torch.save; copy it "
                           "again, or take another one")  # fmt: skip


def _numpy_types() -> list:
    """Return the types of NumPy numbers and arrays, which nnU-Net's own checkpoints hold."""
    multiarray = (getattr(np, "_core", None) or np.core).multiarray
    kinds = {type(np.dtype(code)) for code in NUMBERS}
    makers = [_named(f, module) for f in (multiarray.scalar, multiarray._reconstruct) for module in MULTIARRAY]
    return [np.dtype, np.ndarray, *makers, *kinds]


def _named(function: Callable, module: str) -> Callable:
    """Return the function under the name of a module: torch compares names."""

    def call(*args):
        return function(*args)

    call.__module__, call.__qualname__ = module, function.__name__
    return call
