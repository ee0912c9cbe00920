"""`nnunet_xlstm split`: folds by subject, one part held out, or test subjects."""

import argparse

from nnunet_xlstm.cli.options import add_dataset, add_seed, add_subjects


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Writes splits_final.json, which nnUNetv2_train follows, so that all cases of a subject are on one side of "
        "every fold, and sources (of a pool) are spread evenly. Subjects of test_subjects.json are in no fold. Or "
        "draws test subjects (--test). What is there already is replaced only with --overwrite."
    )
    add_dataset(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--folds", type=int, metavar="N", help="N folds of equal size: train with the folds 0 to N - 1")
    text = "one fold, 0, with this share of the subjects to validate: 0.2"
    what.add_argument("--holdout", type=float, metavar="SHARE", help=text)
    text = "test_subjects.json with this share of the subjects; make folds then"
    what.add_argument("--test", type=float, metavar="SHARE", help=text)
    add_subjects(parser)
    add_seed(parser, "what is drawn")
    parser.add_argument("--overwrite", action="store_true", help="replace other folds or test subjects")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.datasets.split_files import split_dataset
    from nnunet_xlstm.nnunet.loading.raw_images import RawImages

    dataset = RawImages.find(args.dataset)
    cases = [case for case in dataset.images if dataset.labels[case].is_file()]
    drawn = {key: getattr(args, key) for key in ("folds", "holdout", "test", "seed", "overwrite")}
    print("\n".join(split_dataset(dataset.folder, cases, args.subjects, args.subject, **drawn)))
    return 0
