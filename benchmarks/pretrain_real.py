"""Pre-training on real images with its controls, and what frozen features are worth: stock commands, a CPU.

    python benchmarks/pretrain_real.py --data $DATA --work WORK [--runs stage1 stage2 ...] [--jobs 2]

Under the CPU protocol (docs/reference/cpu-protocol.md). Makes two pools without any test subject: stage 1, cine MR
(ACDC and one 4D cine); stage 2, CT, MR and PET from twelve sources. Then trains (RUNS), each run continued when it was
killed, and measures frozen features on hippocampus and ACDC: a linear probe per voxel, fitted on training subjects
and scored on test subjects, beside the untrained network and the trained weights shuffled within each tensor; effective
rank; nearest neighbours for modality and source. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench import Bench, link

PLANNER, PLANS, CONFIGURATION = "nnUNetPlannerXLSTMUNetSmall", "nnUNetXLSTMUNetSmallPlans", "3d_fullres"
NO_XLSTM_PLANNER, NO_XLSTM_PLANS = "nnUNetPlannerXLSTMUNetSmallNoXLSTM", "nnUNetXLSTMUNetSmallNoXLSTMPlans"
SPACING = ["4", "2", "2"]  # one for both stages: between the thick slices of cine MR and the 1 mm of brain MR
POOLS = {
    601: ("Stage1Cine", ("027", "pig")),
    602: ("Stage2", ("027", "pig", "004", "111", "112", "113", "121", "131", "141", "142", "143", "152")),
}
PIG = 603
SOURCES = {
    "027": {"dataset": "Dataset027_ACDC", "modality": "MR", "subjects": {"pattern": r"^(patient\d+)"}, "test": True},
    "004": {"dataset": "Dataset004_Hippocampus", "modality": "MR", "test": True},
    "111": {"dataset": "Dataset111_Sarcoma_MR_T1", "modality": "MR", "cohort": "STS", "test": True},
    "112": {"dataset": "Dataset112_Sarcoma_CT", "modality": "CT", "cohort": "STS"},
    "113": {"dataset": "Dataset113_Sarcoma_PET", "modality": "PET", "cohort": "STS", "test": True},
    "121": {"dataset": "Dataset121_OpenKBP_HN_CT", "modality": "CT", "test": True},
    "131": {"dataset": "Dataset131_MS_FLAIR_T1_T2_T1c", "modality": "MR"},
    "141": {"dataset": "Dataset141_BrainTumour_MR1", "modality": "MR"},
    "142": {"dataset": "Dataset142_BreastTumour_MR", "modality": "MR"},
    "143": {"dataset": "Dataset143_LungTumour_CT", "modality": "CT"},
    "152": {"dataset": "Dataset152_CT_aorta_modelLabels", "modality": "CT"},
}
COMMON = {"patch_size": [8, 48, 48], "num_iterations_per_epoch": 25, "num_val_iterations_per_epoch": 2, "save_every": 1}
# Short runs: many small steps instead of few large ones, at a rate that moves within them.
STEPS = COMMON | {"batch_size": 4, "gradient_accumulation": 1, "initial_lr": 5e-4, "lr_reference_batch": None}
# The robust preset so: also a teacher that can follow, and heads that do not outweigh a network of 1.7 M parameters.
SHORT = STEPS | {
    "teacher_momentum": 0.99,
    "n_prototypes": 512,
    "n_prototypes_inner": 256,
    "head_hidden": 512,
    "dense_points": 128,
}
PAPER = COMMON | {"batch_size": 2}
# run -> (pool, trainer, plans, keys, the run it starts from)
RUNS = {
    "stage1": (601, "nnUNetTrainerDINO", PLANS, SHORT, None),
    "masked": (602, "nnUNetTrainerMasked", PLANS, STEPS, None),
    "twin": (602, "nnUNetTrainerDINO", NO_XLSTM_PLANS, SHORT, None),
    "stage2": (602, "nnUNetTrainerDINO", PLANS, SHORT, "stage1"),
    "heartseg": (602, "nnUNetTrainerDINO_HeartSeg", PLANS, PAPER, None),
    "segsync": (602, "nnUNetTrainerDINO_SegSync", PLANS, PAPER, None),
    "stage2_alone": (602, "nnUNetTrainerDINO", PLANS, SHORT, None),
}
# the hippocampus is a few voxels wide at the spacing of the pools
PROBES = {4: ["--spacing", "2", "1", "1"], 27: ["--subject", r"^(patient\d+)"]}


class Study(Bench):
    """The commands of this study in one work folder."""

    def prepare(self) -> None:
        pig = self.work / "pig"
        pig.mkdir(exist_ok=True)
        link(pig / "sax_4d.nii.gz", self.data / "cine_4d_pig" / "sax_4d.nii.gz")
        self.once(
            "unlabelled_pig",
            ["nnunet_xlstm", "unlabelled", "-i", str(pig), "--modality", "MR", "-d", str(PIG), "--name", "Pig"],
        )
        for dataset in PROBES:
            (folder,) = self.data.glob(f"Dataset{dataset:03d}_*")
            link(self.folders["raw"] / folder.name, folder)
        for number, (name, sources) in POOLS.items():
            path = self.work / f"pool_{number}.json"
            rows = [source(self.data, key) for key in sources]
            path.write_text(json.dumps({"name": name, "sampling": "sqrt", "sources": rows}, indent=1))
            self.once(f"pool_{number}", ["nnunet_xlstm", "pool", "build", str(path), "-d", str(number)])
        # stage 2 decides the network; stage 1 uses its plans, so that the encoder fits
        fingerprint = ["nnUNetv2_extract_fingerprint", "-d", "601", "602", "-np", "1"]
        self.once("fingerprint", fingerprint)
        for planner in (PLANNER, NO_XLSTM_PLANNER):
            command = ["nnUNetv2_plan_experiment", "-d", "602", "-pl", planner, "-overwrite_target_spacing", *SPACING]
            self.once(f"plan_{planner}", command)
        self.once(
            "move_plans", ["nnUNetv2_move_plans_between_datasets", "-s", "602", "-t", "601", "-sp", PLANS, "-tp", PLANS]
        )
        for number in POOLS:
            command = ["nnUNetv2_preprocess", "-d", str(number), "-plans_name", PLANS, "-c", CONFIGURATION, "-np", "1"]
            self.once(f"preprocess_{number}", command)

    def output(self, run: str) -> Path:
        pool, trainer, plans, _, _ = RUNS[run]
        folder = f"{trainer}__{plans}__{CONFIGURATION}"
        return self.work / "runs" / run / f"Dataset{pool}_{POOLS[pool][0]}" / folder / "fold_all"

    def train(self, run: str, seed: int) -> None:
        """One run, in a results folder of its own: done, continued or started."""
        pool, trainer, plans, keys, parent = RUNS[run]
        out = self.output(run)
        if (out / "checkpoint_final.pth").exists():
            return
        values = keys | {"num_epochs": self.iterations // keys["num_iterations_per_epoch"], "seed": seed}
        if parent:
            values["init_checkpoint"] = str(self.output(parent) / "checkpoint_final.pth")
        config = self.work / f"config_{run}.json"
        config.write_text(json.dumps(values))
        command = ["nnUNetv2_train", str(pool), CONFIGURATION, "all", "-tr", trainer, "-p", plans]
        results = self.work / "runs" / run
        environment = {"nnUNet_xlstm_config": str(config), "nnUNet_results": str(results)}
        self.train_on(f"train_{run}", [*command, "-device", self.device], out, **environment)

    def features(self, run: str, seed: int) -> dict:
        """Probe, neighbours and rank of a finished run; the controls are in the same call."""
        result = {}
        checkpoint = self.output(run) / "checkpoint_final.pth"
        for dataset, flags in PROBES.items():
            out = self.work / "features" / f"{run}_{dataset}"
            command = ["nnunet_xlstm", "features", "--checkpoint", str(checkpoint), "-d", str(dataset), "-o", str(out)]
            self.once(f"features_{run}_{dataset}", [*command, "--probe", "--each-layer", "--seed", str(seed), *flags])
            encoders = ["trained", "untrained", "permuted"]
            command = ["nnunet_xlstm", "compare", *(f"{name}={out / name}.json" for name in encoders)]
            command += ["--subjects", str(out / "subjects.json"), "-o", str(out / "comparison"), "--bootstrap", "10000"]
            self.once(f"compare_{run}_{dataset}", command)
            result[str(dataset)] = json.loads((out / "features.json").read_text())["encoders"]
        out = self.work / "features" / f"{run}_pool"
        pool = str(RUNS[run][0])
        command = ["nnunet_xlstm", "features", "--checkpoint", str(checkpoint), "-d", pool, "-o", str(out)]
        self.once(f"features_{run}_pool", [*command, "--knn", "modality", "source", "--seed", str(seed)])
        result["pool"] = json.loads((out / "features.json").read_text())["encoders"]
        return result


def source(data: Path, key: str) -> dict:
    """A row of a pool: training subjects alone."""
    if key == "pig":
        return {"dataset": f"Dataset{PIG}_Pig", "modality": "MR"}
    row = dict(SOURCES[key])
    if row.pop("test", False):
        row["exclude"] = "test_subjects.json"
    return row | {"dataset": str(data / row["dataset"])}


def collapse_measures(path: Path) -> dict:
    """First, worst and last value of the measures that show a collapse, and how many epochs had a warning."""
    rows = {row["epoch"]: row for row in map(json.loads, path.read_text().splitlines())}  # a resumed epoch counts once
    rows = [rows[epoch] for epoch in sorted(rows)]
    worst = {"feature_sd": min, "embedding_sd": min, "effective_rank": min, "mean_cosine": max, "top1_share": max}
    worst |= {"entropy_mean_target": min, "mean_entropy_target": max}
    result = {"epochs": rows[-1]["epoch"] + 1, "epochs_with_warnings": sum(bool(row["warnings"]) for row in rows)}
    for name, pick in worst.items():
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            result[name] = {"untrained": values[0], "worst": pick(values), "last": values[-1]}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--iterations", type=int, default=800, help="optimizer steps of a run; a multiple of 25")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on cores of its own")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for training")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    study = Study(args.data.resolve(), args.work.resolve(), args.iterations, args.jobs, args.device)
    study.prepare()
    started: dict[str, Future] = {}

    def one(run: str) -> dict:
        if RUNS[run][4] in started:
            started[RUNS[run][4]].result()
        study.train(run, args.seed)
        print(f"{run}: trained", file=sys.stderr, flush=True)
        return {
            "collapse": collapse_measures(study.output(run) / "pretraining.jsonl"),
            "seconds": round(json.loads((study.output(run) / "seconds.json").read_text())),
            "features": study.features(run, args.seed),
        }

    with ThreadPoolExecutor(args.jobs) as pool:
        for run in RUNS:  # a run stands below the one it starts from
            if run in args.runs:
                started[run] = pool.submit(one, run)
    print(json.dumps({run: future.result() for run, future in started.items()}))


if __name__ == "__main__":
    main()
