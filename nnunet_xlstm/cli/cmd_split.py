"""`nnunet_xlstm split`: folds by subject, one part held out, or test subjects."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.output import text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes splits_final.json, which nnUNetv2_train follows, so that all cases of a subject are on one side of "
        "every fold, and sources (of a pool) are spread evenly. Subjects of test_subjects.json are in no fold. Or "
        "draws test subjects (--test). What is there already is replaced only with --overwrite."
    )
    parser.add_argument("-d", dest="dataset", required=True, metavar="DATASET", help="raw: id, name or folder")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--folds", type=int, metavar="N", help="N folds of equal size: train with the folds 0 to N - 1")
    what.add_argument(
        "--holdout", type=float, metavar="SHARE", help="one fold, 0, with this share of the subjects to validate: 0.2"
    )
    what.add_argument(
        "--test",
        type=float,
        metavar="SHARE",
        help="test_subjects.json with this share of the subjects; make folds then",
    )
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--subjects",
        type=Path,
        metavar="FILE",
        help='JSON {"case": "subject"} or CSV with the columns case,subject; default: pool_cases.json, or every case '
        "is a subject",
    )
    whose.add_argument("--subject", metavar="REGEX", help=r"what in a case's name is the subject: '(patient\d+)'")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace other folds or test subjects")


def run(args: argparse.Namespace) -> int:
    from nnunet_xlstm.datasets.case_table import TEST_SUBJECTS, case_subjects, read_test_subjects
    from nnunet_xlstm.datasets.splits import check_replaced, fold_without, held_out, make_folds, split_files
    from nnunet_xlstm.io.write import json_text, write_together
    from nnunet_xlstm.nnunet.loading.raw_images import RawImages

    dataset = RawImages.find(args.dataset)
    cases = [case for case in dataset.images if dataset.labels[case].is_file()]
    subjects = case_subjects(cases, dataset.folder, args.subjects, args.subject)
    groups = _sources(dataset.folder, cases)
    test = dataset.folder / f"{TEST_SUBJECTS}.json"
    if args.test is not None:
        drawn = held_out(subjects, groups, args.test, args.seed)
        contents = {test: {TEST_SUBJECTS: drawn}}
    else:
        tested = read_test_subjects(test) & set(subjects.values()) if test.is_file() else set()
        subjects = {case: subject for case, subject in subjects.items() if subject not in tested}
        if tested:
            print(f"{len(tested)} test subjects of {test} are in no fold")
        if args.folds is not None:
            folds = make_folds(subjects, groups, args.folds, args.seed)
        else:
            folds = [fold_without(subjects, held_out(subjects, groups, args.holdout, args.seed))]
        contents = dict.fromkeys(split_files(dataset.folder), folds)
    if not args.overwrite:
        check_replaced(contents)
    write_together({path: json_text(content) for path, content in contents.items()})
    for line in _test_table(drawn, subjects, groups) if args.test is not None else _table(folds, subjects, groups):
        print(line)
    for path in contents:
        print(f"written: {path}")
    if args.test is not None:
        _warn_of_folds(split_files(dataset.folder), {case for case in cases if subjects[case] in set(drawn)})
    return 0


def _warn_of_folds(paths: list[Path], tested: set[str]) -> None:
    """Folds of an earlier run may train on the new test subjects."""
    from nnunet_xlstm.datasets.raw_dataset import read_folds

    for path in paths:
        if path.is_file() and any(tested & {*fold["train"], *fold["val"]} for fold in read_folds(path)):
            print(f"{path} still has test subjects in its folds: make them anew, with --overwrite")


def _sources(folder: Path, cases: list[str]) -> dict[str, str]:
    """Case -> its source, as pool_cases.json has it; one source for all without."""
    from nnunet_xlstm.datasets.case_index import NAME, read_pool_cases

    known = read_pool_cases(folder / NAME).column("source") if (folder / NAME).is_file() else {}
    return {case: known.get(case, "") for case in cases}


def _table(folds, subjects, groups) -> list[str]:
    names = sorted(set(groups.values()))
    rows = [["fold", "train: subjects", "cases", "validate: subjects", "cases", *(f"of {n}" for n in names if n)]]
    for number, fold in enumerate(folds):
        sides = [text for side in ("train", "val") for text in _counts(fold[side], subjects)]
        own = [len({subjects[case] for case in fold["val"] if groups[case] == name}) for name in names if name]
        rows.append([str(number), *sides, *map(str, own)])
    return [*text_table(rows), ""]


def _counts(cases, subjects) -> list[str]:
    return [str(len({subjects[case] for case in cases})), str(len(cases))]


def _test_table(drawn, subjects, groups) -> list[str]:
    chosen = set(drawn)
    rows = [["source", "subjects", "for testing"]]
    for name in sorted(set(groups.values())):
        own = {subjects[case] for case in subjects if groups[case] == name}
        rows.append([name or "all", str(len(own)), str(len(own & chosen))])
    return [*text_table(rows), ""]
