"""A row of costs for every network that a user names: a preset or a plans file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.tables import text_table
from nnunet_xlstm.networks.build import build_network, default_strides
from nnunet_xlstm.networks.cost import count_cost, measure
from nnunet_xlstm.networks.presets import PRESETS
from nnunet_xlstm.nnunet.planning.network import PlannedNetwork, planned_network

# the patches that a preset's stages are laid out for
PLANNED_2D = (512, 512)
PLANNED_3D = (128, 128, 128)
COLUMNS = (
    ("name", "name", "{}"),
    ("params_m", "params (M)", "{:.3f}"),
    ("gmac", "GMAC", "{:.2f}"),
    ("gflop", "GFLOP", "{:.2f}"),
    ("activations_m", "activations (M)", "{:.1f}"),
    ("activation_mb", "activations (MB)", "{:.1f}"),
    ("outputs_m", "layer outputs (M)", "{:.1f}"),
    ("patch", "patch", "{}"),
    ("latency_s", "latency (s)", "{:.3f}"),
    ("peak_memory_mb", "peak memory (MB)", "{:.1f}"),
)


@dataclass(frozen=True, kw_only=True)
class CostRequest:
    """The count that a user asks for.

    Attributes:
        configuration: of plans files.
        patch: voxels per axis, or one number for all; None: the plans' or the preset's.
        channels: of the image; None: of the dataset.json beside the plans, or 1.
        classes: of the output; None: of the dataset.json beside the plans, or 8.
        latency: timed forward passes; 0 for none.
        device: that they run on.
        allow_import: packages whose network classes plans may name.
    """

    configuration: str = "3d_fullres"
    patch: Sequence[int] | None = None
    channels: int | None = None
    classes: int | None = None
    latency: int = 0
    device: str = "cpu"
    allow_import: Sequence[str] = ()


def cost_rows(texts: Sequence[str], request: CostRequest) -> list[dict[str, Any]]:
    """Return the costs of each network, in plain types.

    Args:
        texts: a preset or a plans file, or NAME=NETWORK for a row of that name.
        request: what is counted.

    Raises:
        ConfigError: a text that names nothing, or a patch that does not fit.
        CheckpointError: plans that cannot be used.
    """
    return [_row(text, request) for text in texts]


def text_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the rows as lines of text, without the columns that were not measured."""
    shown = [column for column in COLUMNS if any(row[column[0]] is not None for row in rows)]
    cells = [["-" if row[key] is None else form.format(row[key]) for key, _, form in shown] for row in rows]
    return text_table([[title for _, title, _ in shown], *cells])


def _row(text: str, request: CostRequest) -> dict[str, Any]:
    given, name = _split(text)
    planned = _of_preset(name, request) if name in PRESETS else _of_plans(Path(name), request)
    shape = (1, planned.channels, *planned.patch_size)
    with planned.running():
        cost = count_cost(planned.build, shape)
        measured = measure(planned.build, shape, request.latency, request.device) if request.latency else None
    peak = measured.peak_bytes if measured else None
    return {
        "name": given or planned.name,
        "params_m": round(cost.params / 1e6, 4),
        "gmac": round(cost.macs / 1e9, 3),
        "gflop": round(2 * cost.macs / 1e9, 3),
        "activations_m": round(cost.activations / 1e6, 3),
        "activation_mb": round(cost.activation_bytes / 1e6, 2),
        "outputs_m": round(cost.outputs / 1e6, 3),
        "patch": "x".join(str(n) for n in planned.patch_size),
        "channels": planned.channels,
        "classes": planned.classes,
        "latency_s": measured.seconds if measured else None,
        "peak_memory_mb": None if peak is None else round(peak / 1e6, 2),
        "precision": "fp32",
        "batch": 1,
    }


def _split(text: str) -> tuple[str, str]:
    """Return the name of the row ("" where none is given), and the preset or file."""
    name, sign, rest = text.partition("=")
    if not sign or Path(text).is_file():  # a path may hold the sign
        return "", text
    if not (name.strip() and rest):
        raise ConfigError(f"'{text}' is not NAME=PLANS or NAME=PRESET, such as ours=small")
    return name.strip(), rest


def _of_preset(name: str, request: CostRequest) -> PlannedNetwork:
    planned: dict[int, tuple[int, ...]] = {2: PLANNED_2D, 3: PRESETS[name].patch_3d or PLANNED_3D}
    patch, channels, classes = _patch(request.patch, planned[3]), request.channels or 1, request.classes or 8
    strides = default_strides(planned[len(patch)])  # one network for a preset, whatever patch is counted
    build = partial(build_network, name, patch, channels, classes, strides=strides)
    return PlannedNetwork(name=name, patch_size=patch, channels=channels, classes=classes, build=build)


def _of_plans(path: Path, request: CostRequest) -> PlannedNetwork:
    if not path.is_file():
        raise ConfigError(f"'{path}' is neither a file nor a preset; give a plans file or one of {', '.join(PRESETS)}")
    channels, classes = _of_dataset(path.with_name("dataset.json"))
    channels, classes = request.channels or channels, request.classes or classes
    planned = planned_network(path, request.configuration, channels, classes, request.allow_import)
    return replace(planned, patch_size=_patch(request.patch, planned.patch_size))


def _patch(given: Sequence[int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    if given is None:
        return default
    patch = tuple(given) * len(default) if len(given) == 1 else tuple(given)
    if len(patch) not in (2, 3) or min(patch) < 1:
        raise ConfigError(f"--patch {list(given)}: give one number, or one per axis (2 or 3 axes), each 1 or more")
    return patch


def _of_dataset(path: Path) -> tuple[int, int]:
    """Return channels and output classes of a data set; 1 and 8 without the file."""
    if not path.is_file():
        return 1, 8
    dataset = DatasetFile.read(path)
    labels = dataset.scored_labels()
    return (len(dataset.channels()) if dataset.has_channels else 1), len(labels.scored) + (not labels.has_regions)
