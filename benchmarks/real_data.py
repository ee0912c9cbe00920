"""Stock nnU-Net commands from raw images to a five-fold table, for the xLSTM-UNet, its ablation and nnU-Net's own
network.

    python benchmarks/real_data.py --data $DATA --work WORK [--datasets 4 27] [--jobs 2]

The CPU protocol (docs/reference/cpu-protocol.md): one trainer, one recipe, one patch and batch for all variants; folds
by subject from the data folder. Every run is skipped when it is done and continued when it was killed. What it runs,
per
data set: plan and preprocess; train five folds of each variant; find the best configuration; score all validation cases
and compare the variants (WORK/judged); predict; ensemble; export to zip, install into another results folder, predict
from there. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import Bench, link

TRAINER = "nnUNetTrainerXLSTMUNetShort"
CONFIGURATION = "3d_fullres"
VARIANTS = {"xlstm": "Small", "no_xlstm": "SmallNoXLSTM", "nnunet": "SmallPlain", "shuffled": "SmallShuffled"}
DEFAULT_VARIANTS = ("xlstm", "no_xlstm", "nnunet")
DATASETS = {
    4: {"name": "Dataset004_Hippocampus", "patch_size": [24, 40, 32], "plan": []},
    27: {
        "name": "Dataset027_ACDC",
        "patch_size": [8, 64, 64],
        "plan": ["-overwrite_target_spacing", "10", "2.5", "2.5"],
    },
}
FOLDS = range(5)


def plans_name(variant: str) -> str:
    return f"nnUNetXLSTMUNet{VARIANTS[variant]}Plans"


class CrossValidation(Bench):
    """The commands of this study in one work folder."""

    def model_folder(self, dataset: int, variant: str) -> Path:
        name = f"{TRAINER}__{plans_name(variant)}__{CONFIGURATION}"
        return self.folders["results"] / DATASETS[dataset]["name"] / name

    def plan(self, dataset: int, variants: list[str]) -> None:
        """Plan all variants; preprocess once, since all three share nnU-Net's data."""
        row = DATASETS[dataset]
        link(self.folders["raw"] / row["name"], self.data / row["name"])
        for i, variant in enumerate(variants):
            command = [
                "nnUNetv2_plan_and_preprocess",
                "-d",
                str(dataset),
                "-pl",
                f"nnUNetPlannerXLSTMUNet{VARIANTS[variant]}",
            ]
            command += ["-c", CONFIGURATION, "-npfp", "1", "-np", "1", *row["plan"], *(["--no_pp"] if i else [])]
            self.once(f"plan_{dataset}_{variant}", command)
        self.check_folds(dataset)

    def check_folds(self, dataset: int) -> None:
        """The folds in use are the data folder's, and no subject is on both sides."""
        name = DATASETS[dataset]["name"]
        used = json.loads((self.folders["preprocessed"] / name / "splits_final.json").read_text())
        if used != json.loads((self.data / name / "splits_final.json").read_text()):
            raise SystemExit(f"{name}: the folds in use are not those of {self.data / name}/splits_final.json")
        for fold in used:
            train, val = ({subject(case) for case in fold[k]} for k in ("train", "val"))
            if train & val:
                raise SystemExit(f"{name}: subjects on both sides of a fold: {sorted(train & val)[:3]}")

    def train(self, dataset: int, variant: str, fold: int) -> None:
        """One fold: done, continued or started. Its seconds of work are added up in `seconds.json`."""
        folder = self.model_folder(dataset, variant) / f"fold_{fold}"
        if (folder / "validation" / "summary.json").exists():
            return
        config = self.work / f"config_{dataset}_{fold}.json"
        values = {
            "num_epochs": self.iterations // 50,
            "num_iterations_per_epoch": 50,
            "num_val_iterations_per_epoch": 2,
            "patch_size": DATASETS[dataset]["patch_size"],
            "batch_size": 2,
            "save_every": 2,
            "seed": 1000 + fold,
        }
        config.write_text(json.dumps(values))
        command = ["nnUNetv2_train", str(dataset), CONFIGURATION, str(fold), "-tr", TRAINER, "-p", plans_name(variant)]
        command += ["--npz", "-device", "cpu"]
        self.train_on(f"train_{dataset}_{variant}_{fold}", command, folder, nnUNet_xlstm_config=str(config))

    def scores(self, dataset: int, variant: str) -> list[dict]:
        """Of each finished fold: mean Dice, Dice per class, seconds, cases."""
        result = []
        for fold in FOLDS:
            folder = self.model_folder(dataset, variant) / f"fold_{fold}"
            path = folder / "validation" / "summary.json"
            if not path.exists():
                continue
            summary = json.loads(path.read_text())
            cases = {
                Path(case["prediction_file"]).name.split(".")[0]: {k: m["Dice"] for k, m in case["metrics"].items()}
                for case in summary["metric_per_case"]
            }
            spent = folder / "seconds.json"
            result.append(
                {
                    "fold": fold,
                    "dice": summary["foreground_mean"]["Dice"],
                    "dice_per_class": {k: v["Dice"] for k, v in summary["mean"].items()},
                    "seconds": round(json.loads(spent.read_text())) if spent.exists() else None,
                    "cases": cases,
                }
            )
        return result

    def after_training(self, dataset: int, variants: list[str]) -> dict:
        """Best configuration, prediction, ensemble, zip and back. Cases: the validation side of fold 0."""
        name = DATASETS[dataset]["name"]
        splits = json.loads((self.data / name / "splits_final.json").read_text())
        images, labels = (self.work / "predict" / name / part for part in ("images", "labels"))
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        for case in splits[0]["val"]:
            link(images / f"{case}_0000.nii.gz", self.data / name / "imagesTr" / f"{case}_0000.nii.gz")
            link(labels / f"{case}.nii.gz", self.data / name / "labelsTr" / f"{case}.nii.gz")
        seconds = {
            "find_best": self.once(
                f"find_best_{dataset}",
                ["nnUNetv2_find_best_configuration", str(dataset), "-p", *(plans_name(a) for a in variants)]
                + ["-c", CONFIGURATION, "-tr", TRAINER, "-np", "1"],
            )
        }
        information = self.folders["results"] / name / "inference_information.json"
        best = json.loads(information.read_text())["best_model_or_ensemble"]
        self.judge(dataset, variants, seconds)
        outputs = {variant: images.with_name(variant) for variant in variants}
        for variant, out in outputs.items():
            seconds[f"predict_{variant}"] = self.predict(dataset, variant, images, out, self.folders["results"])
        ensemble = images.with_name("ensemble")
        seconds["ensemble"] = self.once(
            f"ensemble_{dataset}",
            ["nnUNetv2_ensemble", "-i", *map(str, outputs.values()), "-o", str(ensemble), "-np", "1"],
        )
        model = self.model_folder(dataset, variants[0])
        seconds["evaluate"] = self.once(
            f"evaluate_{dataset}",
            ["nnUNetv2_evaluate_folder", str(labels), str(ensemble), "-np", "1"]
            + ["-djfile", str(model / "dataset.json"), "-pfile", str(model / "plans.json")],
        )
        archive = self.work / f"{name}.zip"
        seconds["zip"] = self.once(
            f"zip_{dataset}",
            ["nnUNetv2_export_model_to_zip", "-d", str(dataset), "-o", str(archive), "-c", CONFIGURATION]
            + ["-tr", TRAINER, "-p", plans_name(variants[0]), "-f", *(str(f) for f in FOLDS)],
        )
        installed = self.work / "installed"
        seconds["install"] = self.once(
            f"install_{dataset}",
            ["nnUNetv2_install_pretrained_model_from_zip", str(archive)],
            nnUNet_results=str(installed),
        )
        from_zip = images.with_name("from_zip")
        self.predict(dataset, variants[0], images, from_zip, installed)
        return {
            "best": {key: best[key] for key in best if key != "selected_model_or_models"},
            "ensemble_dice": json.loads((ensemble / "summary.json").read_text())["foreground_mean"]["Dice"],
            "predict_equals_validation": self.same(outputs[variants[0]], model / "fold_0" / "validation"),
            "zip_equals_original": self.same(outputs[variants[0]], from_zip),
            "seconds": {key: round(value) for key, value in seconds.items()},
        }

    def judge(self, dataset: int, variants: list[str], seconds: dict) -> None:
        """Run `evaluate` on the five folds' predictions (collected by find_best), and `compare` on all variants."""
        name = DATASETS[dataset]["name"]
        splits = json.loads((self.data / name / "splits_final.json").read_text())
        cases = [case for fold in splits for case in fold["val"]]
        out = self.work / "judged" / name
        out.mkdir(parents=True, exist_ok=True)
        (out / "subjects.json").write_text(json.dumps({case: subject(case) for case in cases}))
        models = []
        for variant in variants:
            model = self.model_folder(dataset, variant)
            folder = model / f"crossval_results_folds_{'_'.join(str(f) for f in FOLDS)}"
            models.append(f"{variant}={out / variant}.json")
            seconds[f"evaluate_{variant}"] = self.once(
                f"judge_{dataset}_{variant}",
                ["nnunet_xlstm", "evaluate", "-ref", str(self.data / name / "labelsTr"), "-pred", str(folder)]
                + ["-djfile", str(model / "dataset.json"), "-o", f"{out / variant}.json"],
            )
        seconds["compare"] = self.once(
            f"compare_{dataset}",
            ["nnunet_xlstm", "compare", *models, "-o", str(out / "comparison")]
            + ["--subjects", str(out / "subjects.json"), "--bootstrap", "10000"],
        )

    def predict(self, dataset: int, variant: str, images: Path, out: Path, results: Path) -> float:
        """With fold 0 alone: the cases are its validation side, so the score is of unseen images."""
        command = ["nnUNetv2_predict", "-i", str(images), "-o", str(out), "-d", str(dataset), "-c", CONFIGURATION]
        command += ["-tr", TRAINER, "-p", plans_name(variant), "-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1"]
        return self.once(
            f"predict_{dataset}_{out.name}", [*command, "--save_probabilities"], nnUNet_results=str(results)
        )

    @staticmethod
    def same(a: Path, b: Path) -> float:
        """Share of cases whose two segmentations agree in every voxel."""
        import SimpleITK as sitk

        names = [p.name for p in a.glob("*.nii.gz")]
        equal = [
            bool((sitk.GetArrayFromImage(sitk.ReadImage(a / n)) == sitk.GetArrayFromImage(sitk.ReadImage(b / n))).all())
            for n in names
        ]
        return sum(equal) / len(equal)


def subject(case: str) -> str:
    """The cases of ACDC are the two phases of a subject."""
    return case.removesuffix("_ED").removesuffix("_ES")


def per_fold(folds_a: list[dict], folds_b: list[dict]) -> list[float]:
    """Mean Dice of a minus that of b, over the folds that both have. (Intervals: see WORK/judged.)"""
    b_of = {f["fold"]: f["dice"] for f in folds_b}
    return [f["dice"] - b_of[f["fold"]] for f in folds_a if f["fold"] in b_of]


def summarize(bench: CrossValidation, datasets: list[int], variants: list[str]) -> dict:
    """Per data set and variant: mean and SD over folds, and xlstm minus the variant."""
    table = {}
    for dataset in datasets:
        rows = {variant: bench.scores(dataset, variant) for variant in variants}
        entry = {}
        for variant, folds in rows.items():
            dice = [f["dice"] for f in folds]
            entry[variant] = {
                "folds": len(folds),
                "dice": statistics.mean(dice) if dice else None,
                "sd": statistics.stdev(dice) if len(dice) > 1 else None,
                "dice_per_fold": dice,
                "dice_per_class": {
                    k: statistics.mean(f["dice_per_class"][k] for f in folds)
                    for k in (folds[0]["dice_per_class"] if folds else {})
                },
                "seconds_per_fold": [f["seconds"] for f in folds],
            }
            if variant != "xlstm" and folds and rows.get("xlstm"):
                entry[variant]["xlstm_minus_variant"] = per_fold(rows["xlstm"], folds)
        table[DATASETS[dataset]["name"]] = entry
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with Dataset004_Hippocampus and Dataset027_ACDC"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--datasets", type=int, nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--variants", nargs="+", default=list(DEFAULT_VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--folds", type=int, nargs="+", default=list(FOLDS))
    parser.add_argument("--iterations", type=int, default=500, help="a fold; a multiple of 50")
    parser.add_argument("--jobs", type=int, default=1, help="folds trained at the same time, each on cores of its own")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further fold after this long")
    parser.add_argument("--cases", type=Path, help="write the Dice of every validation case to this JSON file")
    args = parser.parse_args()
    bench = CrossValidation(args.data.resolve(), args.work.resolve(), args.iterations, args.jobs)
    deadline = time.time() + 60 * args.minutes

    def train(job: tuple[int, int, str]) -> None:
        dataset, fold, variant = job
        if time.time() < deadline:
            bench.train(dataset, variant, fold)
            print(f"{DATASETS[dataset]['name']} {variant} fold {fold}: done", file=sys.stderr, flush=True)

    for dataset in args.datasets:
        bench.plan(dataset, args.variants)
    jobs = [(dataset, fold, variant) for dataset in args.datasets for fold in args.folds for variant in args.variants]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(train, jobs))
    result = {"table": summarize(bench, args.datasets, args.variants)}
    for dataset in args.datasets:
        if all(len(bench.scores(dataset, variant)) == len(FOLDS) for variant in args.variants):
            result.setdefault("after_training", {})[DATASETS[dataset]["name"]] = bench.after_training(
                dataset, args.variants
            )
    if args.cases:
        rows = {DATASETS[d]["name"]: {a: bench.scores(d, a) for a in args.variants} for d in args.datasets}
        args.cases.write_text(json.dumps(rows, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
