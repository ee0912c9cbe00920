"""`nnunet_xlstm mesh`: surface meshes of label maps as files, with their volumes and a picture."""

import argparse

from nnunet_xlstm.choices import MESH_BACKENDS, MESH_FORMATS, RENDERERS, SMOOTHING_STEPS, SPACES
from nnunet_xlstm.cli.options import add_dataset_json, add_input, add_output, add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Makes one closed surface per label; touching labels share their wall exactly. The label map's origin, "
        "direction and spacing are applied. Writes OUT/CASE/ID_NAME.stl and OUT/meshes.json with the volume of every "
        "mesh beside that of its voxels."
    )
    add_input(parser, "a label map, or a folder of them", "FILE|DIR")
    add_output(parser, "where the meshes go")
    add_dataset_json(parser, "names of the labels")
    parser.add_argument("--labels", type=int, nargs="+", default=[], metavar="ID", help="only these (default: all)")
    text = "smoothing steps (%(default)s); 0 leaves the faces of the voxels"
    parser.add_argument("--smooth", type=int, default=SMOOTHING_STEPS, metavar="N", help=text)
    text = "one or more (stl); vtp adds walls.vtp, all walls once with the two labels of each triangle"
    parser.add_argument("--format", nargs="+", choices=MESH_FORMATS, default=[MESH_FORMATS[0]], help=text)
    text = "of the points, in mm: LPS as in ITK and DICOM (default), RAS as in NIfTI; stated in every file"
    parser.add_argument("--space", choices=SPACES, default=SPACES[0], help=text)
    text = "numpy (default), or vtkSurfaceNets3D: pip install 'nnunet_xlstm[mesh]'"
    parser.add_argument("--backend", choices=MESH_BACKENDS, default=MESH_BACKENDS[0], help=text)
    text = "also a picture per case, view.png; no display needed (auto: pyvista where it works)"
    parser.add_argument("--render", nargs="?", const="auto", choices=RENDERERS, help=text)
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.meshes.run import Settings, label_names, mesh_files, text_lines

    settings = Settings(
        labels=tuple(dict.fromkeys(args.labels)),
        names=label_names(args.djfile, args.labels),
        steps=args.smooth,
        formats=tuple(dict.fromkeys(args.format)),
        space=args.space,
        backend=args.backend,
        render=args.render,
    )
    inputs = [] if args.djfile is None else [args.djfile]
    content = mesh_files(args.input, args.out, settings, args.processes, inputs)
    print("\n".join(text_lines(content)))
    print(f"\nmeshes in {args.out}, points in mm, {args.space}; volumes in {args.out / 'meshes.json'}")
    return 0
