"""`nnunet_xlstm plan_like`: plans for a data set with the network, patch and normalisation of a checkpoint."""

import argparse
from pathlib import Path

from nnunet_xlstm.choices import SPACING_MODES
from nnunet_xlstm.cli.options import add_dataset, add_trust


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Plans a data set after a checkpoint, so that its weights fit: same network, patch (cut to the images), "
        "normalisation, and spacing as chosen. Needs the data set's fingerprint (nnUNetv2_extract_fingerprint)."
    )
    parser.add_argument("checkpoint", type=Path, help="of our pre-training, of nnU-Net or of nnssl")
    add_dataset(parser, "target data set: id or name")
    parser.add_argument("-p", dest="plans", default="nnUNetLikePlans", metavar="NAME", help="(%(default)s)")
    parser.add_argument(
        "--spacing",
        choices=SPACING_MODES,
        default=SPACING_MODES[0],
        help="of the pre-training, what nnU-Net plans, --target-spacing, or images as they are (%(default)s)",
    )
    parser.add_argument("--target-spacing", type=float, nargs="+", metavar="MM", help="for fixed, thick slices first")
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.nnunet.transfer.plan_like import plan_like
    from nnunet_xlstm.nnunet.transfer.source import read_source

    source = read_source(args.checkpoint, allow_pickle=args.allow_pickle, allowed=args.allow_import)
    plans, remarks = plan_like(args.dataset, source, args.spacing, args.target_spacing, args.plans)
    ((name, row),) = plans["configurations"].items()
    print(f"plans    {args.plans}, configuration {name}")
    print(f"network  {row['architecture']['network_class_name'].rpartition('.')[2]}")
    print(f"patch    {row['patch_size']}, batch {row['batch_size']}")
    print(f"spacing  {'as the images are' if args.spacing == 'no_resample' else row['spacing']}")
    print(f"norm     {', '.join(row['normalization_schemes'])}")
    for remark in remarks:
        print(f"note: {remark}")
    print(f"\nnext: nnUNetv2_preprocess -d {args.dataset} -plans_name {args.plans} -c {name}")
    print(f"      nnunet_xlstm adapt {args.checkpoint} -d {args.dataset} -p {args.plans} -c {name} -o adapted.pth")
    return 0
