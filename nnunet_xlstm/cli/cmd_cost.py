"""`nnunet_xlstm cost`: what a network costs, from a preset or a plans file."""

import argparse
import json

from nnunet_xlstm.cli.options import add_allow_import, add_device, at_least, resolve_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Parameters, multiply-accumulates (GFLOP is twice GMAC) and activations kept for the backward pass, of one "
        "image of one patch. Counted on fake tensors: nothing is allocated, so any size is counted on any machine. "
        "Convolutions and matrix products count; normalisation and exponentials do not. Layer outputs are the elements "
        "that convolutions and linear layers write. A preset has the stages of a patch of 128^3 (TSFM: 112x160x192; 2D "
        "512^2). Activation checkpointing is not counted."
    )
    text = "a plans file or a preset; as NAME=NETWORK its row gets that name, such as the model's in `compare`"
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help=text)
    text = "of plans files (%(default)s)"
    parser.add_argument("-c", dest="configuration", default="3d_fullres", metavar="NAME", help=text)
    text = "voxels per axis; default: the plans' or the preset's"
    parser.add_argument("--patch", type=int, nargs="+", metavar="N", help=text)
    for option, low, default, text in (
        ("--channels", 1, None, "default: of the dataset.json beside the plans, or 1"),
        ("--classes", 1, None, "default: of the dataset.json beside the plans, or 8"),
        ("--latency", 0, 0, "also time N forward passes (median) on --device; on a GPU also memory"),
    ):
        parser.add_argument(option, type=int, action=at_least(low), default=default, metavar="N", help=text)
    add_device(parser)
    add_allow_import(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON list and nothing else")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.nnunet.planning.cost_table import CostRequest, cost_rows, text_lines

    given = {key: value for key, value in vars(args).items() if key not in ("networks", "device", "json", "debug")}
    request = CostRequest(**given, device=resolve_device(args.device) if args.latency else "cpu")
    rows = cost_rows(args.networks, request)
    print(json.dumps(rows, indent=1) if args.json else "\n".join(text_lines(rows)))
    return 0
