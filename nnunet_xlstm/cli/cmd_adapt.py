"""`nnunet_xlstm adapt`: a trained network fitted to another data set's plans, for nnU-Net's -pretrained_weights."""

import argparse
from pathlib import Path

from nnunet_xlstm.choices import BRANCHES, MIN_LOADED, SCOPES
from nnunet_xlstm.cli.options import add_dataset, add_output, add_seed, add_trust, pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Fits the encoder of a checkpoint to the network of a plans file and says what was loaded, adapted, skipped "
        "and missing. Takes checkpoints of our pre-training, of nnU-Net, of nnssl, and bare state dicts. The result "
        "is for nnUNetv2_train ... -pretrained_weights FILE."
    )
    parser.add_argument("checkpoint", type=Path, help="what to transfer (.pth)")
    add_dataset(parser, "target data set: id or name")
    parser.add_argument("-p", dest="plans", required=True, metavar="PLANS", help="plans of the target")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", metavar="NAME", help="(%(default)s)")
    add_output(parser, "the adapted checkpoint", "FILE")
    parser.add_argument("--weights", choices=BRANCHES, help="of a pre-training; default: what its `export_branch` says")
    parser.add_argument(
        "--scope",
        choices=SCOPES,
        default=SCOPES[0],
        help="encoder with its bottleneck, the bottleneck alone, or also the decoder where it fits (%(default)s)",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        default=[],
        metavar="TARGET=SOURCE[,SOURCE]",
        help="input channels by number, such as 0=1 1=0; default: by name, else all for each",
    )
    parser.add_argument(
        "--rename", nargs="+", default=[], metavar="OLD=NEW", help="prefixes of tensor names in a bare state dict"
    )
    parser.add_argument(
        "--min-loaded", type=float, default=MIN_LOADED, help="share of the encoder that must arrive (%(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="accept other kernels, strides and scans")
    add_trust(parser)
    add_seed(parser, "the tensors that start anew")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.nnunet.transfer import adapt
    from nnunet_xlstm.nnunet.transfer.source import read_source
    from nnunet_xlstm.nnunet.transfer.target import Target
    from nnunet_xlstm.nnunet.transfer.tensors import parse_channels

    channels = parse_channels(pairs("--channels", args.channels))
    options = adapt.Options(args.scope, channels, args.force, args.min_loaded, args.seed)
    adapt.check_output(args.out, args.checkpoint, args.dataset)
    target = Target.read(args.dataset, args.plans, args.configuration, args.allow_import)
    renames = pairs("--rename", args.rename)
    source = read_source(args.checkpoint, args.weights, args.allow_pickle, renames, args.allow_import)
    adapted = adapt.adapt(source, target, options)
    checked = adapt.write(adapted, source, target, options, args.out)
    print("\n".join(adapted.lines()))
    print(
        f"\n{adapted.table.share():.1%} of the wanted parameters come from {args.checkpoint.name} ({source.kind}); "
        f"{checked} tensors compared after nnU-Net's own loading: equal"
    )
    print(f"report: {args.out.with_suffix('.json')}")
    print(
        f"next:   nnUNetv2_train {args.dataset} {args.configuration} 0 -tr nnUNetTrainerFinetune -p {args.plans} "
        f"-pretrained_weights {args.out}"
    )
    return 0
