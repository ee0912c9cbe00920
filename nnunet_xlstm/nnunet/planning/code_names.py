"""Names in plans and checkpoints that stand for code, and which of them may be imported.

Plans name a network and some of its arguments by dotted path, and nnU-Net imports whatever they say: a file could run
any function that is installed, or that lies in the working directory. Here every name is resolved before nnU-Net sees
the plans. A network, or an argument that names a class, must be a subclass of `torch.nn.Module` that is defined in one
of a few packages; other packages need `--allow-import`. What nnU-Net finds by a bare name (preprocessor,
normalization, resampling, label manager) must be of nnU-Net's own kind.
"""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dynamic_network_architectures
import nnunetv2
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ImageNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import nn

from nnunet_xlstm import networks
from nnunet_xlstm.errors import CheckpointError

DNA = "dynamic_network_architectures"
NETWORK_PACKAGES = (networks.__name__, DNA, "nnunetv2")
ARGUMENT_PACKAGES = ("torch.nn", DNA, "timm.layers", "nnunet_xlstm.layers")  # conv_op, norm_op, nonlin, rope_impl ...
RESAMPLING = ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities")


def resolve_network(name: Any, where: str, allowed: Sequence[str] = ()) -> type[nn.Module]:
    """Return the class of a network that a file names.

    A name without its module, or with one that has moved (plans before nnU-Net 2.4), is looked for in
    dynamic_network_architectures, as nnU-Net does.

    Args:
        name: as the file has it.
        where: the file, for messages.
        allowed: packages that the user trusts beside ours and nnU-Net's.

    Raises:
        CheckpointError: not a name, not a network, or of a package that is not allowed.
    """
    packages = (*NETWORK_PACKAGES, *allowed)
    what = f"{where}: network_class_name '{name}'"
    _check_form(name, what)
    found = _locate(name, packages, what) if "." in name else None
    if found is None:
        found = _find(name.rpartition(".")[2], "architectures", Path(dynamic_network_architectures.__path__[0]), DNA)
    return _checked(found, packages, what)


def resolve_argument(name: Any, where: str, key: str, allowed: Sequence[str] = ()) -> type[nn.Module]:
    """Return the class that an argument of a network names, such as `torch.nn.InstanceNorm3d`.

    Raises:
        CheckpointError: as `resolve_network`.
    """
    packages = (*ARGUMENT_PACKAGES, *allowed)
    what = f"{where}: {key} '{name}'"
    _check_form(name, what)
    return _checked(_locate(name, packages, what), packages, what)


def dotted(kind: type) -> str:
    """Return the path by which plans name a class: for networks of ours the short one."""
    ours = kind.__qualname__ in networks.__all__ and kind.__module__.startswith(f"{networks.__name__}.")
    return f"{networks.__name__ if ours else kind.__module__}.{kind.__qualname__}"


def _check_form(name: Any, what: str) -> None:
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise CheckpointError(f"{what}: not the dotted name of a class, such as torch.nn.LeakyReLU")


def _locate(name: str, packages: Sequence[str], what: str) -> Any:
    """Return what the name stands for; nothing is imported from outside the packages."""
    if not _within(name, packages):
        raise CheckpointError(
            f"{what}: of a package that files may not name ({', '.join(packages)} are allowed); if you trust the file "
            f"and the package, add --allow-import {name.partition('.')[0]}"
        )
    try:
        return pydoc.locate(name)
    except pydoc.ErrorDuringImport as error:
        raise CheckpointError(f"{what}: cannot be imported ({error.exc}: {error.value})") from error


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _checked(found: Any, packages: Sequence[str], what: str) -> type[nn.Module]:
    if found is None:
        raise CheckpointError(f"{what}: there is no such class here; install the package that has it, or correct it")
    # a path can lead through a module to what that module imports, such as ...modules.module.functools
    if not (isinstance(found, type) and issubclass(found, nn.Module) and _within(found.__module__, packages)):
        raise CheckpointError(f"{what}: must name a subclass of torch.nn.Module in {', '.join(packages)}")
    return found


def _find(name: str, folder: str, root: Path, package: str) -> Any:
    """Return what nnU-Net finds by a bare name in a folder of a package."""
    dotted_folder = folder.replace("/", ".")
    return recursive_find_python_class(str(root / folder), name, f"{package}.{dotted_folder}")


# Names that nnU-Net looks for in its own folders ----------------------------------------------------------------------


def check_normalization(schemes: Sequence[str], where: str) -> None:
    """Check that each scheme is a normalization of nnU-Net's.

    Raises:
        CheckpointError: one is not.
    """
    for scheme in schemes:
        _find_subclass(scheme, "preprocessing/normalization", ImageNormalization, f"{where}: normalization_schemes")


def check_preprocessing(configuration: Mapping[str, Any], where: str) -> None:
    """Check what nnU-Net's preprocessing and export look up in a configuration.

    Raises:
        CheckpointError: a name that is not of nnU-Net's kind, or arguments that a resampling function does not take.
    """
    name = configuration.get("preprocessor_name")
    _find_subclass(name, "preprocessing", DefaultPreprocessor, f"{where}: preprocessor_name")
    check_normalization(configuration.get("normalization_schemes") or (), where)
    for key in RESAMPLING:
        name = configuration.get(key)
        function = _find_here(name, "preprocessing/resampling", f"{where}: {key}")
        if not (inspect.isfunction(function) and function.__module__.startswith("nnunetv2.preprocessing.resampling.")):
            raise CheckpointError(f"{where}: {key} '{name}': nnU-Net has no resampling function of this name")
        arguments: Any = configuration.get(f"{key}_kwargs")  # of whatever kind: `bind` refuses what is no object
        try:  # nnU-Net gives four arguments by place
            inspect.signature(function).bind(None, None, None, None, **arguments)
        except TypeError as error:
            raise CheckpointError(f"{where}: {key}_kwargs {arguments!r:.60}: not arguments of {name}") from error


def check_label_manager(plans: Mapping[str, Any], where: str) -> None:
    """Check the class that nnU-Net uses for labels, where plans name one.

    Raises:
        CheckpointError: it is not a label manager.
    """
    if "label_manager" in plans:
        folder = "utilities/label_handling"
        _find_subclass(plans["label_manager"], folder, LabelManager, f"{where}: label_manager")


def check_reader(dataset_json: Mapping[str, Any], where: str) -> None:
    """Check the reader of images that a dataset.json names, where it names one.

    Raises:
        CheckpointError: it is not a reader of nnU-Net's.
    """
    name = dataset_json.get("overwrite_image_reader_writer", "None")
    if name != "None":  # nnU-Net's word for none
        _find_subclass(name, "imageio", BaseReaderWriter, f"{where}: overwrite_image_reader_writer")


def _find_subclass(name: Any, folder: str, base: type, what: str) -> None:
    found = _find_here(name, folder, what)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise CheckpointError(f"{what} '{name}': nnU-Net has no {base.__name__} of this name")


def _find_here(name: Any, folder: str, what: str) -> Any:
    if not isinstance(name, str) or not name.isidentifier():
        raise CheckpointError(f"{what} '{name}': not a name")
    return _find(name, folder, Path(nnunetv2.__path__[0]), "nnunetv2")
