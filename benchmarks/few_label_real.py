"""Does pre-training pay with few labels? Real images, a CPU, the checkpoints of benchmarks/pretrain_real.py.

    python benchmarks/few_label_real.py --data $DATA --work WORK --pretrained PRETRAIN_WORK [--datasets 4 27] [--jobs 2]

Plans each data set after the checkpoints (`nnunet_xlstm plan_like`), so that all arms see the same images and patches,
preprocesses it once, and runs `nnunet_xlstm study few_label`: arms from scratch, fine-tuned in full, frozen, bottom
alone, from masked modelling, the twin without xLSTM from scratch and pre-trained alike, and nnU-Net's own network, 3
seeds. Every run is skipped when it is done and continued when it was killed. The last line of the output is one JSON
object.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from pretrain_real import CONFIGURATION, POOLS, RUNS
from real_data import Bench, link

# spacing in mm, thick slices first; patch in voxels; who is a subject
DATASETS = {
    4: {"name": "Dataset004_Hippocampus", "mm": ["2", "1", "1"], "patch_size": [20, 40, 32], "subject": None},
    27: {"name": "Dataset027_ACDC", "mm": ["10", "2.5", "2.5"], "patch_size": [8, 64, 64], "subject": r"patient\d+"},
}
OURS, TWIN, PLAIN = "nnUNetLikePlans", "nnUNetLikeTwinPlans", "nnUNetLikePlainPlans"
# equal for all arms but for what is frozen: the CPU protocol's recipe
KEYS = {
    "num_iterations_per_epoch": 50,
    "num_val_iterations_per_epoch": 1,
    "batch_size": 2,
    "mirroring": False,
    "optimizer": "adamw",
    "initial_lr": 1e-3,
    "weight_decay": 1e-2,
    "lr_schedule": "warmup_poly",
    "warmup_fraction": 0.05,
    "save_every": 2,
}
# name -> (run of pretrain_real or None, trainer, plans)
ARMS = {
    "scratch": (None, "nnUNetTrainerFinetune", OURS),
    "full": ("stage2", "nnUNetTrainerFinetune", OURS),
    "frozen": ("stage2", "nnUNetTrainerFinetuneFrozen", OURS),
    "bottom": ("stage2", "nnUNetTrainerFinetuneBottom", OURS),
    "masked": ("masked", "nnUNetTrainerFinetune", OURS),
    "stage1": ("stage1", "nnUNetTrainerFinetune", OURS),
    "twin_scratch": (None, "nnUNetTrainerFinetune", TWIN),
    "twin_full": ("twin", "nnUNetTrainerFinetune", TWIN),
    "nnunet": (None, "nnUNetTrainerFinetune", PLAIN),
}
DEFAULT_ARMS = [arm for arm in ARMS if arm != "stage1"]


class FewLabels(Bench):
    """The commands of this study in one work folder."""

    def __init__(self, data: Path, work: Path, pretrained: Path, iterations: int, jobs: int):
        super().__init__(data, work, iterations, 1)  # the study shares out the cores itself
        self.pretrained, self.jobs = pretrained, jobs

    def checkpoint(self, run: str) -> Path:
        pool, trainer, plans, _, _ = RUNS[run]
        name = f"Dataset{pool}_{POOLS[pool][0]}"
        model = f"{trainer}__{plans}__{CONFIGURATION}"
        return self.pretrained / "runs" / run / name / model / "fold_all" / "checkpoint_final.pth"

    def plan(self, dataset: int) -> None:
        """Three plans that differ in the network alone, over one set of preprocessed data."""
        row = DATASETS[dataset]
        link(self.folders["raw"] / row["name"], self.data / row["name"])
        self.once(f"fingerprint_{dataset}", ["nnUNetv2_extract_fingerprint", "-d", str(dataset), "-np", "1"])
        folder = self.folders["preprocessed"] / row["name"]
        for plans, run in ((OURS, "stage2"), (TWIN, "twin")):
            command = ["nnunet_xlstm", "plan_like", str(self.checkpoint(run)), "-d", str(dataset), "-p", plans]
            self.once(f"{plans}_{dataset}", [*command, "--spacing", "fixed", "--mm", *row["mm"]])
        ours = json.loads((folder / f"{OURS}.json").read_text())
        twin = json.loads((folder / f"{TWIN}.json").read_text())["configurations"][CONFIGURATION]["architecture"]
        network = ours["configurations"][CONFIGURATION]["architecture"]
        for plans, architecture in ((TWIN, twin), (PLAIN, plain(network))):
            row = ours["configurations"][CONFIGURATION] | {"architecture": network | architecture}
            content = ours | {"plans_name": plans, "configurations": {CONFIGURATION: row}}
            (folder / f"{plans}.json").write_text(json.dumps(content, indent=1))
        command = ["nnUNetv2_preprocess", "-d", str(dataset), "-plans_name", OURS, "-c", CONFIGURATION, "-np", "1"]
        self.once(f"preprocess_{dataset}", command)

    def study(self, dataset: int, arms: list[str], labels: list[int], seeds: int) -> dict:
        row = DATASETS[dataset]
        out = self.work / f"few_{dataset}"
        preset = {
            "dataset": dataset,
            "labels": labels,
            "seeds": seeds,
            "iterations": self.iterations,
            "configuration": CONFIGURATION,
            "config": KEYS | {"patch_size": row["patch_size"]},
            "arms": [self.arm(name) for name in arms],
        }
        if row["subject"]:
            preset["subject"] = row["subject"]
        path = self.work / f"few_{dataset}.json"
        path.write_text(json.dumps(preset, indent=1))
        command = ["nnunet_xlstm", "study", "few_label", "--preset", str(path), "-o", str(out)]
        self.run(f"study_{dataset}", [*command, "-device", "cpu", "--jobs", str(self.jobs)])
        with open(out / "table.csv", newline="") as file:
            return {"table": list(csv.DictReader(file))}

    def arm(self, name: str) -> dict:
        run, trainer, plans = ARMS[name]
        made = {"name": name, "trainer": trainer, "plans": plans}
        return made | ({"checkpoint": str(self.checkpoint(run))} if run else {})


def plain(architecture: dict) -> dict:
    """nnU-Net's own U-Net with the features, kernels and strides of ours, two convolutions per stage."""
    keys = (
        "n_stages features_per_stage conv_op kernel_sizes strides conv_bias norm_op norm_op_kwargs dropout_op "
        "dropout_op_kwargs nonlin nonlin_kwargs"
    ).split()
    kwargs = {key: architecture["arch_kwargs"].get(key) for key in keys}
    n = kwargs["n_stages"]
    kwargs |= {"n_conv_per_stage": [2] * n, "n_conv_per_stage_decoder": [2] * (n - 1)}
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": kwargs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--pretrained", type=Path, required=True, help="work folder of benchmarks/pretrain_real.py")
    parser.add_argument("--datasets", type=int, nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--arms", nargs="+", default=DEFAULT_ARMS, choices=list(ARMS))
    parser.add_argument("--labels", type=int, nargs="+", default=[5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=300, help="of every run; a multiple of 50")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on cores of its own")
    args = parser.parse_args()
    bench = FewLabels(args.data.resolve(), args.work.resolve(), args.pretrained.resolve(), args.iterations, args.jobs)
    result = {}
    for dataset in args.datasets:
        bench.plan(dataset)
        result[DATASETS[dataset]["name"]] = bench.study(dataset, args.arms, args.labels, args.seeds)
        print(f"{DATASETS[dataset]['name']}: done", file=sys.stderr, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
