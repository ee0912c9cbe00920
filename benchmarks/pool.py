"""Cost of a pool with labels, as ratios: building it, and a training step with its loss.

    python benchmarks/pool.py [--cases 16] [--edge 128] [--preset small] [--patch 64] [--targets 10]

Prints what it measures; the last line is one JSON object:

    build_ratio    time of `pool build` / time of reading, looking up and writing the same label maps and nothing else;
                   two data sets of nested boxes are written to a temporary folder first, and one process does the work
    step_ratio     time of a training step with the loss over annotated targets / with nnU-Net's Dice + cross-entropy,
                   same network, same patches, all scales of deep supervision; in half of the cases half of the targets
                   are annotated

Times are medians; the variants take turns in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch.nn import functional as F

from nnunet_xlstm.losses.partial_labels import PartialLabelLoss
from nnunet_xlstm.networks.build import build_network
from nnunet_xlstm.pools.build import build_pool

NUMBER = 900
MAPPINGS = ({"liver": [1, 2], "tumour": [2]}, {"vessel": [3], "tumour": [1]})


def take_turns(variants: dict[str, Callable], turns: int) -> dict[str, float]:
    """Median seconds per call of each variant; the first call of a variant is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(turns + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    for name, s in seconds.items():
        print(f"  {name:8} {medians[name]:8.4f} s  (fastest {min(s):.4f}, {len(s)} calls)", flush=True)
    return medians


# Building -----------------------------------------------------------------------------------------------------------


def write_sources(root: Path, cases: int, edge: int) -> Path:
    """Two raw data sets of `cases` label maps of edge^3 voxels each, and a POOL.json over both."""
    rng = np.random.default_rng(0)
    rows = []
    for number, mapping in enumerate(MAPPINGS, start=1):
        folder = root / "raw" / f"Dataset{number:03d}_Boxes"
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir(parents=True)
        for case in range(cases):
            label = np.zeros((edge,) * 3, np.uint8)
            for value in (1, 2, 3):
                low = rng.integers(0, edge // 2, 3)
                high = low + rng.integers(edge // 8, edge // 2, 3)
                label[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = value
            image = sitk.GetImageFromArray(label)
            sitk.WriteImage(image, str(folder / "labelsTr" / f"case{case}.nii.gz"), True)
            sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32), str(folder / "imagesTr" / f"case{case}_0000.nii.gz"))
        facts = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "b": 2, "c": 3}}
        (folder / "dataset.json").write_text(json.dumps(facts | {"numTraining": cases, "file_ending": ".nii.gz"}))
        rows.append({"dataset": folder.name, "modality": "CT", "targets": mapping})
    targets = [{"name": "liver"}, {"name": "vessel", "group": "vessel"}, {"name": "tumour", "group": "lesion"}]
    path = root / "POOL.json"
    path.write_text(json.dumps({"targets": targets, "hierarchy": [["liver", "tumour"]], "sources": rows}))
    return path


def build_variants(root: Path, path: Path) -> dict[str, Callable]:
    runs = iter(range(100))

    def ours() -> None:
        run = root / f"run{next(runs)}"
        (run / "raw").mkdir(parents=True)
        for source in (root / "raw").iterdir():
            os.symlink(source, run / "raw" / source.name)
        os.environ.update(nnUNet_raw=str(run / "raw"), nnUNet_preprocessed=str(run / "preprocessed"))
        build_pool(path, NUMBER)

    def bare() -> None:
        out = root / f"run{next(runs)}"
        out.mkdir()
        table = np.array([0, 1, 4, 3], np.uint8)
        for file in sorted((root / "raw").glob("*/labelsTr/*.nii.gz")):
            image = sitk.ReadImage(str(file))
            result = sitk.GetImageFromArray(table.take(sitk.GetArrayViewFromImage(image)))
            result.CopyInformation(image)
            sitk.WriteImage(result, str(out / f"{file.parts[-3]}_{file.name}"), True)

    return {"build": ours, "bare": bare}


# A training step ------------------------------------------------------------------------------------------------------


def step_variants(args: argparse.Namespace) -> dict[str, Callable]:
    patch = (args.patch,) * 3
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(args.batch, 1, *patch, generator=generator).to(memory_format=torch.channels_last_3d)
    labels = torch.randint(0, args.targets + 1, (args.batch, 1, *patch), generator=generator).float()
    valid = torch.ones(args.batch, args.targets, dtype=torch.bool)
    valid[::2, ::2] = False

    def scales(network: torch.nn.Module) -> tuple[list[torch.Tensor], list[float]]:
        with torch.no_grad():
            sizes = [output.shape[2:] for output in network(data)]
        weights = [0.5**i for i in range(len(sizes))]
        weights[-1] = 0.0
        return [F.interpolate(labels, size) for size in sizes], [w / sum(weights) for w in weights]

    def variant(classes: int, make_loss) -> Callable:
        torch.manual_seed(0)
        network = build_network(args.preset, patch, num_classes=classes, deep_supervision=True)
        network.to(memory_format=torch.channels_last_3d)
        optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.99, nesterov=True)
        loss, target = make_loss(*scales(network))

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss(network(data), target).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
            optimizer.step()

        return run

    def annotated(maps: list[torch.Tensor], weights: list[float]):
        numbers = torch.arange(1, args.targets + 1).view(1, -1, 1, 1, 1)
        return partial(PartialLabelLoss(weights), valid=valid), [one == numbers for one in maps]

    def stock(maps: list[torch.Tensor], weights: list[float]):
        dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
        one = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
        return DeepSupervisionWrapper(one, weights), maps

    return {"partial": variant(args.targets, annotated), "stock": variant(args.targets + 1, stock)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=16, help="label maps of each of the two data sets")
    parser.add_argument("--edge", type=int, default=128, help="of a label map in voxels")
    parser.add_argument("--preset", default="small", help="network")
    parser.add_argument("--patch", type=int, default=64, help="edge in voxels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--targets", type=int, default=10)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = write_sources(Path(folder), args.cases, args.edge)
        print(f"pool build, 2 x {args.cases} label maps of {args.edge}^3", flush=True)
        building = take_turns(build_variants(Path(folder), path), args.turns)
    print(f"step of {args.preset}, {args.batch} x {args.patch}^3, {args.targets} targets", flush=True)
    steps = take_turns(step_variants(args), args.turns)
    result = {
        "build_ratio": building["build"] / building["bare"],
        "step_ratio": steps["partial"] / steps["stock"],
        "seconds": building | steps,
        "threads": args.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
