"""`nnunet_xlstm features`: what the frozen encoder of a pre-training checkpoint knows, beside controls."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.options import add_allow_import, add_subject_options
from nnunet_xlstm.cli.output import text_table
from nnunet_xlstm.errors import ConfigError, DatasetError, failed_text

ENCODERS = ("trained", "untrained", "permuted")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measures frozen features of a pre-training checkpoint on a raw data set, beside the same network untrained "
        "and with its weights shuffled: effective rank and spread; with --probe Dice of a linear classifier of voxels; "
        "with --knn accuracy of nearest neighbours; with --pca pictures. Writes features.json, and label maps and "
        "scores of the probe for `nnunet_xlstm compare`."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="of a pre-training run")
    parser.add_argument("-d", dest="dataset", required=True, metavar="DATASET", help="raw data set: id, name or folder")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS), help="default: all")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="labels of training subjects fit a linear classifier of voxels, test subjects score it",
    )
    parser.add_argument(
        "--knn",
        nargs="+",
        default=[],
        metavar="NAME[=FILE]",
        help="what neighbours are asked for: a column of the data set's pool_cases.json (modality, source), or "
        'a table of your own: JSON {"case": "label"} or CSV with the columns case,NAME',
    )
    parser.add_argument(
        "--pca", type=int, nargs="?", const=3, default=0, metavar="N", help="pictures of N cases (without N: 3)"
    )
    add_subject_options(parser)
    parser.add_argument(
        "--cases", type=int, metavar="N", help="use at most N cases (training cases with --probe), drawn over subjects"
    )
    parser.add_argument(
        "--layers", nargs="+", default=["all"], metavar="L", help="stages of a voxel's features: all, bottom or numbers"
    )
    parser.add_argument("--each-layer", action="store_true", help="with --probe: also every stage alone")
    parser.add_argument(
        "--voxels",
        type=int,
        default=20_000,
        metavar="N",
        help="that fit the probe, as many of each class (%(default)s)",
    )
    parser.add_argument("--neighbours", type=int, default=5, metavar="K", help="for --knn (%(default)s)")
    parser.add_argument("--slices", type=int, default=5, metavar="N", help="for --pca (%(default)s)")
    parser.add_argument(
        "--spacing",
        type=float,
        nargs="+",
        metavar="MM",
        help="that images are resampled to, in the order of the plans; default: as in the pre-training",
    )
    parser.add_argument("--channel", type=int, metavar="N", help="of the data set, for an encoder of one channel")
    parser.add_argument("--seed", type=int, default=0, help="of voxels, cases, untrained and permuted (%(default)s)")
    add_allow_import(parser)
    parser.add_argument("-device", choices=("cpu", "cuda"), default="cpu", help="(%(default)s)")


def run(args: argparse.Namespace) -> int:
    import logging
    import sys

    _check_numbers(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from nnunet_xlstm import __version__
    from nnunet_xlstm.datasets.case_table import case_subjects
    from nnunet_xlstm.io.protect import protect_inputs
    from nnunet_xlstm.io.write import write_json
    from nnunet_xlstm.nnunet.loading.raw_images import RawImages
    from nnunet_xlstm.nnunet.probing import features
    from nnunet_xlstm.nnunet.probing.cases import Cases
    from nnunet_xlstm.nnunet.probing.frozen_encoder import ENCODERS as ENCODERS_IN_WORDS
    from nnunet_xlstm.nnunet.probing.frozen_encoder import Pretrained

    pretrained = Pretrained.read(args.checkpoint, args.spacing, args.allow_import)
    dataset = RawImages.find(args.dataset)
    cases = Cases(dataset, pretrained, args.channel)
    subjects = case_subjects(list(dataset.images), dataset.folder, args.subjects, args.subject)
    train, test, others = _split(args, dataset, subjects)
    everyone = [*train, *test, *others]
    plan = features.Plan(
        encoders=args.encoders,
        train=train,
        test=test,
        others=others,
        subjects=subjects,
        labels={name: table for name, table in (_labels(text, dataset, everyone) for text in args.knn)},
        shown=features.spread_over_subjects(test or everyone, subjects, args.pca, args.seed),
        slices=args.slices,
        stages=_stages(args.layers),
        each_stage=args.each_layer,
        voxels=args.voxels,
        neighbours=args.neighbours,
        seed=args.seed,
        device=args.device,
    )
    tables = [Path(text.partition("=")[2]) for text in args.knn if "=" in text]
    read = [path for images in dataset.images.values() for path in images] + list(dataset.labels.values())
    read += [dataset.folder / name for name in ("dataset.json", "pool_cases.json", "test_subjects.json")]
    given = [path for path in (args.checkpoint, args.subjects, args.test_subjects) if path]
    protect_inputs(_outputs(args.out, plan, dataset.file.file_ending()), map(Path, [*given, *tables, *read]))
    study = features.Study(cases, plan, args.out, progress=True)
    numbers = study.run()
    if args.probe:
        write_json(args.out / "subjects.json", subjects)
        for encoder_name in args.encoders:
            numbers[encoder_name]["probe"] |= _score(args.out, encoder_name, dataset, test)
    content = {
        "version": __version__,
        "checkpoint": pretrained.origin | {"lineage": pretrained.lineage},
        "dataset": dataset.folder.name,
        "seed": args.seed,
        "settings": {
            "layers": args.layers,
            "voxels": args.voxels,
            "neighbours": args.neighbours,
            "channel": args.channel,
            "spacing": list(pretrained.configuration.spacing),
        },
        "encoders": numbers,
        "encoders in words": {encoder_name: ENCODERS_IN_WORDS[encoder_name] for encoder_name in args.encoders},
        "definitions": features.DEFINITIONS,
        "labels": {name: _counts(table, plan.cases) for name, table in plan.labels.items()},
        "train_cases": train,
        "test_cases": test,
        "cases": plan.cases,
    }
    write_json(args.out / "features.json", content)
    for line in text_table(_rows(numbers)):
        print(line)
    print(f"\nnumbers:  {args.out / 'features.json'}")
    if plan.shown:
        print(f"pictures: {', '.join(str(args.out / f'pca_{case}.png') for case in plan.shown)}")
    if args.probe and len(args.encoders) > 1:
        scores = " ".join(f"{encoder_name}={args.out / encoder_name}.json" for encoder_name in args.encoders)
        print(
            f"intervals: nnunet_xlstm compare {scores} --subjects {args.out / 'subjects.json'} "
            f"-o {args.out / 'comparison'}"
        )
    return 0


def _outputs(out: Path, plan, ending: str) -> list[Path]:
    """All files that the command may write."""
    from nnunet_xlstm.evaluation.run import Outputs

    files = [out / "features.json", *(out / f"pca_{case}.png" for case in plan.shown)]
    if plan.train:
        files.append(out / "subjects.json")
        for encoder_name in plan.encoders:
            files += [*Outputs(out / f"{encoder_name}.json"), out / encoder_name / "dataset.json"]
            files += [out / encoder_name / f"{case}{ending}" for case in plan.test]
    return files


def _check_numbers(args: argparse.Namespace) -> None:
    least = {"pca": 0, "cases": 1, "voxels": 1, "neighbours": 1, "slices": 1}
    for name, low in least.items():
        value = getattr(args, name)
        if value is not None and value < low:
            raise ConfigError(f"--{name} {value} is too small; give {low} or more")
    args.encoders = list(dict.fromkeys(args.encoders))


def _stages(layers: list[str]) -> list[int] | None:
    if layers == ["all"]:
        return None
    try:
        return sorted({-1 if layer == "bottom" else int(layer) for layer in layers})
    except ValueError as error:
        raise ConfigError(
            f"--layers {' '.join(layers)}: give all, or bottom and numbers of stages from 0 on"
        ) from error


def _pool(dataset):
    from nnunet_xlstm.datasets.case_index import NAME, read_pool_cases

    path = dataset.folder / NAME
    return read_pool_cases(path) if path.is_file() else None


def _split(args: argparse.Namespace, dataset, subjects: dict[str, str]) -> tuple[list[str], list[str], list[str]]:
    """Cases that fit the probe, cases that score it, and without a probe all cases as a third list."""
    from nnunet_xlstm.datasets.case_table import TEST_SUBJECTS, read_test_subjects
    from nnunet_xlstm.nnunet.probing.features import spread_over_subjects

    n = args.cases or len(subjects)
    if not args.probe:
        return [], [], spread_over_subjects(subjects, subjects, n, args.seed)
    path = args.test_subjects or dataset.folder / f"{TEST_SUBJECTS}.json"
    named = read_test_subjects(path)
    test = sorted(case for case, subject in subjects.items() if subject in named)
    train = sorted(set(subjects) - set(test))
    for what, cases in (("test", test), ("training", train)):
        if not cases:
            raise ConfigError(
                f"{path}: leaves no {what} case of {len(subjects)}; its subjects are such as {sorted(named)[:2]}, "
                f"those of the cases {list(subjects.values())[:2]}; say what a case's subject is with --subjects "
                "or --subject"
            )
    return spread_over_subjects(train, subjects, n, args.seed), test, []


def _labels(text: str, dataset, cases: list[str]) -> tuple[str, dict[str, str]]:
    """Name, and case -> label, of an argument of --knn."""
    from nnunet_xlstm.datasets.case_table import read_case_table

    name, _, file = text.partition("=")
    if file:
        return name, dict(zip(cases, read_case_table(Path(file), name, cases), strict=True))
    pool = _pool(dataset)
    if pool is None or name not in ("modality", "source"):
        raise ConfigError(
            f"--knn {name}: give modality or source where the data set has a pool_cases.json ({dataset.folder} has "
            f"{'one' if pool else 'none'}), or {name}=FILE with a label of every case"
        )
    table = pool.column(name)
    if missing := [case for case in cases if case not in table]:
        raise ConfigError(f"--knn {name}: pool_cases.json of {dataset.folder} does not know case '{missing[0]}'")
    return name, {case: str(table[case]) for case in cases}


def _counts(table: dict[str, str], cases: list[str]) -> dict[str, int]:
    from collections import Counter

    return dict(Counter(table[case] for case in cases).most_common())


def _score(out: Path, encoder_name: str, dataset, test: list[str]) -> dict:
    """Score the label maps of an encoder as `nnunet_xlstm evaluate` does; return Dice per class and mean."""
    from nnunet_xlstm.evaluation.cases import Pair
    from nnunet_xlstm.evaluation.run import evaluate
    from nnunet_xlstm.evaluation.score import Settings
    from nnunet_xlstm.evaluation.summary import EXTRAS

    ending, classes = dataset.file.file_ending(), dataset.file.scored_labels()
    pairs = [Pair(case, dataset.labels[case], out / encoder_name / f"{case}{ending}") for case in test]
    summary, failed = evaluate(
        pairs, classes, Settings(), out / f"{encoder_name}.json", f"Probe, {encoder_name}", progress=True
    )
    if failed:
        raise DatasetError(failed_text(failed, len(pairs), "scored"))
    names = summary[EXTRAS]["classes"]
    dice = {names[key]: row["Dice"] for key, row in summary["mean"].items()}
    return {"Dice": dice, "mean Dice": summary["foreground_mean"]["Dice"]}


def _rows(encoders: dict[str, dict]) -> list[list[str]]:
    """The table that is printed: a row per measure, a column per encoder."""
    columns = {}
    for encoder_name, numbers in encoders.items():
        column = {
            "effective rank, cases": numbers.get("effective_rank"),
            "effective rank, tokens": numbers.get("effective_rank_tokens"),
            "feature SD, cases": numbers.get("feature_sd"),
        }
        for name, kinds in numbers.get("knn", {}).items():
            # what has only one kind of vector stands in the first row
            column |= {f"kNN {name}, {'all' if kind == 'all' else 'bottom'}": v for kind, v in kinds.items()}
        column |= {f"share found, stage {row['stage']}": row["score"] for row in numbers.get("stages", [])}
        if "probe" in numbers:
            column |= {f"Dice {name}": v for name, v in numbers["probe"]["Dice"].items()}
            column["Dice, mean"] = numbers["probe"]["mean Dice"]
        columns[encoder_name] = column
    names = dict.fromkeys(name for column in columns.values() for name in column)

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    return [["", *columns], *([name, *(cell(column.get(name)) for column in columns.values())] for name in names)]
