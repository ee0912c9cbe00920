"""The recipes of 3D-SegSync and 3D-Heart_Seg on real images: each class once, and side by side with nnU-Net's.

    python benchmarks/recipes_real.py --data $DATA --work WORK --each
    python benchmarks/recipes_real.py --data $DATA --work WORK [--iterations 200] [--pretraining 100]

Hippocampus, patches and split of the CPU protocol (docs/reference/cpu-protocol.md), fold 0, seed 1000. `--each` plans,
trains (two epochs of two iterations), validates and predicts with every trainer and planner of the two papers at its
full size, on twelve subjects. Without it, three networks with the features of preset `small` are trained twice: with
their paper's recipe (after pre-training without labels on the fold's own training images, where the paper pre-trains)
and with the protocol's. All validation subjects are scored by `evaluate`, the variants compared by `compare`. Runs that
are done are kept. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

from bench import Bench, link

NAME, NUMBER, CONFIGURATION = "Dataset004_Hippocampus", 4, "3d_fullres"
PATCH, SEED, EPOCH = [24, 40, 32], 1000, 50
FEW, FEW_NUMBER, N_TRAIN, N_VAL = "Dataset704_HippocampusFew", 704, 9, 3
SEGSYNC, HEARTSEG, PLAIN = "nnUNetSegSyncPlans", "nnUNetXLSTMUNetPlans", "nnUNetXLSTMUNetSmallPlainPlans"
SHORT = "nnUNetTrainerXLSTMUNetShort"


@dataclass(frozen=True)
class Variant:
    """A network, its pre-training (None: from scratch) and its trainer."""

    plans: str
    pretraining: str | None
    trainer: str


VARIANTS = {
    "segsync": Variant(SEGSYNC, "nnUNetTrainerDINO_SegSync", "nnUNetTrainerFinetune_SegSync"),
    "heartseg": Variant(HEARTSEG, "nnUNetTrainerDINO_HeartSeg", "nnUNetTrainerFinetuneFrozen"),
    "nnunet": Variant(PLAIN, None, "nnUNetTrainerXLSTMUNet"),
    "segsync_short": Variant(SEGSYNC, "nnUNetTrainerDINO_SegSync", SHORT),
    "heartseg_short": Variant(HEARTSEG, "nnUNetTrainerDINO_HeartSeg", SHORT),
    "nnunet_short": Variant(PLAIN, None, SHORT),
}
# trainer -> plans that it is tried on; planners that no trainer stands for
EACH_TRAINER = {
    "nnUNetTrainerDINO_SegSync": SEGSYNC,
    "nnUNetTrainerFinetune_SegSync": SEGSYNC,
    "nnUNetTrainerFinetuneBottom": SEGSYNC,
    "nnUNetTrainerFinetuneBottom_150epochs": SEGSYNC,
    "nnUNetTrainerFinetuneFrozen": HEARTSEG,
    "nnUNetTrainerFinetuneFrozen_150epochs": HEARTSEG,
    "nnUNetTrainerXLSTMUNetAdam": HEARTSEG,
}
EACH_PLANNER = {f"nnUNetSegSync{name}Plans": SHORT for name in ("NoXLSTM", "Bi", "BiNoXLSTM")}


def planner(plans: str) -> str:
    return plans.replace("nnUNet", "nnUNetPlanner", 1).removesuffix("Plans")


class Recipes(Bench):
    """The commands of both parts in one work folder."""

    def splits(self) -> dict:
        return json.loads((self.data / NAME / "splits_final.json").read_text())[0]

    def plan(self, number: int, name: str, all_plans: list[str]) -> None:
        """Plan, and preprocess once: all of them share nnU-Net's data."""
        for i, plans in enumerate(all_plans):
            command = ["nnUNetv2_plan_and_preprocess", "-d", str(number), "-pl", planner(plans), "-c", CONFIGURATION]
            command += ["-npfp", "1", "-np", "1", *(["--no_pp"] if i else [])]
            self.once(f"plan_{name}_{plans}", command)

    def train(
        self, number: int, name: str, trainer: str, plans: str, keys: dict, start: Path | None, results: str
    ) -> Path:
        """Done, continued or started; its folder. Results of a variant are apart, since variants share trainers."""
        root = self.work / "runs" / results
        fold = root / name / f"{trainer}__{plans}__{CONFIGURATION}" / "fold_0"
        pretraining = "DINO" in trainer
        if not (fold / ("checkpoint_final.pth" if pretraining else "validation/summary.json")).exists():
            root.mkdir(parents=True, exist_ok=True)
            config = root / f"{trainer}.json"
            config.write_text(json.dumps(keys | {"seed": SEED, "patch_size": PATCH, "batch_size": 2}))
            command = ["nnUNetv2_train", str(number), CONFIGURATION, "0", "-tr", trainer, "-p", plans, "-device", "cpu"]
            first = ["-pretrained_weights", str(start)] if start else []
            environment = {"nnUNet_xlstm_config": str(config), "nnUNet_results": str(root)}
            self.train_on(f"{results}_{trainer}_{plans}", command, fold, first, **environment)
        return fold

    # ---- each class once

    def prepare_few(self) -> None:
        """Twelve subjects of fold 0."""
        fold, raw = self.splits(), self.folders["raw"] / FEW
        used = {"train": fold["train"][:N_TRAIN], "val": fold["val"][:N_VAL]}
        for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
            (raw / part).mkdir(parents=True, exist_ok=True)
            for case in used["train"] + used["val"]:
                link(raw / part / f"{case}{ending}", self.data / NAME / part / f"{case}{ending}")
        facts = json.loads((self.data / NAME / "dataset.json").read_text())
        (raw / "dataset.json").write_text(json.dumps(facts | {"numTraining": N_TRAIN + N_VAL}))
        self.plan(FEW_NUMBER, FEW, [SEGSYNC, HEARTSEG, *EACH_PLANNER])
        (self.folders["preprocessed"] / FEW / "splits_final.json").write_text(json.dumps([used]))

    def each(self) -> list[dict]:
        self.prepare_few()
        few = {"num_epochs": 2, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1, "mirroring": False}
        pretrained = None
        rows = []
        runs = [*EACH_TRAINER.items(), *((trainer, plans) for plans, trainer in EACH_PLANNER.items())]
        for trainer, plans in runs:
            keys = few | ({"monitor_vectors": 16} if "DINO" in trainer else {})
            start = pretrained if plans == SEGSYNC else None
            fold = self.train(FEW_NUMBER, FEW, trainer, plans, keys, start, "each")
            row = {"trainer": trainer, "plans": plans, "pretrained": start is not None}
            row["seconds"] = round(json.loads((fold / "seconds.json").read_text()))
            if "DINO" in trainer:
                pretrained = fold / "checkpoint_final.pth"
            else:
                row["dice"] = json.loads((fold / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"]
                row["predicted"] = self.predict(fold, trainer, plans)
            rows.append(row)
        return rows

    def predict(self, fold: Path, trainer: str, plans: str) -> int:
        """Predict one image with the stock command; how many label maps came out."""
        images = self.work / "one_image"
        images.mkdir(exist_ok=True)
        case = f"{self.splits()['val'][N_VAL]}_0000.nii.gz"
        link(images / case, self.data / NAME / "imagesTr" / case)
        out = self.work / "predicted" / f"{trainer}_{plans}"
        command = ["nnUNetv2_predict", "-i", str(images), "-o", str(out), "-d", str(FEW_NUMBER), "-c", CONFIGURATION]
        command += ["-tr", trainer, "-p", plans, "-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1"]
        self.once(f"predict_{trainer}_{plans}", command, nnUNet_results=str(fold.parents[2]))
        return len(list(out.glob("*.nii.gz")))

    # ---- side by side

    def prepare(self) -> None:
        link(self.folders["raw"] / NAME, self.data / NAME)
        self.plan(NUMBER, NAME, [PLAIN, SEGSYNC, HEARTSEG])
        folder = self.folders["preprocessed"] / NAME
        small = json.loads((folder / f"{PLAIN}.json").read_text())["configurations"][CONFIGURATION]["architecture"]
        for plans in (SEGSYNC, HEARTSEG):  # the network of the paper at the stages and features of `small`
            path = folder / f"{plans}.json"
            content = json.loads(path.read_text())
            kwargs = content["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]
            for key in ("n_stages", "features_per_stage", "kernel_sizes", "strides"):
                kwargs[key] = small["arch_kwargs"][key]
            kwargs["n_conv_per_stage"] = [1] * kwargs["n_stages"]
            kwargs["n_conv_per_stage_decoder"] = [1] * (kwargs["n_stages"] - 1)
            path.write_text(json.dumps(content, indent=1))

    def variant(self, name: str, pretraining: int) -> dict:
        variant = VARIANTS[name]
        start, seconds = None, {}
        if variant.pretraining:
            keys = {"num_epochs": pretraining // 25, "num_iterations_per_epoch": 25, "num_val_iterations_per_epoch": 2}
            fold = self.train(NUMBER, NAME, variant.pretraining, variant.plans, keys, None, "pretraining")
            start = fold / "checkpoint_final.pth"
            seconds["pretraining"] = round(json.loads((fold / "seconds.json").read_text()))
        keys = {"num_epochs": self.iterations // EPOCH, "num_iterations_per_epoch": EPOCH, "mirroring": False}
        fold = self.train(
            NUMBER, NAME, variant.trainer, variant.plans, keys | {"num_val_iterations_per_epoch": 1}, start, name
        )
        seconds["training"] = round(json.loads((fold / "seconds.json").read_text()))
        scores = self.work / "judged" / f"{name}.json"
        scores.parent.mkdir(exist_ok=True)
        command = ["nnunet_xlstm", "evaluate", "-ref", str(self.data / NAME / "labelsTr"), "--chill", "-pred"]
        command += [str(fold / "validation"), "-djfile", str(fold.parent / "dataset.json"), "-o", str(scores)]
        self.once(f"evaluate_{name}", command)
        return {"dice": json.loads(scores.read_text())["foreground_mean"]["Dice"], "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {NAME}")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--each", action="store_true", help="every trainer and planner once")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--iterations", type=int, default=200, help=f"of fine-tuning; a multiple of {EPOCH}")
    parser.add_argument("--pretraining", type=int, default=100, help="steps of pre-training; a multiple of 25")
    args = parser.parse_args()
    bench = Recipes(args.data.resolve(), args.work.resolve(), args.iterations, 1)
    start = time.time()
    if args.each:
        print(json.dumps({"each": bench.each(), "seconds": round(time.time() - start)}))
        return
    bench.prepare()
    table = {name: bench.variant(name, args.pretraining) for name in args.variants}
    models = [f"{name}={bench.work / 'judged' / name}.json" for name in args.variants]
    out = bench.work / "judged" / "comparison"
    bench.run("compare", ["nnunet_xlstm", "compare", *models, "-o", str(out), "--bootstrap", "10000"])
    print(json.dumps({"table": table, "seconds": round(time.time() - start)}))


if __name__ == "__main__":
    main()
