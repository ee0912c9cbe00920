"""The network of plans, outside training: the one place where networks are built from what a file says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunet_xlstm.errors import CheckpointError, UserError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.machine import memory_gb
from nnunet_xlstm.networks.cost import count_parameters
from nnunet_xlstm.nnunet.planning.code_names import dotted, resolve_argument, resolve_network
from nnunet_xlstm.nnunet.planning.configuration import check_architecture, needed, resolve_configuration

# what constructors, nnU-Net's and foreign ones, raise for arguments that do not fit
MISFIT = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def checked_architecture(architecture: Any, where: str, allowed: Sequence[str] = ()) -> dict[str, Any]:
    """Return a plan's `architecture` after every name in it was resolved to a class that files may name.

    Args:
        architecture: as in plans.
        where: the file, for messages.
        allowed: packages that the user trusts beside ours and nnU-Net's.

    Raises:
        CheckpointError: its form is wrong, or a name is not allowed.
    """
    check_architecture(architecture, where)
    arguments = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        if arguments[key] is not None:
            arguments[key] = dotted(resolve_argument(arguments[key], where, key, allowed))
    network_class = resolve_network(architecture["network_class_name"], where, allowed)
    return dict(architecture) | {"network_class_name": dotted(network_class), "arch_kwargs": arguments}


def build_network(
    architecture: Any,
    channels: int,
    classes: int,
    where: str,
    allowed: Sequence[str] = (),
    deep_supervision: bool = False,
) -> nn.Module:
    """Build a network on the CPU, freshly initialised as nnU-Net does it.

    Args:
        architecture: as in plans.
        channels: of the image; plans do not hold them.
        classes: of the output, likewise.
        where: the file, for messages.
        allowed: packages that the user trusts beside ours and nnU-Net's.
        deep_supervision: whether the network returns an output per stage.

    Raises:
        CheckpointError: a name is not allowed, or the arguments do not fit the class.
    """
    safe = checked_architecture(architecture, where, allowed)
    name, arguments, classes_in = safe["network_class_name"], safe["arch_kwargs"], safe["_kw_requires_import"]
    with fitting(f"{where}: {name} cannot be built from arch_kwargs", "; correct them, or plan anew"):
        return get_network_from_plans(name, arguments, classes_in, channels, classes, deep_supervision=deep_supervision)


def build_seeded(seed: int, architecture: Any, channels: int, classes: int, where: str, *args: Any) -> nn.Module:
    """Return `build_network` of the other arguments, the same for the same seed; the global random state stays.

    Raises:
        CheckpointError: as `build_network`, or a network larger than this machine's memory, for which the system would
            end the process.
    """
    build = partial(build_network, architecture, channels, classes, where, *args)
    with torch.device("meta"):
        count = count_parameters(build())
    if (needed_gb := 4 * count / 2**30) > memory_gb():
        raise CheckpointError(
            f"{where}: its network of {count / 1e6:,.0f} M parameters takes {needed_gb:,.0f} GiB, this machine has "
            f"{memory_gb():,.0f}; correct arch_kwargs, or use a larger machine"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


@contextmanager
def fitting(
    fault: str, fix: str = "", kind: type[UserError] = CheckpointError, passing: tuple[type[UserError], ...] = ()
) -> Iterator[None]:
    """Turn what the body raises for arguments that do not fit into an error of `kind`: fault (reason), fix.

    Raises:
        UserError: of `kind`; those of `passing` stay as they are.
    """
    try:
        yield
    except passing:
        raise
    except (MemoryError, *MISFIT) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise kind(f"{fault} ({reason}){fix}") from error


@dataclass(frozen=True, kw_only=True)
class PlannedNetwork:
    """A network with what it is built for.

    Attributes:
        name: of the configuration or preset.
        patch_size: in voxels.
        channels: of the image.
        classes: of the output.
        build: makes the network, without deep supervision.
        where: the file that names the network, and its class, for messages; "" for a preset of ours.
    """

    name: str
    patch_size: tuple[int, ...]
    channels: int
    classes: int
    build: Callable[[], nn.Module]
    where: str = ""

    def running(self) -> AbstractContextManager[None]:
        """Turn what a network of a file raises when the body runs it on its patch into a CheckpointError."""
        fault = f"{self.where} cannot read a patch of {list(self.patch_size)} voxels"
        return fitting(fault, "; correct arch_kwargs or --patch", passing=(UserError,)) if self.where else nullcontext()


def planned_network(
    path: Path, configuration: str, channels: int, classes: int, allowed: Sequence[str] = ()
) -> PlannedNetwork:
    """Return the network of a plans file of nnU-Net, of any class that files may name.

    Args:
        path: of the plans.
        configuration: its name in them.
        channels: of the image; plans do not hold them.
        classes: of the output, likewise.
        allowed: further packages whose classes may be imported.

    Raises:
        CheckpointError: not a plans file, no such configuration, or a network that may not be imported.
        DatasetError: the file cannot be read.
    """
    plans = read_json(path, dict)
    row = resolve_configuration(plans, configuration, str(path))
    architecture = checked_architecture(needed(row, "architecture", str(path)), str(path), allowed)
    return PlannedNetwork(
        name=f"{plans.get('plans_name', Path(path).stem)}/{configuration}",
        patch_size=tuple(needed(row, "patch_size", str(path))),
        channels=channels,
        classes=classes,
        build=partial(build_network, architecture, channels, classes, str(path), allowed),
        where=f"{path}: {architecture['network_class_name']}",
    )
