"""`nnunet_xlstm config`: the keys that a trainer accepts in the JSON file named by nnUNet_xlstm_config."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="print the reference page of the documentation")


def run(args: argparse.Namespace) -> int:
    from nnunet_xlstm.config import SegmentationConfig, reference_page, rows

    if args.markdown:
        print(reference_page(), end="")
        return 0
    for row in rows(SegmentationConfig):
        print(f"{row.name:32} {row.type:20} default {row.default:8} {row.text}")
    return 0
