"""Cost of a pre-training step and of making views, as ratios.

    python benchmarks/ssl_step.py [--preset heartseg_30m] [--patch 64] [--batch 2] [--trainer nnUNetTrainerDINO]

Prints what it measures; the last line is one JSON object:

    step_ratio     time of one optimizer step (two global views per image, one batch) / time of the bare work it does:
                   the student's encoder forward and backward on both views, the teacher's forward, the same optimizer
    memory_ratio   peak memory of the step / of the bare work, each in a fresh process, above what the imports take
    views_ratio    views per second of our loader / samples per second of nnU-Net's own augmentation at the same patch,
                   both from an image in memory, both with one thread

The step is that of the trainer's recipe. Times are medians; the variants take turns in one process.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from bench import number_of

from nnunet_xlstm import registry
from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.networks.build import build_network
from nnunet_xlstm.nnunet.loading.views import ViewLoader
from nnunet_xlstm.nnunet.training.optim import make_optimizer
from nnunet_xlstm.pretraining.student_teacher import StudentTeacher
from nnunet_xlstm.pretraining.views import ViewBatch, Views

SPACING = (1.0, 1.0, 1.0)


def recipe(trainer: str) -> PretrainingConfig:
    """The trainer's keys, for one batch per step."""
    config = getattr(importlib.import_module(registry.TRAINERS[trainer]), trainer).recipe
    return dataclasses.replace(config, gradient_accumulation=1, freeze_prototypes_epochs=0)


def encoder(preset: str, patch: int) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_network(preset, (patch,) * 3, deep_supervision=False)
    return network.encoder.to(memory_format=torch.channels_last_3d)


def batch(patch: int, size: int) -> ViewBatch:
    boxes = torch.tensor([[0.0, 0.7]] * 3).repeat(size, 2, 1, 1)
    boxes[:, 1, :, 0] = 0.2
    return ViewBatch(torch.randn(size, 2, 1, patch, patch, patch), boxes, torch.zeros(size, 2, 3, dtype=torch.bool))


def full_step(args: argparse.Namespace) -> Callable[[], None]:
    config = recipe(args.trainer)
    method = StudentTeacher(encoder(args.preset, args.patch), 1, (args.patch,) * 3, config)
    method.to(memory_format=torch.channels_last_3d)
    optimizer = make_optimizer(method, config)
    views = batch(args.patch, args.batch)
    step = 0

    def run() -> None:
        nonlocal step
        method.set_step(step, 1000, 250)
        optimizer.zero_grad(set_to_none=True)
        method(views)["loss"].backward()
        method.freeze_prototypes()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 3.0)
        optimizer.step()
        method.step_statistics()
        method.end_step(step, 1000)
        step += 1

    return run


def bare_step(args: argparse.Namespace) -> Callable[[], None]:
    student = encoder(args.preset, args.patch)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = make_optimizer(student, recipe(args.trainer))
    views = batch(args.patch, args.batch).global_views.flatten(0, 1)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            teacher(views)
        student(views)[-1].mean().backward()
        optimizer.step()

    return run


STEPS = {"step": full_step, "bare": bare_step}


class OneImage:
    """Stands for nnU-Net's data set: one image in memory."""

    identifiers = ["image"]

    def __init__(self, edge: int):
        self.image = np.random.default_rng(0).normal(size=(1, edge, edge, edge)).astype(np.float32)
        self.segmentation = np.ones((1, edge, edge, edge), np.int16)

    def load_case(self, key: str):
        middle = self.image.shape[1] // 2
        return self.image, self.segmentation, None, {"class_locations": {1: [(0, middle, middle, middle)]}}


def our_views(args: argparse.Namespace) -> Callable[[], int]:
    """Two views of one image."""
    config = recipe(args.trainer)
    loader = ViewLoader(OneImage(2 * args.patch), 1, Views((args.patch,) * 3, SPACING, config, True), 0.33)
    return lambda: len(loader.generate_train_batch()["global_views"][0])


def stock_samples(args: argparse.Namespace) -> Callable[[], int]:
    """One sample of nnU-Net's loader with its training transforms."""
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Labels:
        has_ignore_label, all_labels = False, [0, 1]

    patch = (args.patch,) * 3
    rotation = (-30 / 360 * 2 * np.pi, 30 / 360 * 2 * np.pi)
    transforms = nnUNetTrainer.get_training_transforms(np.array(patch), rotation, None, (0, 1, 2), False)
    initial = get_patch_size(patch, rotation, rotation, rotation, (0.85, 1.25))
    loader = nnUNetDataLoader(OneImage(2 * args.patch), 1, initial, patch, Labels(), 0.33, transforms=transforms)
    return lambda: len(loader.generate_train_batch()["data"])


def take_turns(variants: dict[str, Callable], turns: int) -> dict[str, float]:
    """Median seconds per call of each variant; the first call of a variant is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(turns):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    for name, s in seconds.items():
        print(f"  {name:8} {medians[name]:8.4f} s  (fastest {min(s):.4f}, {len(s)} calls)", flush=True)
    return medians


def mean_seconds_per_view(variants: dict[str, Callable], turns: int) -> dict[str, float]:
    """Mean, not median: a random change of intensity that is seldom drawn counts too."""
    spent, made = dict.fromkeys(variants, 0.0), dict.fromkeys(variants, 0)
    for turn in range(turns + 1):
        for name, run in variants.items():
            np.random.seed(turn)
            torch.manual_seed(turn)
            start = time.perf_counter()
            n = run()
            if turn:
                spent[name] += time.perf_counter() - start
                made[name] += n
    for name in variants:
        print(f"  {name:8} {spent[name] / made[name]:8.4f} s per view  ({made[name]} views)", flush=True)
    return {name: spent[name] / made[name] for name in variants}


def peak_mb() -> float:
    """Largest resident memory of this process so far (Linux; `ru_maxrss` would hold the parent's)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def memory_of(variant: str, args: argparse.Namespace) -> float:
    """Peak megabytes above the imports, in a fresh process, over two steps (the second has the optimizer's state)."""
    flags = [f"--{k}={getattr(args, k)}" for k in ("preset", "patch", "batch", "trainer", "threads")]
    megabytes = number_of(__file__, "--memory-of", variant, *flags)
    print(f"  {variant:8} {megabytes:8.1f} MB", flush=True)
    return megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainers = [name for name in registry.TRAINERS if "DINO" in name or "Masked" in name]
    parser.add_argument("--preset", default="heartseg_30m", help="network")
    parser.add_argument("--patch", type=int, default=64, help="edge of a view in voxels")
    parser.add_argument("--batch", type=int, default=2, help="images")
    parser.add_argument("--trainer", default="nnUNetTrainerDINO", choices=trainers)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--view-turns", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", choices=list(STEPS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        before = peak_mb()
        run = STEPS[args.memory_of](args)
        run()
        run()
        print(peak_mb() - before)
        return
    print(f"{args.trainer}, {args.preset}, {args.batch} images x 2 views of {args.patch}^3", flush=True)
    steps = take_turns({name: make(args) for name, make in STEPS.items()}, args.turns)
    memory = {name: memory_of(name, args) for name in STEPS}
    torch.set_num_threads(1)
    views = mean_seconds_per_view({"ours": our_views(args), "stock": stock_samples(args)}, args.view_turns)
    result = {
        "step_ratio": steps["step"] / steps["bare"],
        "memory_ratio": memory["step"] / memory["bare"],
        "views_ratio": views["stock"] / views["ours"],
        "seconds": steps,
        "megabytes": memory,
        "seconds_per_view": views,
        "trainer": args.trainer,
        "preset": args.preset,
        "patch": args.patch,
        "batch": args.batch,
        "threads": args.threads,
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
