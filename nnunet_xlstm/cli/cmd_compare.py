"""`nnunet_xlstm compare`: models side by side, from the summary.json of each."""

import argparse
from pathlib import Path

from nnunet_xlstm.choices import ALPHA, MISSING_VALUES, RESAMPLES, UNITS
from nnunet_xlstm.cli.options import add_output, add_seed
from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
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
    add_output(parser, "where the results go")
    parser.add_argument("--metrics", nargs="+", default=[], metavar="M", help="default: Dice HD95 ASSD NSD RVE")
    text = (
        'if subjects have several cases: JSON {"case": "subject"} or CSV with the columns case,subject; means, '
        "intervals, ranks and tests are then of subjects, each the mean over its cases; one for all data sets, or "
        "SET=FILE for each"
    )
    parser.add_argument("--subjects", nargs="+", default=[], metavar="[SET=]FILE", help=text)
    text = "likewise, such as CT or MR: adds a radar, or for 1 or 2 models a chart of dots"
    parser.add_argument("--modality", type=Path, metavar="FILE", help=text)
    parser.add_argument("--cost", type=Path, metavar="FILE", help="from `nnunet_xlstm cost --json`: adds cost figures")
    parser.add_argument("--common", action="store_true", help="compare on the cases that all models have")
    parser.add_argument("--alpha", type=float, default=ALPHA, help="level of significance (%(default)s)")
    text = (
        "what a missing value counts as in tests and ranks; drop: that class of that case is left out for all models "
        "(%(default)s)"
    )
    parser.add_argument("--na", choices=MISSING_VALUES, default=MISSING_VALUES[0], help=text)
    text = "what tests and ranks compare: case averages, or every class as if independent (%(default)s)"
    parser.add_argument("--unit", choices=UNITS, default=UNITS[0], help=text)
    text = "resamples (%(default)s); intervals of fewer than about 10 cases or subjects are too narrow"
    parser.add_argument("--bootstrap", type=int, default=RESAMPLES, metavar="N", help=text)
    add_seed(parser, "the bootstrap")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.comparison.analysis import Settings
    from nnunet_xlstm.comparison.run import compare
    from nnunet_xlstm.comparison.sets.run import compare_sets
    from nnunet_xlstm.comparison.sets.sources import parse_models

    settings = Settings(tuple(args.metrics), args.alpha, args.na, args.unit, args.bootstrap, args.seed, args.common)
    sets = parse_models(args.models, args.subjects)
    if not sets[0].name:
        one = compare(sets[0].models, args.out, settings, sets[0].subjects, args.modality, args.cost)
        lines, page = one.lines(), one.page
    elif args.modality is not None:
        raise ConfigError("--modality is of one data set; compare each by itself for that")
    else:
        inputs = [Path(text) for text in args.models if "=" not in text]
        several = compare_sets(sets, args.out, settings, args.cost, inputs)
        lines, page = several.lines(), several.page
    print("\n".join([*lines, "", f"page: {page}"]))
    return 0


def _model_text(text: str) -> str:
    name, sign, path = text.partition("=")
    if not (sign and name.strip() and path) and not text.endswith(".json"):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=summary.json, such as ours=results/summary.json")
    return text
