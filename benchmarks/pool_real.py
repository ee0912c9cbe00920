"""One network for eleven data sets that label different things, beside one network for each: real images, a CPU.

    python benchmarks/pool_real.py --data $DATA --work WORK [--arms ...] [--jobs 2]

Under the CPU protocol (docs/reference/cpu-protocol.md), with one spacing and patch for all. Test subjects of five data
sets are never trained on. Arms (ARMS): networks on the pool with the loss over annotated targets; nnU-Net's network on
the pool with nnU-Net's own loss, to which everything unannotated is background; and networks on one data set alone,
with as many iterations. Pool predictions go through `nnunet_xlstm restrict`, which also counts what each scan cannot
contain, before and after. Then transfer (TRANSFER) to ACDC from a pool without it, from single data sets and from
nothing, with 10, 20 and 50 epochs. Runs are skipped when they are done and continued when they were killed. The last
line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pretrain_real import SOURCES
from real_data import Bench, link

CONFIGURATION = "3d_fullres"
SPACING = ["4", "2", "2"]
POOLS = {500: "Mixed", 501: "MixedNoACDC"}
TEST = (4, 27, 111, 113, 121)  # data sets with test subjects
TRANSFER_TO, SINGLES, LENGTHS = 27, (4, 121), (10, 20, 50)
GROUPS = {
    "lesion": "soft_tissue_sarcoma ms_lesion brain_tumor breast_tumor lung_tumor ptv70".split(),
    "vessel": "aorta brachiocephalic_trunk subclavian_artery_left common_carotid_artery_left celiac_trunk".split(),
}
KEYS = {
    "num_iterations_per_epoch": 50,
    "num_val_iterations_per_epoch": 2,
    "patch_size": [16, 64, 64],
    "batch_size": 2,
    "mirroring": False,
    "optimizer": "adamw",
    "initial_lr": 1e-3,
    "weight_decay": 1e-2,
    "lr_schedule": "warmup_poly",
    "warmup_fraction": 0.05,
    "save_every": 2,
}
PLANS = {
    "tsfm_s": ("nnUNetPlannerTSFM_S", "nnUNetTSFM_SPlans"),
    "tsfm_s_novit": ("nnUNetPlannerTSFM_SNoViT", "nnUNetTSFM_SNoViTPlans"),
    "xlstm": ("nnUNetPlannerXLSTMUNetSmall", "nnUNetXLSTMUNetSmallPlans"),
    "nnunet": ("nnUNetPlannerXLSTMUNetSmallPlain", "nnUNetXLSTMUNetSmallPlainPlans"),
}
PARTIAL, STOCK = "nnUNetTrainerPool", "nnUNetTrainerXLSTMUNetShort"


@dataclass(frozen=True)
class Run:
    """A network (of PLANS) trained on a data set."""

    dataset: int
    network: str
    trainer: str


ARMS = {
    "pool_tsfm_s": Run(500, "tsfm_s", PARTIAL),
    "pool_tsfm_s_novit": Run(500, "tsfm_s_novit", PARTIAL),
    "pool_xlstm": Run(500, "xlstm", PARTIAL),
    "pool_nnunet": Run(500, "nnunet", PARTIAL),
    "pool_nnunet_stock_loss": Run(500, "nnunet", STOCK),
    **{f"alone_{network}_{n}": Run(n, network, STOCK) for network in ("nnunet", "tsfm_s") for n in TEST},
    "pool_without_acdc": Run(501, "tsfm_s", PARTIAL),
}


class PoolStudy(Bench):
    """The commands of this study in one work folder."""

    def name(self, dataset: int) -> str:
        if dataset in POOLS:
            return f"Dataset{dataset}_{POOLS[dataset]}"
        (folder,) = self.data.glob(f"Dataset{dataset:03d}_*")
        return folder.name

    def prepare(self) -> None:
        for key in SOURCES:
            name = self.name(int(key))
            link(self.folders["raw"] / name, self.data / name)
        for number in POOLS:
            self.write_pool(number)
            path = self.work / f"pool_{number}.json"
            self.once(f"pool_{number}", ["nnunet_xlstm", "pool", "build", str(path), "-d", str(number)])
        for dataset in TEST:
            self.hold_out(dataset)
        for dataset in (*POOLS, *TEST):
            networks = dict.fromkeys(run.network for run in ARMS.values() if run.dataset == dataset)
            for i, network in enumerate(networks):
                command = ["nnUNetv2_plan_and_preprocess", "-d", str(dataset), "-pl", PLANS[network][0]]
                command += ["-c", CONFIGURATION, "-npfp", "1", "-np", "1", "-overwrite_target_spacing", *SPACING]
                self.once(f"plan_{dataset}_{network}", [*command, *(["--no_pp"] if i else [])])

    def write_pool(self, number: int) -> None:
        targets, exclusive, rows = {}, [], []
        for key, row in SOURCES.items():
            name = self.name(int(key))
            if number == 501 and int(key) == TRANSFER_TO:
                continue
            entry = json.loads((Path(__file__).parents[1] / "dataset_json" / f"{name}.json").read_text())
            for target in entry["targets"]:
                group = next((g for g, names in GROUPS.items() if target in names), "organ")
                targets[target] = {"name": target, "group": group, "region": entry["field_of_view"]}
            exclusive += entry["exclusive"]
            row = {k: v for k, v in row.items() if k != "test"} | {"dataset": name, "catalogue": name}
            rows.append(row | ({"exclude": "test_subjects.json"} if SOURCES[key].get("test") else {}))
        content = {"name": POOLS[number], "targets": list(targets.values()), "exclusive": exclusive, "sources": rows}
        (self.work / f"pool_{number}.json").write_text(json.dumps(content, indent=1))

    def cases(self, dataset: int) -> tuple[list[str], list[str]]:
        """Training and test cases of a data set."""
        folder = self.data / self.name(dataset)
        test = json.loads((folder / "test_subjects.json").read_text())["test_cases"]
        every = sorted(path.name.split(".")[0] for path in (folder / "labelsTr").glob("*.nii.gz"))
        return [case for case in every if case not in test], sorted(test)

    def hold_out(self, dataset: int) -> None:
        """Fold 0 trains on the training cases and validates, after the last step, on the test cases."""
        train, test = self.cases(dataset)
        folder = self.folders["preprocessed"] / self.name(dataset)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "splits_final.json").write_text(json.dumps([{"train": train, "val": test}]))

    def fold(self, run: Run, results: Path | None = None) -> Path:
        """Of a pool all cases are trained on; of a data set alone, fold 0 of `hold_out`."""
        name = f"{run.trainer}__{PLANS[run.network][1]}__{CONFIGURATION}"
        fold = "all" if run.dataset in POOLS else "0"
        return (results or self.folders["results"]) / self.name(run.dataset) / name / f"fold_{fold}"

    def train(self, label: str, run: Run, keys: dict, flags: list[str], results: Path | None = None) -> Path:
        """Done, continued or started; the folder of the fold."""
        folder = self.fold(run, results)
        fold = folder.name.removeprefix("fold_")
        done = "checkpoint_final.pth" if fold == "all" else "validation/summary.json"
        if not (folder / done).exists():
            config = self.work / f"config_{label}.json"
            config.write_text(json.dumps(KEYS | keys))
            command = ["nnUNetv2_train", str(run.dataset), CONFIGURATION, fold, "-tr", run.trainer]
            command += ["-p", PLANS[run.network][1], "-device", "cpu"]
            started = any(folder.glob("checkpoint_*.pth"))
            command += ["--c"] if started else flags
            environment = {"nnUNet_xlstm_config": str(config)}
            if results:
                environment["nnUNet_results"] = str(results)
            seconds = self.run(f"train_{label}", command, **environment)
            spent = folder / "seconds.json"
            spent.write_text(json.dumps((json.loads(spent.read_text()) if spent.exists() else 0) + seconds))
        return folder

    def judge(self, label: str, run: Run, dataset: int, folder: Path) -> dict:
        """Dice per class and test case, where the class is in the reference (else nobody may have drawn it)."""
        name = self.name(dataset)
        reference = self.work / "test" / name / "labels"
        images = reference.with_name("images")
        for part in (reference, images):
            part.mkdir(parents=True, exist_ok=True)
        for case in self.cases(dataset)[1]:
            link(images / f"{case}_0000.nii.gz", self.data / name / "imagesTr" / f"{case}_0000.nii.gz")
            link(reference / f"{case}.nii.gz", self.data / name / "labelsTr" / f"{case}.nii.gz")
        result = {}
        if run.dataset in POOLS:
            predicted = self.work / "predicted" / label / name
            command = ["nnUNetv2_predict", "-i", str(images), "-o", str(predicted), "-d", str(run.dataset), "-f", "all"]
            command += ["-c", CONFIGURATION, "-tr", run.trainer, "-p", PLANS[run.network][1], "-device", "cpu"]
            command += ["-npp", "1", "-nps", "1", "--save_probabilities"]
            self.once(f"predict_{label}_{dataset}", command)
            restricted = predicted.with_name(f"{name}_restricted")
            command = ["nnunet_xlstm", "restrict", "-i", str(predicted), "-o", str(restricted), "--source", name]
            self.once(f"restrict_{label}_{dataset}", command)
            counts = json.loads((restricted / "restrict.json").read_text())["targets"]
            left_out = [row for row in counts.values() if row["why_left_out"]]
            result["false_voxels_left_out"] = sum(row["before"]["voxels"] for row in left_out)
        else:
            restricted = folder / "validation"
        out = self.work / "judged" / name / f"{label}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        command = ["nnunet_xlstm", "evaluate", "-ref", str(reference), "-pred", str(restricted), "-o", str(out)]
        self.once(f"judge_{label}_{dataset}", [*command, "-djfile", str(self.data / name / "dataset.json")])
        return result | {"dice": dice(json.loads(out.read_text()))}

    def arm(self, label: str, seed: int, iterations: int) -> dict:
        run = ARMS[label]
        keys = {"num_epochs": iterations // KEYS["num_iterations_per_epoch"], "seed": seed}
        folder = self.train(label, run, keys, [])
        print(f"{label}: trained", file=sys.stderr, flush=True)
        datasets = [d for d in TEST if run.dataset == 500 or d == run.dataset]
        return {
            "seconds": round(json.loads((folder / "seconds.json").read_text())),
            "test": {self.name(dataset): self.judge(label, run, dataset, folder) for dataset in datasets},
        }

    def adapted(self, start: str) -> Path:
        weights = self.work / f"{start}.pth"
        command = ["nnunet_xlstm", "adapt", str(self.fold(ARMS[start]) / "checkpoint_final.pth")]
        command += ["-d", str(TRANSFER_TO), "-p", PLANS["tsfm_s"][1], "-c", CONFIGURATION, "-o", str(weights)]
        self.once(f"adapt_{start}", command)
        return weights

    def transfer(self, start: str, epochs: int, seed: int) -> dict:
        """Fine-tune TSFM on the data set that the pool left out; `start` is an arm, or `none`."""
        label = f"transfer_{start}_{epochs}"
        flags = [] if start == "none" else ["-pretrained_weights", str(self.adapted(start))]
        run = Run(TRANSFER_TO, "tsfm_s", f"nnUNetTrainerTSFM_{epochs}epochs")
        results = self.work / "transfer" / start  # nnU-Net's folder name does not say the start
        folder = self.train(label, run, {"num_epochs": epochs, "seed": seed}, flags, results)
        return self.judge(label, run, TRANSFER_TO, folder)


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
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--no-transfer", action="store_true", help="the arms alone")
    parser.add_argument("--iterations", type=int, default=1000, help="of an arm; a multiple of 50")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on cores of its own")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    study = PoolStudy(args.data.resolve(), args.work.resolve(), args.iterations, args.jobs)
    study.prepare()
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = pool.map(lambda label: study.arm(label, args.seed, args.iterations), args.arms)
        result = {"arms": dict(zip(args.arms, rows, strict=True)), "transfer": {}}
    if not args.no_transfer:
        starts = ["none", "pool_without_acdc", *(f"alone_tsfm_s_{n}" for n in SINGLES)]
        for start in starts[1:]:
            study.adapted(start)
        jobs = [(start, epochs) for start in starts for epochs in LENGTHS]
        with ThreadPoolExecutor(args.jobs) as pool:
            rows = pool.map(lambda job: study.transfer(*job, args.seed), jobs)
            result["transfer"] = {f"{start}_{n}": row for (start, n), row in zip(jobs, rows, strict=True)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
