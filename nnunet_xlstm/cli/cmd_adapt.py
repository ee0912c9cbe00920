"""`nnunet_xlstm adapt`: a trained network fitted to another data set's plans, for nnU-Net's -pretrained_weights."""

import argparse
from pathlib import Path

from nnunet_xlstm.cli.options import add_trust_options
from nnunet_xlstm.cli.output import text_table
from nnunet_xlstm.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Fits the encoder of a checkpoint to the network of a plans file and says what was loaded, adapted, skipped "
        "and missing. Takes checkpoints of our pre-training, of nnU-Net, of nnssl, and bare state dicts. The result "
        "is for nnUNetv2_train ... -pretrained_weights FILE."
    )
    parser.add_argument("checkpoint", type=Path, help="what to transfer (.pth)")
    parser.add_argument("-d", dest="dataset", required=True, metavar="DATASET", help="target data set: id or name")
    parser.add_argument("-p", dest="plans", required=True, metavar="PLANS", help="plans of the target")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", metavar="NAME", help="(%(default)s)")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="FILE", help="the adapted checkpoint")
    parser.add_argument(
        "--weights", choices=("teacher", "student"), help="of a pre-training; default: what its `export_branch` says"
    )
    parser.add_argument(
        "--scope",
        choices=("encoder", "bottom", "all"),
        default="encoder",
        help="encoder with its bottom, the bottom alone, or also the decoder where it fits (%(default)s)",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        default=[],
        metavar="TARGET=SOURCE[,SOURCE]",
        help="input channels by number, such as 0=1 1=0; default: by name, else all for each",
    )
    parser.add_argument(
        "--rename", nargs="+", default=[], metavar="OLD=NEW", help="prefixes of tensor names in a bare state dict"
    )
    parser.add_argument(
        "--min-loaded", type=float, default=0.9, help="share of the encoder that must arrive (%(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="accept other kernels, strides and scans")
    add_trust_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the tensors that start anew (%(default)s)")


def run(args: argparse.Namespace) -> int:
    from nnunet_xlstm.io.write import write_json
    from nnunet_xlstm.nnunet.transfer import adapt
    from nnunet_xlstm.nnunet.transfer.source import read_source
    from nnunet_xlstm.nnunet.transfer.target import Target

    channels = _channels(args.channels)
    if not 0 <= args.min_loaded <= 1:
        raise ConfigError(f"--min-loaded {args.min_loaded}: give a share between 0 and 1")
    if args.seed < 0:
        raise ConfigError(f"--seed {args.seed}: give 0 or more")
    _check_out(args)
    options = adapt.Options(args.scope, channels, args.force, args.min_loaded, args.seed)
    target = Target.read(args.dataset, args.plans, args.configuration, args.allow_import)
    renames = _pairs("--rename", args.rename)
    source = read_source(args.checkpoint, args.weights, args.allow_pickle, renames, args.allow_import)
    adapted = adapt.adapt(source, target, options)
    adapt.write(adapted, source, target, options, args.out)
    checked = adapt.verify(adapted, args.out, target, args.seed + 1)
    write_json(args.out.with_suffix(".json"), adapt.report(adapted, source, target, options))
    for line in text_table([adapted.table.header(), *([str(cell) for cell in row] for row in adapted.table.by_part())]):
        print(line)
    print()
    for line in adapted.table.details():
        print(line)
    for line in adapted.differences:
        print(f"forced: {line}")
    for line in adapted.remarks:
        print(f"note: {line}")
    print(
        f"\n{adapted.table.share():.1%} of the wanted numbers come from {args.checkpoint.name} ({source.kind}); "
        f"{checked} tensors compared after nnU-Net's own loading: equal"
    )
    print(f"report: {args.out.with_suffix('.json')}")
    print(
        f"next:   nnUNetv2_train {args.dataset} {args.configuration} 0 -tr nnUNetTrainerFinetune -p {args.plans} "
        f"-pretrained_weights {args.out}"
    )
    return 0


def _check_out(args: argparse.Namespace) -> None:
    """The report goes beside the file, to its name with .json: no plans may lie there."""
    from nnunet_xlstm.io.protect import protect_inputs, protect_other_json
    from nnunet_xlstm.nnunet.transfer.target import preprocessed_folder

    out, report = args.out, args.out.with_suffix(".json")
    if out.suffix != ".pth" or out.is_dir():
        raise ConfigError(f"-o {out}: name a file that ends in .pth, such as {out.with_suffix('.pth').name}")
    folder = preprocessed_folder(args.dataset, "dataset.json", "nnUNetv2_plan_and_preprocess")
    protect_inputs([out, report], [args.checkpoint, *folder.glob("*.json")])
    protect_other_json(report, "scope")


def _pairs(option: str, texts: list[str]) -> dict[str, str]:
    pairs = dict(text.split("=", 1) for text in texts if "=" in text)
    if len(pairs) != len(texts):
        raise ConfigError(f"{option} {' '.join(texts)}: give pairs such as OLD=NEW, each once")
    return pairs


def _channels(texts: list[str]) -> dict[int, list[int]] | None:
    pairs = _pairs("--channels", texts)
    try:
        return {int(j): [int(i) for i in sources.split(",")] for j, sources in pairs.items()} or None
    except ValueError as error:
        raise ConfigError(
            f"--channels {' '.join(texts)}: give target channel = source channels, by number, such as 0=1 1=0,1"
        ) from error
