"""`nnunet_xlstm compare`: models side by side, from the summary.json of each."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.text_table import text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compares models that were evaluated on the same cases: means, bootstrap intervals, paired Wilcoxon tests with "
        "Holm's correction, rankings and their stability. Writes tables (CSV, Markdown, LaTeX), figures (PNG, SVG), "
        "comparison.json and index.html."
    )
    parser.add_argument(
        "models",
        nargs="+",
        type=_model,
        metavar="NAME=FILE",
        help="a model and its summary.json, or the folder that holds it",
    )
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--metrics", nargs="+", default=[], metavar="M", help="default: Dice HD95 ASSD NSD RVE")
    parser.add_argument(
        "--subjects",
        type=Path,
        metavar="FILE",
        help='if subjects have several cases: JSON {"case": "subject"} or CSV with the columns case,subject; '
        "means, intervals, ranks and tests are then of subjects, each the mean over its cases",
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
    from nnunet_xlstm.comparison.run import compare

    settings = Settings(tuple(args.metrics), args.alpha, args.na, args.unit, args.bootstrap, args.seed, args.common)
    found = compare(args.models, args.out, settings, args.subjects, args.modality, args.cost)
    for line in table(found.material.names, found.results):
        print(line)
    for text in (*found.notes, found.answer):
        print(f"\n{text}")
    print(f"\npage: {found.page}")
    return 0


def table(names: list[str], results: list) -> list[str]:
    """Mean ± SD per model and metric as lines of text; n where not all cases or subjects have a value."""
    from nnunet_xlstm.comparison.tables import cell, title

    rows = [["model", *(title(r.metric) for r in results)]]
    for m, name in enumerate(names):
        rows.append([name, *(cell(r, m, -1) for r in results)])
    return text_table(rows)


def _model(text: str) -> tuple[str, Path]:
    name, sign, path = text.partition("=")
    if not (sign and name.strip() and path):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=summary.json, such as ours=results/summary.json")
    return name.strip(), Path(path)
