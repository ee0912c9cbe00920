"""`nnunet_xlstm register`: make our trainers and planners findable for stock nnU-Net commands."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Copies one small file into the trainer and the planner folder of the installed nnunetv2. It names our "
        "classes to nnU-Net and imports nothing before one of them is asked for. Repeating it is harmless; repeat it "
        "after an update of nnunetv2 or of nnunet_xlstm. Without write access it says what to use instead."
    )
    parser.add_argument("--remove", action="store_true", help="take the two files out again")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.nnunet.install import registration

    paths = registration.shim_paths()
    done = registration.remove() if args.remove else registration.register()
    for kind, what in done.items():
        print(f"{kind}: {what} ({paths[kind]})")
    return 0
