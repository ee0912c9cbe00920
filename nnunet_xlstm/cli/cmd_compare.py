"""`nnunet_xlstm compare`: models side by side, from the summary.json of each."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.output import text_table
from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compares models that were evaluated on the same cases: means, bootstrap intervals, paired Wilcoxon tests with "
        "Holm's correction, rankings and their stability. Writes tables (CSV, Markdown, LaTeX), figures (PNG, SVG), "
        "comparison.json and index.html. With SET:NAME=FILE, or a JSON file, on several data sets: one table and "
        "figure of all, with the mean over the data sets."
    )
    parser.add_argument(
        "models",
        nargs="+",
        type=_model_text,
        metavar="[SET:]NAME=FILE",
        help="a model and its summary.json, or the folder that holds it; with SET: for several data sets. Or one JSON "
        'file: {"SET": {"NAME": "FILE"}}',
    )
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--metrics", nargs="+", default=[], metavar="M", help="default: Dice HD95 ASSD NSD RVE")
    parser.add_argument(
        "--subjects",
        nargs="+",
        metavar="[SET=]FILE",
        help='if subjects have several cases: JSON {"case": "subject"} or CSV with the columns case,subject; '
        "means, intervals, ranks and tests are then of subjects, each the mean over its cases; one for all data sets, "
        "or SET=FILE for each",
    )
    parser.add_argument(
        "--modality",
        type=Path,
        metavar="FILE",
        help="likewise, such as CT or MR: adds a radar, or for 1 or 2 models a chart of dots",
    )
    parser.add_argument("--cost", type=Path, metavar="FILE", help="from `nnunet_xlstm cost --json`: adds cost figures")
    parser.add_argument("--common", action="store_true", help="compare on the cases that all models have")
    parser.add_argument("--alpha", type=float, default=0.05, help="level of significance (%(default)s)")
    parser.add_argument(
        "--na",
        choices=("worst", "drop"),
        default="worst",
        help="what a missing value counts as in tests and ranks; drop: that class of that case is left out for all "
        "models (%(default)s)",
    )
    parser.add_argument(
        "--unit",
        choices=("case", "case_class"),
        default="case",
        help="what tests and ranks compare: case averages, or every class as if independent (%(default)s)",
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="resamples (%(default)s); intervals of fewer than about 10 cases or subjects are too narrow",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (%(default)s)")


def run(args: argparse.Namespace) -> int:
    from nnunet_xlstm.comparison.analysis import Settings

    settings = Settings(tuple(args.metrics), args.alpha, args.na, args.unit, args.bootstrap, args.seed, args.common)
    if is_json(args.models) or any(":" in name for name, _ in map(model, args.models)):
        return _compare_sets(args, settings)
    from nnunet_xlstm.comparison.run import compare

    if args.subjects and len(args.subjects) > 1:
        raise ConfigError(f"--subjects {' '.join(args.subjects)}: give one file; SET=FILE is for models SET:NAME=FILE")
    subjects = Path(args.subjects[0]) if args.subjects else None
    found = compare([*map(model, args.models)], args.out, settings, subjects, args.modality, args.cost)
    for line in table(found.models.names, found.results):
        print(line)
    for text in (*found.notes, found.conclusion):
        print(f"\n{text}")
    print(f"\npage: {found.page}")
    return 0


def _compare_sets(args: argparse.Namespace, settings) -> int:
    from nnunet_xlstm.comparison.sets.run import compare_sets
    from nnunet_xlstm.comparison.sets.tables import overall_table, paper_tables

    if args.modality is not None:
        raise ConfigError("--modality is of one data set; compare each by itself for that")
    inputs = [Path(args.models[0])] if is_json(args.models) else []
    found = compare_sets(_sets(args.models, args.subjects or []), args.out, settings, args.cost, inputs)
    for r, (caption, header, rows) in zip(
        found.results, paper_tables(found.names, found.sets, found.results), strict=True
    ):
        print(caption)
        overall_header, overall = overall_table(found.names, r)
        plain = [[text for text, _ in row] for row in rows]
        for line in (*text_table([header, *plain]), "", *text_table([overall_header, *overall]), ""):
            print(line)
    for text in (*found.notes, found.conclusion):
        print(f"{text}\n")
    print(f"page: {found.page}")
    return 0


def is_json(models: list[str]) -> bool:
    """Whether a file names the models.

    Raises:
        ConfigError: a file beside models, or several.
    """
    files = [text for text in models if "=" not in text]
    if files and len(models) > 1:
        raise ConfigError(f"{files[0]}: give one JSON file alone, or models as NAME=FILE")
    return bool(files)


def _sets(models: list[str], subjects: list[str]) -> list:
    """The data sets of SET:NAME=FILE or of a JSON file, each with its subjects."""
    from dataclasses import replace

    from nnunet_xlstm.comparison.sets.analysis import ModelSet
    from nnunet_xlstm.comparison.sets.run import read_sets

    if is_json(models):
        sets = read_sets(Path(models[0]))
    else:
        files: dict[str, list[tuple[str, Path]]] = {}
        for text in models:
            one, colon, name = model(text)[0].partition(":")
            if not (one.strip() and colon and name.strip()):
                raise ConfigError(f"'{text}': some models name a data set; name one for all, SET:NAME=FILE")
            files.setdefault(one.strip(), []).append((name.strip(), model(text)[1]))
        sets = [ModelSet(one, found) for one, found in files.items()]
    if not subjects:
        return sets
    named = dict(text.partition("=")[::2] for text in subjects if "=" in text)
    if len(subjects) == 1 and not named:
        return [replace(one, subjects=Path(subjects[0])) for one in sets]
    if len(named) < len(subjects) or not set(named) <= {one.name for one in sets}:
        raise ConfigError(
            f"--subjects {' '.join(subjects)}: give one file for all, or SET=FILE; the data sets are "
            f"{', '.join(one.name for one in sets)}"
        )
    return [replace(one, subjects=Path(named[one.name]) if one.name in named else None) for one in sets]


def table(names: list[str], results: list) -> list[str]:
    """Mean ± SD per model and metric as lines of text; n where not all cases or subjects have a value."""
    from nnunet_xlstm.comparison.tables import cell, title

    rows = [["model", *(title(r.metric) for r in results)]]
    for m, name in enumerate(names):
        rows.append([name, *(cell(r, m, -1) for r in results)])
    return text_table(rows)


def model(text: str) -> tuple[str, Path]:
    """Name and file of NAME=FILE."""
    name, _, path = text.partition("=")
    return name.strip(), Path(path)


def _model_text(text: str) -> str:
    name, sign, path = text.partition("=")
    if not (sign and name.strip() and path) and not text.endswith(".json"):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=summary.json, such as ours=results/summary.json")
    return text
