"""Does pre-training pay with few labels? Real images, a CPU, the checkpoints of benchmarks/pretrain_real.py.

    python benchmarks/few_label_real.py --data $DATA --work WORK --pretrained PRETRAIN_WORK [--datasets 4 27] [--jobs 2]

Plans each data set after the checkpoints (`nnunet_xlstm plan_like`), so that all variants see the same images and
patches, preprocesses it once, and runs `nnunet_xlstm study few_label`: variants from scratch, fine-tuned in full,
frozen, bottleneck alone, from masked modelling, its ablation without xLSTM from scratch and pre-trained alike, and
nnU-Net's own network, 3 seeds. Remedies (REMEDIES) are variants of the same study, added with --variants: schedules
that keep more of what was learnt, and masked modelling on the data set's own training images, without their labels, at
its own spacing. Every run is skipped when it is done and continued when it was killed. The last line of the output is
one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import RECIPE, Bench, link
from pretrain_real import CONFIGURATION, POOLS, RUNS, STEPS, source

# spacing in mm, thick slices first; patch in voxels; who is a subject
DATASETS = {
    4: {"name": "Dataset004_Hippocampus", "mm": ["2", "1", "1"], "patch_size": [20, 40, 32], "subject": None},
    27: {"name": "Dataset027_ACDC", "mm": ["10", "2.5", "2.5"], "patch_size": [8, 64, 64], "subject": r"patient\d+"},
}
OURS, NO_XLSTM, PLAIN = "nnUNetLikePlans", "nnUNetLikeNoXLSTMPlans", "nnUNetLikePlainPlans"
# masked modelling on the data set's own training images -> the run of pretrain_real that it starts from, iterations
OWN = {"own": (None, 800), "pool_own": ("masked", 800), "own_long": (None, 4000)}
ITERATIONS = 300  # of a run; other lengths are studies of their own
OWN_TRAINER = "nnUNetTrainerMasked"
FULL = "nnUNetTrainerFinetune"
STOCK = {"optimizer": "sgd", "initial_lr": 1e-2, "weight_decay": 3e-5, "lr_schedule": "poly"}  # nnU-Net's


@dataclass(frozen=True)
class Variant:
    """As `nnunet_xlstm study` takes it.

    Attributes:
        run: of pretrain_real or OWN; None from scratch. config: its own keys.
    """

    run: str | None = None
    trainer: str = FULL
    plans: str = OURS
    config: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "scratch": Variant(),
    "full": Variant("stage2"),
    "frozen": Variant("stage2", "nnUNetTrainerFinetuneFrozen_150epochs"),
    "bottom": Variant("stage2", "nnUNetTrainerFinetuneBottom_150epochs"),
    "masked": Variant("masked"),
    "twin_scratch": Variant(plans=NO_XLSTM),
    "twin_full": Variant("twin", plans=NO_XLSTM),
    "nnunet": Variant(plans=PLAIN),
}
REMEDIES = {
    "stage1": Variant("stage1"),
    "decay": Variant("stage2", config={"layer_decay": 0.7}),
    "staged": Variant("stage2", "nnUNetTrainerFinetuneStaged", config={"decoder_epochs": 2}),
    "own": Variant("own"),
    "own_decay": Variant("own", config={"layer_decay": 0.7}),
    "pool_own": Variant("pool_own"),
    "own_long": Variant("own_long"),
    # no remedies, but controls of the recipe: does the optimiser leave pre-training something to gain?
    "sgd_scratch": Variant(config=STOCK),
    "sgd_own": Variant("own", config=STOCK),
}
EVERY_VARIANT = VARIANTS | REMEDIES


class FewLabels(Bench):
    """The commands of this study in one work folder."""

    def __init__(self, data: Path, work: Path, pretrained: Path, iterations: int, jobs: int, device: str):
        super().__init__(data, work, iterations, 1, device)  # the study shares out the cores itself
        self.at_once = Bench(data, work, iterations, jobs, device)
        self.pretrained, self.jobs = pretrained, jobs

    def checkpoint(self, run: str, dataset: int) -> Path:
        if run in OWN:
            results, trainer, plans, name = self.work / "own" / run, OWN_TRAINER, OURS, own_name(dataset)
        else:
            pool, trainer, plans, _, _ = RUNS[run]
            results, name = self.pretrained / "runs" / run, f"Dataset{pool}_{POOLS[pool][0]}"
        model = f"{trainer}__{plans}__{CONFIGURATION}"
        return results / name / model / "fold_all" / "checkpoint_final.pth"

    def plan(self, dataset: int) -> None:
        """Three plans that differ in the network alone, over one set of preprocessed data."""
        row = DATASETS[dataset]
        link(self.folders["raw"] / row["name"], self.data / row["name"])
        self.once(f"fingerprint_{dataset}", ["nnUNetv2_extract_fingerprint", "-d", str(dataset), "-np", "1"])
        folder = self.folders["preprocessed"] / row["name"]
        for plans, run in ((OURS, "stage2"), (NO_XLSTM, "twin")):
            self.plan_like(run, dataset, dataset, plans)
        ours = json.loads((folder / f"{OURS}.json").read_text())
        no_xlstm = json.loads((folder / f"{NO_XLSTM}.json").read_text())["configurations"][CONFIGURATION][
            "architecture"
        ]
        network = ours["configurations"][CONFIGURATION]["architecture"]
        for plans, architecture in ((NO_XLSTM, no_xlstm), (PLAIN, plain(network))):
            row = ours["configurations"][CONFIGURATION] | {"architecture": network | architecture}
            content = ours | {"plans_name": plans, "configurations": {CONFIGURATION: row}}
            (folder / f"{plans}.json").write_text(json.dumps(content, indent=1))
        command = ["nnUNetv2_preprocess", "-d", str(dataset), "-plans_name", OURS, "-c", CONFIGURATION, "-np", "1"]
        self.once(f"preprocess_{dataset}", command)

    def plan_like(self, run: str, dataset: int, target: int, plans: str) -> None:
        """Plans of `target` after the network of a run, at the spacing of the data set."""
        command = ["nnunet_xlstm", "plan_like", str(self.checkpoint(run, dataset)), "-d", str(target), "-p", plans]
        self.once(f"{plans}_{target}", [*command, "--spacing", "fixed", "--target-spacing", *DATASETS[dataset]["mm"]])

    def prepare_own(self, dataset: int) -> None:
        """The data set's training images as a pool of their own, planned as the data set is."""
        number = own_number(dataset)
        path = self.work / f"pool_{number}.json"
        pool = {"name": own_name(dataset).partition("_")[2], "sources": [source(self.data, f"{dataset:03d}")]}
        path.write_text(json.dumps(pool, indent=1))
        self.once(f"pool_{number}", ["nnunet_xlstm", "pool", "build", str(path), "-d", str(number)])
        self.once(f"fingerprint_{number}", ["nnUNetv2_extract_fingerprint", "-d", str(number), "-np", "1"])
        self.plan_like("stage2", dataset, number, OURS)
        command = ["nnUNetv2_preprocess", "-d", str(number), "-plans_name", OURS, "-c", CONFIGURATION, "-np", "1"]
        self.once(f"preprocess_{number}", command)

    def pretrain(self, run: str, dataset: int) -> None:
        """Done, continued or started."""
        final = self.checkpoint(run, dataset)
        if final.exists():
            return
        start, iterations = OWN[run]
        epochs = iterations // STEPS["num_iterations_per_epoch"]
        values = STEPS | {"patch_size": DATASETS[dataset]["patch_size"], "num_epochs": epochs, "seed": 0}
        if start:
            values["init_checkpoint"] = str(self.checkpoint(start, dataset))
        config = self.work / f"config_{run}_{dataset}.json"
        config.write_text(json.dumps(values))
        command = ["nnUNetv2_train", str(own_number(dataset)), CONFIGURATION, "all", "-tr", OWN_TRAINER, "-p", OURS]
        environment = {"nnUNet_xlstm_config": str(config), "nnUNet_results": str(self.work / "own" / run)}
        self.at_once.train_on(f"train_{run}_{dataset}", [*command, "-device", self.device], final.parent, **environment)

    def study(self, dataset: int, variants: list[str], labels: list[int], seeds: int) -> dict:
        row = DATASETS[dataset]
        suffix = "" if self.iterations == ITERATIONS else f"_{self.iterations}"
        out = self.work / f"few_{dataset}{suffix}"
        preset = {
            "dataset": dataset,
            "labels": labels,
            "seeds": seeds,
            "iterations": self.iterations,
            "configuration": CONFIGURATION,
            "config": RECIPE | {"patch_size": row["patch_size"]},
            "variants": [self.variant(name, dataset) for name in variants],
        }
        if row["subject"]:
            preset["subject"] = row["subject"]
        path = out.with_suffix(".json")
        path.write_text(json.dumps(preset, indent=1))
        command = ["nnunet_xlstm", "study", "few_label", "--preset", str(path), "-o", str(out), "--device", self.device]
        # a study has all its variants at all its labels, these are the ones asked for now
        asked = [f"{variant}_n{n}_s*" for n in labels for variant in variants]
        self.run(f"study_{dataset}{suffix}", [*command, "--jobs", str(self.jobs), "--only", *asked])
        self.run(f"report_{dataset}{suffix}", [*command, "--only-report"])
        with open(out / "table.csv", newline="") as file:
            return {"table": list(csv.DictReader(file))}

    def variant(self, name: str, dataset: int) -> dict:
        row = {key: value for key, value in asdict(EVERY_VARIANT[name]).items() if value}
        run = row.pop("run", None)
        return {"name": name, **row, **({"checkpoint": str(self.checkpoint(run, dataset))} if run else {})}


def own_number(dataset: int) -> int:
    return 610 + dataset


def own_name(dataset: int) -> str:
    return f"Dataset{own_number(dataset)}_Own{DATASETS[dataset]['name'].partition('_')[2]}"


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
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(EVERY_VARIANT))
    parser.add_argument("--labels", type=int, nargs="+", default=[5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of every run; a multiple of 50")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on cores of its own")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for training and predicting")
    args = parser.parse_args()
    folders = args.data.resolve(), args.work.resolve(), args.pretrained.resolve()
    bench = FewLabels(*folders, args.iterations, args.jobs, args.device)
    for dataset in args.datasets:
        bench.plan(dataset)
    own = [
        (run, d)
        for run in OWN
        for d in args.datasets
        if any(EVERY_VARIANT[variant].run == run for variant in args.variants)
    ]
    for dataset in sorted({d for _, d in own}):
        bench.prepare_own(dataset)
    result = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda one: bench.pretrain(*one), own))
    for dataset in args.datasets:
        result[DATASETS[dataset]["name"]] = bench.study(dataset, args.variants, args.labels, args.seeds)
        print(f"{DATASETS[dataset]['name']}: done", file=sys.stderr, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
