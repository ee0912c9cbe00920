"""One configuration of nnU-Net's plans: inheritance resolved, old forms translated, every used value checked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.networks.geometry import stride_products

Rule = tuple[Callable[[Any], bool], str]  # what holds, and in words
RESOLVE_ERRORS = (AttributeError, KeyError, RecursionError, RuntimeError, TypeError, ValueError)

SPACING_RANGE = (1e-4, 1e5)  # mm; nnU-Net's distance of slices of 2D images is 999


def _is_whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_spacing(value: Any) -> bool:
    low, high = SPACING_RANGE
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_list(value: Any, of: Callable[[Any], bool], lengths: tuple[int, ...] = ()) -> bool:
    return isinstance(value, (list, tuple)) and (not lengths or len(value) in lengths) and all(map(of, value))


# key -> (what it may be, in words); a key that is not there is checked by whoever needs it
RULES: dict[str, Rule] = {
    "patch_size": (lambda v: _is_list(v, _is_whole, (2, 3)), "2 or 3 whole numbers, each 1 or more"),
    "batch_size": (_is_whole, "a whole number, 1 or more"),
    "spacing": (lambda v: _is_list(v, _is_spacing, (2, 3)), "2 or 3 positive numbers, in mm"),
    "normalization_schemes": (lambda v: _is_list(v, lambda s: isinstance(s, str)), "a list of names"),
    "use_mask_for_norm": (lambda v: _is_list(v, lambda b: isinstance(b, bool)), "a list of true and false"),
    "architecture": (lambda v: isinstance(v, Mapping), "an object"),
}
ARCHITECTURE_RULES: dict[str, Rule] = {
    "network_class_name": (lambda v: isinstance(v, str), "the dotted name of a class"),
    "arch_kwargs": (lambda v: isinstance(v, Mapping) and all(isinstance(k, str) for k in v), "an object"),
    "_kw_requires_import": (lambda v: _is_list(v, lambda s: isinstance(s, str)), "a list of names"),
}
CT = "CTNormalization"
CT_PROPERTIES = frozenset({"mean", "std", "percentile_00_5", "percentile_99_5"})
SIZES = ("patch_size", "spacing")  # a number per axis


def resolve_configuration(plans: Any, name: Any, where: str) -> dict[str, Any]:
    """Return a configuration of plans as nnU-Net resolves it.

    What it inherits is filled in, and the form of plans before nnU-Net 2.4 (`UNet_class_name`) is translated.

    Args:
        where: the file, for messages.

    Raises:
        CheckpointError: no such configuration, a cycle of inheritance, an unknown old network, or a value of the wrong
            kind.
    """
    configurations = plans.get("configurations") if isinstance(plans, Mapping) else None
    if not isinstance(configurations, Mapping) or not all(isinstance(v, Mapping) for v in configurations.values()):
        raise CheckpointError(f"{where}: not plans of nnU-Net (an object with `configurations`)")
    if not isinstance(name, str) or name not in configurations:
        raise CheckpointError(
            f"{where}: has no configuration '{name}'; it has {', '.join(map(str, configurations)) or 'none'}"
        )
    try:
        with warnings.catch_warnings():  # nnU-Net warns that it translates old plans
            warnings.simplefilter("ignore")
            row = PlansManager(dict(plans)).get_configuration(name).configuration
    except RESOLVE_ERRORS as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{where}: configuration '{name}' cannot be resolved ({reason}); plan anew") from error
    row.pop("inherits_from", None)
    _check(row, RULES, f"{where}: configuration '{name}'")
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
    if not isinstance(architecture, Mapping):
        raise CheckpointError(f"{where}: architecture {architecture!r:.60}: must be an object")
    for key in ARCHITECTURE_RULES:
        if architecture.get(key) is None:
            raise CheckpointError(f"{where}: architecture lacks '{key}'")
    _check(architecture, ARCHITECTURE_RULES, where)
    for key in architecture["_kw_requires_import"]:
        if key not in architecture["arch_kwargs"]:
            raise CheckpointError(f"{where}: _kw_requires_import names '{key}', which arch_kwargs lacks")
    for key, value in architecture["arch_kwargs"].items():
        numbers = value if isinstance(value, list) else [value]
        if COUNTS_LAYERS.search(key) and sum(n for n in numbers if _is_whole(n)) > MAX_LAYERS:
            raise CheckpointError(f"{where}: {key} {value!r:.60}: must stay below {MAX_LAYERS} layers")


def divisors(architecture: Mapping[str, Any], patch_size: Sequence[int], where: str) -> tuple[int, ...]:
    """Return what each axis of an image must be divisible by; the patch, where the network names no strides.

    Raises:
        CheckpointError: strides that are not a list of numbers per axis for each stage.
    """
    strides = architecture["arch_kwargs"].get("strides")
    if strides is None:
        return tuple(patch_size)
    dim = len(patch_size)
    if not strides or not _is_list(strides, lambda stage: _is_list(stage, _is_whole, (dim,))):
        raise CheckpointError(f"{where}: strides {strides!r:.60}: must be {dim} whole numbers for each stage")
    return stride_products(strides)


def check_for_preprocessing(plans: Mapping[str, Any], row: Mapping[str, Any], channels: int, where: str) -> None:
    """Check that plans hold what nnU-Net's preprocessing reads for images of so many channels.

    Raises:
        CheckpointError: something is missing or of the wrong kind.
    """
    for key in ("patch_size", "spacing", "normalization_schemes", "use_mask_for_norm"):
        needed(row, key, where)
    for key in ("normalization_schemes", "use_mask_for_norm"):
        if len(row[key]) != channels:
            raise CheckpointError(f"{where}: {key} {row[key]}: must have one entry for each of the {channels} channels")
    for key in ("transpose_forward", "transpose_backward"):
        if plans.get(key) is None or sorted(plans[key]) != [0, 1, 2]:
            raise CheckpointError(f"{where}: {key} {plans.get(key)!r:.60}: must be an order of the axes 0, 1, 2")
    properties = PlansManager(dict(plans)).foreground_intensity_properties_per_channel
    for channel, scheme in enumerate(row["normalization_schemes"]):
        known = properties.get(str(channel))
        lacking = CT_PROPERTIES if known is None else CT_PROPERTIES - known.keys() if scheme == CT else ()
        if lacking:
            raise CheckpointError(
                f"{where}: intensity properties of channel {channel} lack {', '.join(sorted(lacking))}"
            )


def needed(row: Mapping[str, Any], key: str, where: str) -> Any:
    """Return a value that the caller cannot do without.

    Raises:
        CheckpointError: the configuration lacks it.
    """
    if row.get(key) is None:
        raise CheckpointError(f"{where}: its configuration lacks '{key}'")
    return row[key]


def check_value(key: str, value: Any, what: str) -> None:
    """Check a value against the rule of a key of RULES; None passes.

    Raises:
        CheckpointError: it is of another kind.
    """
    _check({key: value}, {key: RULES[key]}, what, named=True)


def _check(row: Mapping[str, Any], rules: Mapping[str, Rule], where: str, named: bool = False) -> None:
    for key, (holds, words) in rules.items():
        if row.get(key) is not None and not holds(row[key]):
            what = where if named else f"{where}: {key}"
            raise CheckpointError(f"{what} {row[key]!r:.60}: must be {words}")
