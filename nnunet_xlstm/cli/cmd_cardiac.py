"""`nnunet_xlstm cardiac`: volumes, ejection fraction and mass from segmentations at ED and ES."""

import argparse
from pathlib import Path

from nnunet_xlstm.choices import DENSITY_G_PER_ML, PHASE_SUFFIXES
from nnunet_xlstm.cli.options import add_dataset_json, add_input, add_output, add_reference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Measures hearts that are segmented at end diastole (ED) and end systole (ES): volumes of both ventricles, "
        "stroke volume, ejection fraction, and the mass of the left ventricle. Writes one JSON file and a CSV with a "
        "row per subject; doubtful values are flagged. With -ref also the differences, their bias and limits of "
        "agreement. For research, not for diagnosis."
    )
    add_input(parser, "label maps of both phases")
    add_reference(parser)
    add_dataset_json(parser, "names of the labels (default: in the -i folder or the one above it)")
    add_output(parser, "default: cardiac.json in the -i folder", "FILE", required=False)
    for flag, what in (("lv", "LV cavity"), ("rv", "RV cavity"), ("myo", "LV myocardium")):
        parser.add_argument(f"--{flag}", metavar="LABEL", help=f"{what}: id, ids with commas, or name in dataset.json")
    for flag, suffix in zip(("ed", "es"), PHASE_SUFFIXES, strict=True):
        text = f"of the files at {flag.upper()} (%(default)s)"
        parser.add_argument(f"--{flag}-suffix", default=suffix, metavar="TEXT", help=text)
    parser.add_argument("--pairs", type=Path, metavar="CSV", help="columns subject,ed,es instead of suffixes")
    parser.add_argument("--bsa", type=Path, metavar="CSV", help="columns subject,bsa (m2): adds indexed values")
    parser.add_argument(
        "--density",
        type=float,
        default=DENSITY_G_PER_ML,
        metavar="G_PER_ML",
        help="of the myocardium (%(default)s g/mL)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.evaluation.cardiac.run import measure_folder, text_lines

    out = args.out or args.input / "cardiac.json"
    content = measure_folder(
        args.input,
        out,
        {"LV": args.lv, "RV": args.rv, "MYO": args.myo},
        dataset_json=args.djfile,
        references=args.ref,
        suffixes=(args.ed_suffix, args.es_suffix),
        pairs=args.pairs,
        bsa=args.bsa,
        density=args.density,
    )
    print("\n".join(text_lines(content)))
    print(f"\nresult: {out}\ntable:  {out.with_suffix('.csv')}")
    return 0
