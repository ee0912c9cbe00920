"""`nnunet_xlstm cost`: what a network costs, from a preset or a plans file."""

import argparse
import json
from pathlib import Path

from nnunet_xlstm.cli.options import add_allow_import
from nnunet_xlstm.cli.output import text_table
from nnunet_xlstm.errors import ConfigError

PLANNED = {2: (512, 512), 3: (128, 128, 128)}  # the patch that a preset's stages are laid out for
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Parameters, multiply-accumulates (GFLOP is twice GMAC) and activations kept for the backward pass, of one "
        "image of one patch. Counted on fake tensors: nothing is allocated, so any size is counted on any machine. "
        "Convolutions and matrix products count; normalisation and exponentials do not. Layer outputs are the elements "
        "that convolutions and linear layers write. A preset has the stages of a patch of 128^3 (TSFM: 112x160x192; 2D "
        "512^2). Activation checkpointing is not counted."
    )
    parser.add_argument(
        "networks",
        nargs="+",
        metavar="NETWORK",
        help="a plans file or a preset; as NAME=NETWORK its row gets that name, such as the model's in `compare`",
    )
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="of plans files (%(default)s)")
    parser.add_argument(
        "--patch", type=int, nargs="+", metavar="N", help="voxels per axis; default: the plans' or the preset's"
    )
    parser.add_argument("--channels", type=int, help="default: of the dataset.json beside the plans, or 1")
    parser.add_argument("--classes", type=int, help="default: of the dataset.json beside the plans, or 8")
    parser.add_argument(
        "--latency", type=int, default=0, metavar="N", help="also time N forward passes (median); on a GPU also memory"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for --latency (%(default)s)")
    add_allow_import(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON list and nothing else")


def run(args: argparse.Namespace) -> int:
    for name in ("channels", "classes", "latency"):
        value = getattr(args, name)
        least = 0 if name == "latency" else 1
        if value is not None and value < least:
            raise ConfigError(f"--{name} {value} is too small; give {least} or more")
    rows = [_row(name, args) for name in args.networks]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    shown = [column for column in COLUMNS if any(row[column[0]] is not None for row in rows)]  # the rest: not measured
    cells = [["-" if row[key] is None else form.format(row[key]) for key, _, form in shown] for row in rows]
    for line in text_table([[title for _, title, _ in shown], *cells]):
        print(line)
    return 0


def _row(text: str, args: argparse.Namespace) -> dict:
    from nnunet_xlstm.networks.cost import count_cost, measure

    given, name = _split(text)
    label, patch, channels, classes, build, guard = _network(name, args)
    with guard:
        cost = count_cost(build, (1, channels, *patch))
        measured = measure(build, (1, channels, *patch), args.latency, args.device) if args.latency else None
    peak = measured.peak_bytes if measured else None
    return {
        "name": given or label,
        "params_m": round(cost.params / 1e6, 4),
        "gmac": round(cost.macs / 1e9, 3),
        "gflop": round(2 * cost.macs / 1e9, 3),
        "activations_m": round(cost.activations / 1e6, 3),
        "activation_mb": round(cost.activation_bytes / 1e6, 2),
        "outputs_m": round(cost.outputs / 1e6, 3),
        "patch": "x".join(str(n) for n in patch),
        "channels": channels,
        "classes": classes,
        "latency_s": measured.seconds if measured else None,
        "peak_memory_mb": None if peak is None else round(peak / 1e6, 2),
        "precision": "fp32",
        "batch": 1,
    }


def _split(text: str) -> tuple[str, str]:
    """The name of the row ("" where none is given), and the preset or file."""
    name, sign, rest = text.partition("=")
    if not sign or Path(text).is_file():  # a path may hold the sign
        return "", text
    if not (name.strip() and rest):
        raise ConfigError(f"'{text}' is not NAME=PLANS or NAME=PRESET, such as ours=small")
    return name.strip(), rest


def _network(name: str, args: argparse.Namespace):
    """Return label, patch, channels, classes, builder and a guard for its runs, of one argument."""
    from contextlib import nullcontext

    from nnunet_xlstm.networks.presets import PRESETS

    if name in PRESETS:
        from nnunet_xlstm.networks.build import build_network, default_strides

        planned = PLANNED | ({3: PRESETS[name].patch_3d} if PRESETS[name].patch_3d else {})
        patch, channels, classes = _patch(args.patch, 3, planned[3]), args.channels or 1, args.classes or 8
        strides = default_strides(planned[len(patch)])  # one network for a preset, whatever patch is counted
        build = lambda: build_network(name, patch, channels, classes, strides=strides)  # noqa: E731
        return name, patch, channels, classes, build, nullcontext()
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"'{name}' is neither a file nor a preset; give a plans file or one of {', '.join(PRESETS)}")
    from nnunet_xlstm.nnunet.planning.network import planned_network

    channels, classes = _of_dataset(path.with_name("dataset.json"))
    channels, classes = args.channels or channels, args.classes or classes
    planned = planned_network(path, args.c, channels, classes, args.allow_import)
    patch = _patch(args.patch, len(planned.patch_size), planned.patch_size)
    return planned.name, patch, channels, classes, planned.build, planned.running(patch)


def _patch(given: list[int] | None, dim: int, default: tuple[int, ...]) -> tuple[int, ...]:
    if given is None:
        return default
    if len(given) == 1:
        given = given * dim
    if len(given) not in (2, 3) or min(given) < 1:
        raise ConfigError(f"--patch {given}: give one number, or one per axis (2 or 3 axes), each 1 or more")
    return tuple(given)


def _of_dataset(path: Path) -> tuple[int, int]:
    """Channels and output classes of a data set; 1 and 8 without the file."""
    if not path.is_file():
        return 1, 8
    from nnunet_xlstm.datasets.dataset_json import DatasetFile

    dataset = DatasetFile.read(path)
    labels = dataset.scored_labels()
    return (len(dataset.channels()) if dataset.has_channels else 1), len(labels.scored) + (not labels.has_regions)
