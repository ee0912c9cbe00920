"""`nnunet_xlstm unlabelled`: a data set of images without labels."""

import argparse

from nnunet_xlstm.choices import MODALITIES
from nnunet_xlstm.cli.options import add_input, add_new_dataset, add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Makes nnUNet_raw/DatasetXXX_NAME from images of one modality, or adds new images to it: 3D files are left "
        "where they are, 2D images become volumes of one slice, 4D images one case per frame, DICOM series are "
        "converted. A body mask takes the place of the label, so that stock planning and preprocessing run. What "
        "cannot be used is listed in excluded.csv."
    )
    add_input(parser, "images, folders, lists of paths (text)", "PATH", nargs="+")
    parser.add_argument("--modality", required=True, choices=MODALITIES, help="of all images")
    add_new_dataset(parser, "Unlabelled")
    parser.add_argument("--dicom", action="store_true", help="the folders hold DICOM series")
    parser.add_argument(
        "--subject", metavar="REGEX", help="finds the subject in the path below the input (its first group, or all)"
    )
    parser.add_argument(
        "--channels", nargs="+", default=[], metavar="NAME=GLOB", help="registered sequences that make one case"
    )
    parser.add_argument(
        "--min-slices", type=int, default=1, metavar="N", help="leave out images with fewer slices (%(default)s)"
    )
    parser.add_argument(
        "--last-axis-is-time", action="store_true", help="of 3D files too: each slice is a frame (4D files: always)"
    )
    parser.add_argument(
        "--time",
        default="frames",
        metavar="MODE",
        help="what a sequence becomes: frames, a case each; axis, one volume of 2D+t whose third axis is time; "
        "channels, one case whose channels are frames (%(default)s)",
    )
    parser.add_argument("--n-frames", type=int, metavar="N", help="with --time channels: even over the cycle (3)")
    parser.add_argument(
        "--frame-interval",
        type=float,
        metavar="MS",
        help="with --time axis: between frames, in place of what the files say",
    )
    add_processes(parser, "images")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.datasets.build import summary_lines
    from nnunet_xlstm.datasets.time_modes import TimeMode
    from nnunet_xlstm.datasets.unlabelled import make_unlabelled

    names = ("dicom", "subject", "channels", "min_slices", "last_axis_is_time", "processes")
    options = {name: getattr(args, name) for name in names}
    time = TimeMode.of(args.time, args.n_frames, args.frame_interval)
    dataset, summary = make_unlabelled(args.input, args.modality, args.number, args.name, time=time, **options)
    print("\n".join(summary_lines(dataset, summary, args.number)))
    return 0
