"""`nnunet_xlstm cardiac`: volumes, ejection fraction and mass from segmentations at ED and ES."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.output import text_table
from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measures hearts that are segmented at end diastole (ED) and end systole (ES): volumes of both ventricles, "
        "stroke volume, ejection fraction, and the mass of the left ventricle. Writes one JSON file and a CSV with a "
        "row per subject; doubtful values are flagged. With -ref also the differences, their bias and limits of "
        "agreement. For research, not for diagnosis."
    )
    parser.add_argument("-i", dest="source", type=Path, required=True, metavar="DIR", help="label maps of both phases")
    parser.add_argument("-ref", type=Path, metavar="DIR", help="reference label maps of the same names")
    parser.add_argument(
        "-djfile", type=Path, metavar="FILE", help="dataset.json (default: in the -i folder or the one above it)"
    )
    parser.add_argument("-o", dest="out", type=Path, metavar="FILE", help="default: cardiac.json in the -i folder")
    for flag, what in (("lv", "LV cavity"), ("rv", "RV cavity"), ("myo", "LV myocardium")):
        parser.add_argument(f"--{flag}", metavar="LABEL", help=f"{what}: id, ids with commas, or name in dataset.json")
    parser.add_argument("--ed-suffix", default="_ED", metavar="TEXT", help="of the files at ED (%(default)s)")
    parser.add_argument("--es-suffix", default="_ES", metavar="TEXT", help="of the files at ES (%(default)s)")
    parser.add_argument("--pairs", type=Path, metavar="CSV", help="columns subject,ed,es instead of suffixes")
    parser.add_argument("--bsa", type=Path, metavar="CSV", help="columns subject,bsa (m2): adds indexed values")
    parser.add_argument(
        "--density", type=float, default=1.05, metavar="G_PER_ML", help="of the myocardium (%(default)s g/mL)"
    )


def run(args: argparse.Namespace) -> int:
    from nnunet_xlstm.datasets.dataset_json import DatasetFile
    from nnunet_xlstm.evaluation.cardiac import folder
    from nnunet_xlstm.evaluation.cardiac.measures import find_structures, quantities
    from nnunet_xlstm.imaging.images import files_read
    from nnunet_xlstm.io.protect import protect_inputs, protect_other_json
    from nnunet_xlstm.io.tables import csv_text
    from nnunet_xlstm.io.write import json_text, try_writing, write_together

    out = args.out or args.source / "cardiac.json"
    if out.suffix != ".json":
        raise ConfigError(f"-o {out}: give the name of a .json file; the CSV gets its name")
    dataset = args.djfile
    if dataset is None:
        beside = (args.source / "dataset.json", args.source.resolve().parent / "dataset.json")
        dataset = next((path for path in beside if path.is_file()), None)
    table_file = out.with_suffix(".csv")
    protect_inputs([out, table_file], filter(None, (dataset, args.pairs, args.bsa)))
    classes = DatasetFile.read(dataset).scored_labels() if dataset else None
    structures = find_structures(classes, {"LV": args.lv, "RV": args.rv, "MYO": args.myo})
    if args.pairs:
        subjects = folder.pairs_by_table(args.pairs, args.source)
    else:
        subjects = folder.pairs_by_suffix(args.source, (args.ed_suffix, args.es_suffix))
    bsa = folder.read_bsa(args.bsa, subjects) if args.bsa else None
    references = folder.references_of(subjects, args.ref, complete=args.pairs is None) if args.ref else None
    maps = [path for subject in (*subjects, *(references or ())) for path in (subject.ed, subject.es)]
    protect_inputs([out, table_file], files_read(maps))
    protect_other_json(out, "density_g_per_mL")
    try_writing([out, table_file])
    content = folder.measure_subjects(
        subjects,
        structures,
        known=classes.known if classes else None,
        references=references,
        density=args.density,
        bsa=bsa,
    )
    columns = {name: q.column for name, q in quantities(structures, args.density, bsa is not None).items()}
    write_together({table_file: csv_text(*folder.csv_rows(content, columns)), out: json_text(content)})
    for line in table(content):
        print(line)
    print(f"\nresult: {out}\ntable:  {table_file}")
    return 0


def table(content: dict) -> list[str]:
    """The group as lines of text: mean and SD of every quantity, agreement with the references, how many flags.

    n counts the subjects (or pairs with a reference) that have the value.
    """
    labels = ", ".join(f"{name} = {' + '.join(map(str, ids))}" for name, ids in content["labels"].items())
    people = len(content["subjects"])
    lines = [
        f"{people} subject{'s' * (people != 1)}; labels: {labels}; density {content['density_g_per_mL']:g} g/mL",
        "",
    ]
    agreement = content["agreement"]
    rows = [["", "unit", "n", "mean", "SD"] + (["pairs", "bias", "limits of agreement", "r"] if agreement else [])]
    for name, quantity in content["quantities"].items():
        row = [name, quantity["unit"], str(content["n"][name])]
        row += [_number(content["mean"][name]), _number(content["sd"][name])]
        if agreement:
            ours = agreement[name]
            limits = f"{_number(ours['loa_low'])} to {_number(ours['loa_high'])}"
            row += [str(ours["n"]), _number(ours["bias"]), limits, _number(ours["r"], 3)]
        rows.append(row)
    lines += text_table(rows)
    severe = [(row["subject"], flag) for row in content["subjects"] for flag in row["flags"] if "cut off" not in flag]
    edge = sum(any("cut off" in flag for flag in row["flags"]) for row in content["subjects"])
    lines += ["", *(f"{subject}: {flag}" for subject, flag in severe[:20])]
    lines += [f"... and {len(severe) - 20} more"] if len(severe) > 20 else []
    if edge:
        who = "1 subject has" if edge == 1 else f"{edge} subjects have"
        lines.append(f"{who} a structure on the first or last slice (may be cut off): see the flags")
    return lines


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
