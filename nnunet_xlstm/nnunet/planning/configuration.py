"""One configuration of nnU-Net's plans: inheritance resolved, old forms translated, every used value checked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.io.validate import (
    ANY_TEXT,
    FLAG,
    OBJECT,
    Key,
    ListOf,
    Record,
    check,
    fault,
    is_number,
    null_or,
    number,
    optional,
    unknown,
)
from nnunet_xlstm.networks.geometry import stride_products

RESOLVE_ERRORS = (AttributeError, KeyError, RecursionError, RuntimeError, TypeError, ValueError)

SPACING_RANGE = (1e-4, 1e5)  # mm; nnU-Net's distance of slices of 2D images is 999

SIZE = number(1, whole=True)
PATCH_SIZE = ListOf(SIZE, lengths=(2, 3))
CONFIGURATION = Record(  # null is as good as nothing: a key that is not there is missed by whoever needs it
    {
        "patch_size": optional(null_or(PATCH_SIZE)),
        "batch_size": optional(null_or(SIZE)),
        "spacing": optional(null_or(ListOf(number(*SPACING_RANGE), lengths=(2, 3)))),  # mm
        "normalization_schemes": optional(null_or(ListOf(ANY_TEXT))),
        "use_mask_for_norm": optional(null_or(ListOf(FLAG))),
        "architecture": optional(null_or(OBJECT)),
    },
    open=True,
)
ARCHITECTURE = Record(
    {"network_class_name": Key(ANY_TEXT), "arch_kwargs": Key(OBJECT), "_kw_requires_import": Key(ListOf(ANY_TEXT))},
    open=True,
)
CT = "CTNormalization"
CT_PROPERTIES = frozenset({"mean", "std", "percentile_00_5", "percentile_99_5"})
SIZES = ("patch_size", "spacing")  # a number per axis


def resolve_configuration(plans: Any, name: Any, where: str) -> dict[str, Any]:
    """Return a configuration of plans as nnU-Net resolves it.

    What it inherits is filled in, and the form of plans before nnU-Net 2.4 (`UNet_class_name`) is translated.

    Args:
        plans: the content of a plans file.
        name: of the configuration.
        where: the file, for messages.

    Raises:
        CheckpointError: no such configuration, a cycle of inheritance, an unknown old network, or a value of the wrong
            kind.
    """
    configurations = plans.get("configurations") if isinstance(plans, Mapping) else None
    if not isinstance(configurations, Mapping) or not all(isinstance(v, Mapping) for v in configurations.values()):
        raise CheckpointError(f"{where}: not plans of nnU-Net (an object with `configurations`)")
    if not isinstance(name, str) or name not in configurations:
        raise CheckpointError(f"{where}: {unknown(name, map(str, configurations), 'configuration')}")
    try:
        with warnings.catch_warnings():  # nnU-Net warns that it translates old plans
            warnings.simplefilter("ignore")
            row = PlansManager(dict(plans)).get_configuration(name).configuration
    except RESOLVE_ERRORS as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{where}: configuration '{name}' cannot be resolved ({reason}); plan anew") from error
    row.pop("inherits_from", None)
    check(row, CONFIGURATION, f"{where}: configuration '{name}'", CheckpointError)
    if row.get("architecture") is not None:
        check_architecture(row["architecture"], f"{where}: configuration '{name}'")
    axes = {len(row[key]) for key in SIZES if row.get(key) is not None}
    if len(axes) > 1:
        raise CheckpointError(
            f"{where}: configuration '{name}': patch_size {row['patch_size']} and spacing {row['spacing']} differ in "
            "their number of axes"
        )
    return row


COUNTS_LAYERS = re.compile("^n_|depth|layers|blocks")  # of arch_kwargs; each layer is an object, whatever its size
MAX_LAYERS = 10_000


def check_architecture(architecture: Any, where: str) -> None:
    """Check the form of a plan's `architecture`: the name of a class, its arguments, and which of them name classes.

    Raises:
        CheckpointError: something is missing or of the wrong kind.
    """
    check(architecture, ARCHITECTURE, where, CheckpointError, path="architecture")
    for key in architecture["_kw_requires_import"]:
        if key not in architecture["arch_kwargs"]:
            raise CheckpointError(f"{where}: _kw_requires_import names '{key}', which arch_kwargs lacks")
    for key, value in architecture["arch_kwargs"].items():
        numbers = value if isinstance(value, list) else [value]
        if COUNTS_LAYERS.search(key) and sum(n for n in numbers if is_number(n, 1, whole=True)) > MAX_LAYERS:
            raise CheckpointError(f"{where}: {fault(key, value, f'at most {MAX_LAYERS} layers')}")


def divisors(architecture: Mapping[str, Any], patch_size: Sequence[int], where: str) -> tuple[int, ...]:
    """Return what each axis of an image must be divisible by; the patch, where the network names no strides.

    Raises:
        CheckpointError: strides that are not a list of numbers per axis for each stage.
    """
    strides = architecture["arch_kwargs"].get("strides")
    if strides is None:
        return tuple(patch_size)
    dim = len(patch_size)
    check(strides, ListOf(ListOf(SIZE, lengths=(dim,)), least=1), where, CheckpointError, path="strides")
    return stride_products(strides)


def check_for_preprocessing(plans: Mapping[str, Any], row: Mapping[str, Any], channels: int, where: str) -> None:
    """Check that plans hold what nnU-Net's preprocessing reads for images of so many channels.

    Raises:
        CheckpointError: something is missing or of the wrong kind.
    """
    for key in ("patch_size", "spacing"):
        needed(row, key, where)
    check_per_channel(row, channels, where)
    for key in ("transpose_forward", "transpose_backward"):
        if plans.get(key) is None or sorted(plans[key]) != [0, 1, 2]:
            raise CheckpointError(f"{where}: {fault(key, plans.get(key), 'an order of the axes 0, 1, 2')}")
    properties = PlansManager(dict(plans)).foreground_intensity_properties_per_channel
    for channel, scheme in enumerate(row["normalization_schemes"]):
        known = properties.get(str(channel))
        lacking = CT_PROPERTIES if known is None else CT_PROPERTIES - known.keys() if scheme == CT else ()
        if lacking:
            raise CheckpointError(
                f"{where}: intensity properties of channel {channel} lack {', '.join(sorted(lacking))}"
            )


def check_per_channel(row: Mapping[str, Any], channels: int, where: str) -> None:
    """Check that a configuration says of each of so many channels how it is normalized.

    Raises:
        CheckpointError: a list is missing or of another length.
    """
    for key in ("normalization_schemes", "use_mask_for_norm"):
        if len(needed(row, key, where)) != channels:
            raise CheckpointError(f"{where}: {fault(key, row[key], f'one entry for each of the {channels} channels')}")


def needed(row: Mapping[str, Any], key: str, where: str) -> Any:
    """Return a value that the caller cannot do without.

    Raises:
        CheckpointError: the configuration lacks it.
    """
    if row.get(key) is None:
        raise CheckpointError(f"{where}: its configuration lacks '{key}'")
    return row[key]
