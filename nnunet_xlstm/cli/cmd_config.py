"""`nnunet_xlstm config`: the keys that a trainer accepts in the JSON file named by nnUNet_xlstm_config."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--trainer", metavar="NAME", help="show the keys of this trainer with the values of its recipe")
    parser.add_argument("--markdown", action="store_true", help="print the reference page of the documentation")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.config import SegmentationConfig
    from nnunet_xlstm.config.page import rows
    from nnunet_xlstm.nnunet.training.run_config import load_recipe

    if args.markdown:
        print(page(), end="")
        return 0
    recipe = load_recipe(args.trainer) if args.trainer else SegmentationConfig()
    for row in rows(type(recipe)):
        value = json.dumps(getattr(recipe, row.name))
        print(f"{row.name:32} {row.rule:40} default {value:12} {row.text}")
    return 0


def page() -> str:
    """`docs/reference/configuration.md`."""
    from nnunet_xlstm.config import PoolConfig, SegmentationConfig
    from nnunet_xlstm.config.finetuning import FinetuneConfig
    from nnunet_xlstm.config.page import reference_page
    from nnunet_xlstm.config.pretraining import PretrainingConfig
    from nnunet_xlstm.config.semi import SemiConfig
    from nnunet_xlstm.nnunet.training.run_config import load_recipe
    from nnunet_xlstm.registry import TRAINERS

    families = (
        ("Segmentation", SegmentationConfig),
        ("Pools with labels", PoolConfig),
        ("Fine-tuning", FinetuneConfig),
        ("Pre-training", PretrainingConfig),
        ("Semi-supervised", SemiConfig),
    )
    return reference_page(families, {name: load_recipe(name) for name in TRAINERS})
