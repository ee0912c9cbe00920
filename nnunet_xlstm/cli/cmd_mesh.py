"""`nnunet_xlstm mesh`: surface meshes of label maps as files, with their volumes and a picture."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.output import text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Makes one closed surface per label; touching labels share their wall exactly. The label map's origin, "
        "direction and spacing are applied. Writes OUT/CASE/ID_NAME.stl and OUT/meshes.json with the volume of every "
        "mesh beside that of its voxels."
    )
    parser.add_argument(
        "-i", dest="source", type=Path, required=True, metavar="FILE|DIR", help="a label map, or a folder of them"
    )
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="where the meshes go")
    parser.add_argument("-djfile", type=Path, metavar="FILE", help="dataset.json, for the names of the labels")
    parser.add_argument("--labels", type=int, nargs="+", default=[], metavar="ID", help="only these (default: all)")
    parser.add_argument(
        "--smooth", type=int, metavar="N", help="smoothing steps (20); 0 leaves the faces of the voxels"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=("stl", "ply", "vtp"),
        default=["stl"],
        help="one or more (stl); vtp adds walls.vtp, all walls once with the two labels of each triangle",
    )
    parser.add_argument(
        "--space",
        choices=("LPS", "RAS"),
        default="LPS",
        help="of the points, in mm: LPS as in ITK and DICOM (default), RAS as in NIfTI; stated in every file",
    )
    parser.add_argument(
        "--backend",
        choices=("numpy", "vtk"),
        default="numpy",
        help="numpy (default), or vtkSurfaceNets3D: pip install 'nnunet_xlstm[mesh]'",
    )
    parser.add_argument(
        "--render",
        nargs="?",
        const="auto",
        choices=("auto", "pyvista", "numpy"),
        help="also a picture per case, view.png; no display needed (auto: pyvista where it works)",
    )
    parser.add_argument("-np", dest="processes", type=int, default=1, metavar="N", help="cases in parallel (1)")


def run(args: argparse.Namespace) -> int:
    from nnunet_xlstm.meshes.run import Settings, label_names, mesh_files
    from nnunet_xlstm.meshes.smooth import STEPS

    settings = Settings(
        labels=tuple(dict.fromkeys(args.labels)),
        names=label_names(args.djfile, args.labels),
        steps=STEPS if args.smooth is None else args.smooth,
        formats=tuple(dict.fromkeys(args.format)),
        space=args.space,
        backend=args.backend,
        render=args.render,
    )
    inputs = [] if args.djfile is None else [args.djfile]
    content = mesh_files(args.source, args.out, settings, args.processes, inputs)
    for line in table(content["cases"]):
        print(line)
    print(f"\nmeshes in {args.out}, points in mm, {args.space}; volumes in {args.out / 'meshes.json'}")
    return 0


def table(cases: dict) -> list[str]:
    """A line per case: how many meshes, the range of mesh volume / voxel volume, and what is amiss."""
    rows, notes = [["case", "meshes", "mesh / voxel volume"]], [""]
    for case, row in cases.items():
        ratios = [label["volume_ratio"] for label in row["labels"].values()]
        span = f"{min(ratios):.4f} to {max(ratios):.4f}" if ratios else "no label to mesh"
        rows.append([case, str(len(ratios)), span])
        flagged = [label for label, entry in row["labels"].items() if "flag" in entry]
        note = f"  off by more than 2 %: label {', '.join(flagged)}" if flagged else ""
        notes.append(note + (f"  absent: label {', '.join(map(str, row['absent']))}" if row["absent"] else ""))
    return [line + note for line, note in zip(text_table(rows), notes, strict=True)]
