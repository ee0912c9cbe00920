"""`nnunet_xlstm features`: what the frozen encoder of a pre-training checkpoint knows, beside controls."""

import argparse
from pathlib import Path

from nnunet_xlstm.choices import ENCODERS
from nnunet_xlstm.cli.options import (
    add_allow_import,
    add_dataset,
    add_device,
    add_output,
    add_seed,
    add_subjects,
    add_test_subjects,
    at_least,
    resolve_device,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Measures frozen features of a pre-training checkpoint on a raw data set, beside the same network untrained "
        "and with its weights shuffled: effective rank and spread; with --probe Dice of a linear classifier of voxels; "
        "with --knn accuracy of nearest neighbours; with --pca pictures. Writes features.json, and label maps and "
        "scores of the probe for `nnunet_xlstm compare`."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="of a pre-training run")
    add_dataset(parser)
    add_output(parser, "where the results go")
    parser.add_argument("--encoders", nargs="+", choices=list(ENCODERS), default=list(ENCODERS), help="default: all")
    text = "labels of training subjects fit a linear classifier of voxels, test subjects score it"
    parser.add_argument("--probe", action="store_true", help=text)
    text = (
        "what neighbours are asked for: a column of the data set's pool_cases.json (modality, source), or a table of "
        'your own: JSON {"case": "label"} or CSV with the columns case,NAME'
    )
    parser.add_argument("--knn", nargs="+", default=[], metavar="NAME[=FILE]", help=text)
    text = "pictures of N cases (without N: 3)"
    parser.add_argument("--pca", type=int, action=at_least(0), nargs="?", const=3, default=0, metavar="N", help=text)
    add_test_subjects(parser)
    add_subjects(parser)
    text = "stages of a voxel's features: all, bottleneck or numbers"
    parser.add_argument("--layers", nargs="+", default=["all"], metavar="L", help=text)
    parser.add_argument("--each-layer", action="store_true", help="with --probe: also every stage alone")
    for option, default, text in (
        ("--cases", None, "use at most N cases (training cases with --probe), drawn over subjects"),
        ("--voxels", 20_000, "that fit the probe, as many of each class (%(default)s)"),
        ("--neighbors", 5, "for --knn (%(default)s)"),
        ("--slices", 5, "for --pca (%(default)s)"),
    ):
        parser.add_argument(option, type=int, action=at_least(1), default=default, metavar="N", help=text)
    text = "that images are resampled to, in the order of the plans; default: as in the pre-training"
    parser.add_argument("--spacing", type=float, nargs="+", metavar="MM", help=text)
    parser.add_argument("--channel", type=int, metavar="N", help="of the data set, for an encoder of one channel")
    add_seed(parser, "voxels, cases, untrained and permuted")
    add_allow_import(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.nnunet.probing.request import FeaturesRequest
    from nnunet_xlstm.nnunet.probing.run import run_features

    given = {key: value for key, value in vars(args).items() if key not in ("cases", "device", "debug")}
    request = FeaturesRequest(**given, max_cases=args.cases, device=resolve_device(args.device))
    print("\n".join(run_features(request)))
    return 0
