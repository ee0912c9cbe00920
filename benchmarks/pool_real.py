"""One network for eleven data sets that label different things, beside one network for each: real images, a CPU.

    python benchmarks/pool_real.py --data $DATA --work WORK [--variants ...] [--jobs 2]

Under the CPU protocol (docs/reference/cpu-protocol.md), with one spacing and patch for all, and for each network one
set of strides and kernels, so that weights fit everywhere: nnU-Net would plan the pool after its median image, a
hippocampus. Normalisation is what nnU-Net plans for each data set. Nothing of the test subjects of five data sets is
used before prediction, neither for plans nor for choices: the last checkpoint is judged. Variants (VARIANTS): networks
on the pool with the loss over annotated targets; nnU-Net's network on the pool with nnU-Net's own loss, to which
everything unannotated is background; and networks on one data set alone, with as many iterations. REMEDIES are variants
added with --variants: other settings of the loss and of how cases are drawn. All predict with `nnUNetv2_predict`;
predictions of a pool go through `nnunet_xlstm restrict`, which also counts what each scan cannot contain, before and
after. Then transfer to ACDC from a pool without it (decoder included, or the encoder alone), from single data sets and
from nothing, with 10, 20 and 50 epochs. Runs are skipped when they are done and continued when they were killed. The
last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import RECIPE, Bench, link
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from pretrain_real import SOURCES

from nnunet_xlstm.networks.presets import arch_kwargs_for, get_preset

CONFIGURATION = "3d_fullres"
SPACING, PATCH, BATCH = (4, 2, 2), (16, 64, 64), 2  # thick slices first
POOLS = {500: "Mixed", 501: "MixedNoACDC"}
TEST = (4, 27, 111, 113, 121)  # data sets with test subjects
TRANSFER_TO, LENGTHS = 27, (10, 20, 50)
ITERATIONS = 500  # of a variant; other lengths have results of their own in the same work folder
FOLDS_BEFORE = {True: 5, False: 0}  # a pool brings five folds by subject; ours is the next
GROUPS = {
    "lesion": "soft_tissue_sarcoma ms_lesion brain_tumor breast_tumor lung_tumor ptv70".split(),
    "vessel": "aorta brachiocephalic_trunk subclavian_artery_left common_carotid_artery_left celiac_trunk".split(),
}
PLANNER, PLANNED = "nnUNetPlannerTSFM_S", "nnUNetTSFM_SPlans"
NETWORKS = {"tsfm_s": "tsfm_s", "tsfm_s_novit": "tsfm_s_novit", "xlstm": "small", "nnunet": "small_plain"}  # presets
# of a convolution, as nnU-Net plans them
CONV_KEYS = "conv_op conv_bias norm_op norm_op_kwargs dropout_op dropout_op_kwargs nonlin nonlin_kwargs".split()
PARTIAL, STOCK = "nnUNetTrainerPool", "nnUNetTrainerXLSTMUNetShort"


@dataclass(frozen=True)
class Run:
    """A network (of NETWORKS) trained on a data set; `config`: keys of its own, which the folder's name must tell."""

    dataset: int
    network: str
    trainer: str
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def folder_suffix(self) -> str:
        return "".join(f"_{key}_{value}" for key, value in self.config.items())


VARIANTS = {
    "pool_tsfm_s": Run(500, "tsfm_s", PARTIAL),
    "pool_tsfm_s_novit": Run(500, "tsfm_s_novit", PARTIAL),
    "pool_xlstm": Run(500, "xlstm", PARTIAL),
    "pool_nnunet": Run(500, "nnunet", PARTIAL),
    "pool_nnunet_stock_loss": Run(500, "nnunet", STOCK),
    **{f"alone_{network}_{n}": Run(n, network, STOCK) for network in ("nnunet", "tsfm_s") for n in TEST},
    "pool_without_acdc": Run(501, "tsfm_s", PARTIAL),
}
ALIKE, ABSENT = {"case_sampling": "uniform"}, {"out_of_scope_targets": "absent"}
REMEDIES = {  # settings of the training over annotated targets
    "pool_nnunet_mean": Run(500, "nnunet", PARTIAL, {"loss_reduction": "mean"}),
    "pool_nnunet_absent": Run(500, "nnunet", PARTIAL, ABSENT),
    "pool_tsfm_s_absent": Run(500, "tsfm_s", PARTIAL, ABSENT),
    "pool_nnunet_alike": Run(500, "nnunet", PARTIAL, ALIKE),
    "pool_nnunet_alike_absent": Run(500, "nnunet", PARTIAL, ALIKE | ABSENT),
    "pool_tsfm_s_alike": Run(500, "tsfm_s", PARTIAL, ALIKE),
    "pool_tsfm_s_alike_absent": Run(500, "tsfm_s", PARTIAL, ALIKE | ABSENT),
}
EVERY_VARIANT = VARIANTS | REMEDIES
STARTS = {  # of transfer: the variant, and what is taken of it; None is from scratch
    "none": None,
    "pool_without_acdc": ("pool_without_acdc", "all"),
    "pool_without_acdc_encoder": ("pool_without_acdc", "encoder"),
    "alone_tsfm_s_4": ("alone_tsfm_s_4", "all"),
    "alone_tsfm_s_121": ("alone_tsfm_s_121", "all"),
}


class PoolStudy(Bench):
    """The commands of this study in one work folder."""

    def name(self, dataset: int) -> str:
        if dataset in POOLS:
            return f"Dataset{dataset}_{POOLS[dataset]}"
        (folder,) = self.data.glob(f"Dataset{dataset:03d}_*")
        return folder.name

    @property
    def suffix(self) -> str:
        return "" if self.iterations == ITERATIONS else f"_{self.iterations}"

    def prepare(self) -> None:
        for number in POOLS:
            self.write_pool(number)
            path = self.work / f"pool_{number}.json"
            self.once(f"pool_{number}", ["nnunet_xlstm", "pool", "build", str(path), "-d", str(number)])
        for dataset in TEST:
            self.write_training_part(dataset)
        for dataset in (*POOLS, *TEST):
            command = ["nnUNetv2_plan_and_preprocess", "-d", str(dataset), "-pl", PLANNER, "-c", CONFIGURATION]
            command += ["-npfp", "1", "-np", "1", "-overwrite_target_spacing", *map(str, SPACING)]
            self.once(f"plan_{dataset}", command)
            self.write_plans(dataset)
            self.write_fold(dataset)

    def write_training_part(self, dataset: int) -> None:
        """A raw data set without the test cases, so that neither plans nor intensities come from them."""
        source, folder = self.data / self.name(dataset), self.folders["raw"] / self.name(dataset)
        train, _ = self.cases(dataset)
        for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
            (folder / part).mkdir(parents=True, exist_ok=True)
            for case in train:
                link(folder / part / f"{case}{ending}", source / part / f"{case}{ending}")
        facts = json.loads((source / "dataset.json").read_text()) | {"numTraining": len(train)}
        (folder / "dataset.json").write_text(json.dumps(facts, indent=1))

    def write_plans(self, dataset: int) -> None:
        """Plans that differ in the network alone, over one set of preprocessed data."""
        folder = self.folders["preprocessed"] / self.name(dataset)
        content = json.loads((folder / f"{PLANNED}.json").read_text())
        row = content["configurations"][CONFIGURATION]
        for network in NETWORKS:
            own = row | {"patch_size": list(PATCH), "batch_size": BATCH}
            own["architecture"] = architecture(network, row["architecture"])
            plans = content | {"plans_name": plans_name(network), "configurations": {CONFIGURATION: own}}
            (folder / f"{plans_name(network)}.json").write_text(json.dumps(plans, indent=1))

    def write_fold(self, dataset: int) -> None:
        """One more fold, which trains on everything; its only validation case costs little and decides nothing."""
        path = self.folders["preprocessed"] / self.name(dataset) / "splits_final.json"
        folds = json.loads(path.read_text()) if path.exists() else []
        if len(folds) == FOLDS_BEFORE[dataset in POOLS]:
            plans = json.loads(path.with_name(f"{PLANNED}.json").read_text())
            images = path.with_name(plans["configurations"][CONFIGURATION]["data_identifier"])
            cases = sorted(file.stem for file in images.glob("*.pkl"))
            path.write_text(json.dumps([*folds, {"train": cases, "val": cases[:1]}]))

    def write_pool(self, number: int) -> None:
        targets, exclusive, rows = {}, [], []
        for key, row in SOURCES.items():
            name = self.name(int(key))
            if number == 501 and int(key) == TRANSFER_TO:
                continue
            entry = json.loads((Path(__file__).parents[1] / "dataset_json" / f"{name}.json").read_text())
            for target in entry["targets"]:
                group = next((g for g, names in GROUPS.items() if target in names), "organ")
                row_of = targets.setdefault(target, {"name": target, "group": group, "region": []})
                row_of["region"] += [r for r in entry["field_of_view"] if r not in row_of["region"]]
            exclusive += entry["mutually_exclusive"]
            row = {k: v for k, v in row.items() if k != "test"} | {"dataset": str(self.data / name), "catalogue": name}
            rows.append(row | ({"exclude": "test_subjects.json"} if SOURCES[key].get("test") else {}))
        content = {
            "name": POOLS[number],
            "targets": list(targets.values()),
            "mutually_exclusive": exclusive,
            "sources": rows,
        }
        (self.work / f"pool_{number}.json").write_text(json.dumps(content, indent=1))

    def cases(self, dataset: int) -> tuple[list[str], list[str]]:
        """Training and test cases of a data set."""
        folder = self.data / self.name(dataset)
        test = json.loads((folder / "test_subjects.json").read_text())["test_cases"]
        every = sorted(path.name.split(".")[0] for path in (folder / "labelsTr").glob("*.nii.gz"))
        return [case for case in every if case not in test], sorted(test)

    def fold(self, run: Run, results: Path | None = None) -> Path:
        name = f"{run.trainer}__{plans_name(run.network)}__{CONFIGURATION}"
        fold = FOLDS_BEFORE[run.dataset in POOLS]
        results = results or self.work / f"results{self.suffix}{run.folder_suffix}"
        return results / self.name(run.dataset) / name / f"fold_{fold}"

    def train(self, label: str, run: Run, keys: dict, flags: list[str], results: Path | None = None) -> Path:
        """Done, continued or started; the folder of the fold."""
        folder = self.fold(run, results)
        fold = folder.name.removeprefix("fold_")
        if not (folder / "validation" / "summary.json").exists():
            config = self.work / f"config_{label}.json"
            config.write_text(json.dumps(RECIPE | keys))
            command = ["nnUNetv2_train", str(run.dataset), CONFIGURATION, fold, "-tr", run.trainer]
            command += ["-p", plans_name(run.network), "-device", self.device]
            environment = {"nnUNet_xlstm_config": str(config), "nnUNet_results": str(folder.parents[2])}
            self.train_on(f"train_{label}", command, folder, flags, **environment)
        return folder

    def judge(self, label: str, run: Run, dataset: int, results: Path | None = None) -> dict:
        """Dice per class and test case, where the class is in the reference (else nobody may have drawn it)."""
        name = self.name(dataset)
        reference = self.work / "test" / name / "labels"
        images = reference.with_name("images")
        for part in (reference, images):
            part.mkdir(parents=True, exist_ok=True)
        for case in self.cases(dataset)[1]:
            link(images / f"{case}_0000.nii.gz", self.data / name / "imagesTr" / f"{case}_0000.nii.gz")
            link(reference / f"{case}.nii.gz", self.data / name / "labelsTr" / f"{case}.nii.gz")
        predicted = self.work / "predicted" / label / name
        command = ["nnUNetv2_predict", "-i", str(images), "-o", str(predicted), "-d", str(run.dataset)]
        command += ["-f", self.fold(run).name.removeprefix("fold_"), "-c", CONFIGURATION, "-tr", run.trainer]
        command += ["-p", plans_name(run.network), "-device", self.device, "-npp", "0", "-nps", "0"]
        command += ["-step_size", "0.75"]  # of a patch: a third of the patches that nnU-Net's 0.5 takes
        command += ["--save_probabilities"] if run.dataset in POOLS else []
        where = {"nnUNet_results": str(self.fold(run, results).parents[2])}
        self.once(f"predict_{label}_{dataset}", command, **where)
        result = {}
        if run.dataset in POOLS:
            restricted = predicted.with_name(f"{name}_restricted")
            command = ["nnunet_xlstm", "restrict", "-i", str(predicted), "-o", str(restricted), "--source", name]
            self.once(f"restrict_{label}_{dataset}", command)
            false = json.loads((restricted / "restrict.json").read_text())["false_positives"]
            result["false_voxels"] = {when: false[when]["voxels"] for when in ("before", "after")}
            predicted = restricted
        out = self.work / "judged" / name / f"{label}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        command = ["nnunet_xlstm", "evaluate", "-ref", str(reference), "-pred", str(predicted), "-o", str(out)]
        self.once(f"judge_{label}_{dataset}", [*command, "-djfile", str(self.data / name / "dataset.json")])
        return result | {"dice": dice(json.loads(out.read_text()))}

    def train_variant(self, name: str, seed: int) -> Path:
        keys = {"num_epochs": self.iterations // RECIPE["num_iterations_per_epoch"], "seed": seed}
        folder = self.train(name + self.suffix, EVERY_VARIANT[name], keys | EVERY_VARIANT[name].config, [])
        print(f"{name}{self.suffix}: trained", file=sys.stderr, flush=True)
        return folder

    def variant(self, name: str, seed: int) -> dict:
        run, label = EVERY_VARIANT[name], name + self.suffix
        spent = self.train_variant(name, seed) / "seconds.json"
        datasets = [d for d in TEST if run.dataset == 500 or d == run.dataset]
        return {
            # a kill between the last file of a run and this one loses the time, not the run
            "seconds": round(json.loads(spent.read_text())) if spent.exists() else None,
            "test": {self.name(dataset): self.judge(label, run, dataset) for dataset in datasets},
        }

    def adapted(self, start: str) -> Path:
        variant, scope = STARTS[start]
        weights = self.work / f"{start}{self.suffix}.pth"
        command = ["nnunet_xlstm", "adapt", str(self.fold(VARIANTS[variant]) / "checkpoint_final.pth")]
        command += ["-d", str(TRANSFER_TO), "-p", plans_name("tsfm_s"), "-c", CONFIGURATION, "-o", str(weights)]
        self.once(f"adapt_{start}{self.suffix}", [*command, "--scope", scope])
        return weights

    def transfer(self, start: str, epochs: int, seed: int) -> dict:
        """Fine-tune TSFM on the data set that the pool left out; `start`: of STARTS."""
        start_name = start if start == "none" else start + self.suffix
        label = f"transfer_{start_name}_{epochs}"
        flags = [] if start == "none" else ["-pretrained_weights", str(self.adapted(start))]
        run = Run(TRANSFER_TO, "tsfm_s", f"nnUNetTrainerTSFM_{epochs}epochs")
        results = self.work / "transfer" / start_name  # nnU-Net's folder name does not say the start
        self.train(label, run, {"num_epochs": epochs, "seed": seed}, flags, results)
        return self.judge(label, run, TRANSFER_TO, results)


def plans_name(network: str) -> str:
    return f"nnUNetPool_{network}_Plans"


def architecture(network: str, planned: dict) -> dict:
    """Of a preset, for the spacing and the patch of this study; `planned`: any that nnU-Net planned."""
    preset = get_preset(NETWORKS[network])
    _, strides, kernels, _, _ = get_pool_and_conv_props(SPACING, PATCH, 4, 999999)  # as nnU-Net's planner calls it
    kwargs = {key: planned["arch_kwargs"][key] for key in CONV_KEYS}
    kwargs |= {"strides": strides, "kernel_sizes": kernels}
    made = {"network_class_name": preset.network_class, "arch_kwargs": arch_kwargs_for(preset, kwargs, PATCH)}
    return json.loads(json.dumps(planned | made, default=int))


def dice(summary: dict) -> dict[str, dict[str, float]]:
    """Class -> case -> Dice, of classes that the reference holds."""
    result: dict[str, dict[str, float]] = {}
    for row in summary["metric_per_case"]:
        case = Path(row["reference_file"]).name.split(".")[0]
        for label, values in row["metrics"].items():
            if values["n_ref"]:
                result.setdefault(label, {})[case] = values["Dice"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(EVERY_VARIANT))
    parser.add_argument("--no-transfer", action="store_true", help="the variants alone")
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=list(STARTS), help="transfer: from")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=list(LENGTHS), choices=LENGTHS, help="transfer: epochs"
    )
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of a variant; a multiple of 50")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on cores of its own")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for training and predicting")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    study = PoolStudy(args.data.resolve(), args.work.resolve(), args.iterations, args.jobs, args.device)
    study.prepare()
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = pool.map(lambda name: study.variant(name, args.seed), args.variants)
        result = {"variants": dict(zip(args.variants, rows, strict=True)), "transfer": {}}
    if not args.no_transfer:
        for start in args.starts:
            if start != "none":
                study.adapted(start)
        jobs = [(start, epochs) for start in args.starts for epochs in args.lengths]
        with ThreadPoolExecutor(args.jobs) as pool:
            rows = pool.map(lambda job: study.transfer(*job, args.seed), jobs)
            result["transfer"] = {f"{start}_{n}": row for (start, n), row in zip(jobs, rows, strict=True)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
