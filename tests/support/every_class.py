"""Every trainer and planner by name, from plan to prediction, on tiny data sets: green, or the sentence of a refusal.

    python tests/support/every_class.py --work WORK [--out docs/reference/every-class.md] [--only NAME ...]

Planners plan with their real preset; before training, the features of the plan are cut to 8 and transformers to one
layer, so that a core can run them. A run is one or two epochs of one iteration; a cell is green if training, the final
validation and prediction of an image work, and the prediction has the image's grid and known labels. Trainers run on
plans of `nnUNetPlannerXLSTMUNetTiny`, planners under `nnUNetTrainerXLSTMUNetShort`. nnU-Net's pools are replaced by
calls in one process. WORK keeps the cells, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import json
import multiprocessing
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import SimpleITK as sitk

GREEN = "green"
CASES = 3
TRAINER, PLANNER = "nnUNetTrainerXLSTMUNetShort", "nnUNetPlannerXLSTMUNetTiny"
CONFIG = {
    "num_epochs": 1,
    "num_iterations_per_epoch": 1,
    "num_val_iterations_per_epoch": 1,
    "batch_size": 2,
    "mirroring": False,
    "seed": 0,
    # pre-training
    "gradient_accumulation": 1,
    "n_prototypes": 32,
    "n_prototypes_inner": 16,
    "head_hidden": 32,
    "head_bottleneck": 16,
    "queue_size": 16,
    "monitor_vectors": 16,
    "dense_points": 8,
    "mask_block": 4,
}


@dataclass(frozen=True)
class Setting:
    """A column of the table."""

    dataset: int
    configuration: str = "3d_fullres"


SETTINGS = {
    "2D": Setting(921, "2d"),
    "3D": Setting(921),
    "thick slices": Setting(922),
    "cascade": Setting(921, "3d_cascade_fullres"),
    "regions, ignore": Setting(923),
    "pool": Setting(924),
}
NAMES = {921: "Dataset921_Plain", 922: "Dataset922_Thick", 923: "Dataset923_Regions", 924: "Dataset924_Pool"}


def write_data(raw: Path) -> None:
    """Write three raw data sets of two nested ellipsoids: plain, with thick slices, and with regions and ignore."""
    rng = np.random.default_rng(0)
    regions = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    for number, shape, spacing, labels in (
        (921, (20, 22, 24), (1, 1, 1), {"background": 0, "shell": 1, "core": 2}),
        (922, (6, 32, 30), (8, 1, 1), {"background": 0, "shell": 1, "core": 2}),
        (923, (20, 22, 24), (1, 1, 1), regions),
    ):
        folder = raw / NAMES[number]
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True)
        for i in range(CASES):
            center = [n / 2 + rng.uniform(-1, 1) for n in shape]
            grid = np.indices(shape)
            distance = sum(((g - c) / (0.35 * n)) ** 2 for g, c, n in zip(grid, center, shape, strict=True))
            label = (distance < 1).astype(np.uint8) + (distance < 0.4)
            image = (label + rng.normal(0, 0.3, shape)).astype(np.float32)
            if "ignore" in labels:
                label[:2] = 3
            for array, path in ((image, f"imagesTr/c{i}_0000.nii.gz"), (label, f"labelsTr/c{i}.nii.gz")):
                one = sitk.GetImageFromArray(array)
                one.SetSpacing([float(s) for s in spacing[::-1]])
                sitk.WriteImage(one, str(folder / path))
        facts = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": CASES, "file_ending": ".nii.gz"}
        facts |= {"regions_class_order": [1, 2]} if "ignore" in labels else {}
        (folder / "dataset.json").write_text(json.dumps(facts))


def write_pool(work: Path) -> None:
    """Make a pool with labels of the first two data sets, which label different things."""
    from nnunet_xlstm.cli.main import main

    sources = [
        {"dataset": NAMES[921], "name": "Both", "modality": "MR", "targets": {"shell": [1], "core": [2]}},
        {"dataset": NAMES[922], "name": "Core", "modality": "MR", "targets": {"core": [2]}},
    ]
    spec = {"name": "Pool", "targets": [{"name": "shell"}, {"name": "core"}], "sources": sources}
    (work / "pool.json").write_text(json.dumps(spec))
    if main(["pool", "build", str(work / "pool.json"), "-d", "924"]):
        raise RuntimeError("pool build failed")


class Runner:
    """Cells of the table in one work folder. nnU-Net's variables must name folders in it before nnU-Net is imported."""

    def __init__(self, work: Path):
        self.work = work
        self.preprocessed, self.results = work / "preprocessed", work / "results"
        self._plans: dict[tuple[str, int], dict] = {}
        self._low: set[tuple[str, str]] = set()

    # ---- plan

    def plans(self, planner: str, dataset: int) -> dict:
        """Plan with a planner's real preset, cut the features, preprocess what is new."""
        if (planner, dataset) not in self._plans:
            self._plans[planner, dataset] = self._plan(planner, dataset)
        return self._plans[planner, dataset]

    def _plan(self, planner: str, dataset: int) -> dict:
        from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet

        from nnunet_xlstm.nnunet.install.registration import load_class
        from support.fewer_samples import FewerSamples

        folder = self.preprocessed / NAMES[dataset]
        if not (folder / "dataset_fingerprint.json").is_file():
            nnunet.extract_fingerprint_dataset(dataset, FewerSamples, num_processes=1)
        load_class(planner)(dataset).plan_experiment()
        path = folder / f"{'nnUNet' + planner.removeprefix('nnUNetPlanner')}Plans.json"
        plans = json.loads(path.read_text())
        for row in plans["configurations"].values():
            if "architecture" in row:  # nnU-Net keeps configurations of earlier plans
                cut(row["architecture"]["arch_kwargs"])
        full = plans["configurations"]["3d_fullres"]
        if dataset == 921:  # too small for nnU-Net to plan a cascade: as it writes one for large images
            low = copy.deepcopy(full) | {
                "data_identifier": f"{plans['plans_name']}_3d_lowres",
                "spacing": [1.3 * s for s in full["spacing"]],
                "next_stage": "3d_cascade_fullres",
            }
            cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
            plans["configurations"] |= {"3d_lowres": low, "3d_cascade_fullres": cascade}
        path.write_text(json.dumps(plans))
        for configuration, row in plans["configurations"].items():
            identifier = row.get("data_identifier")
            if identifier and not (folder / identifier).is_dir():
                nnunet.preprocess_dataset(dataset, plans["plans_name"], (configuration,), num_processes=(1,))
        return plans

    # ---- train and predict

    def cell(self, trainer: str, planner: str, setting: str) -> str:
        """Green, or what a refusal says. Any other error is raised."""
        from nnunet_xlstm.errors import UserError

        column = SETTINGS[setting]
        try:
            plans = self.plans(planner, column.dataset)
            self.run(trainer, plans, column)
        except UserError as error:
            return str(error)
        return GREEN

    def run(self, trainer: str, plans: dict, column: Setting) -> None:
        """Train, validate, and predict the first image; pre-training is followed by a fine-tuning from it."""
        previous = None
        if column.configuration == "3d_cascade_fullres" and not is_pretraining(trainer):
            low = Setting(column.dataset, "3d_lowres")
            model = self.results / NAMES[column.dataset] / f"{trainer}__{plans['plans_name']}__3d_lowres"
            previous = self.work / "predicted" / model.name
            if not previous.is_dir():
                self.run(trainer, plans, low)
        made = self.trainer(trainer, plans, column)
        made.run_training()
        made.perform_actual_validation()
        if is_pretraining(trainer):
            from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

            checkpoint = Path(made.output_folder) / "checkpoint_final.pth"
            made = self.trainer("nnUNetTrainerFinetune", plans, column)
            made.initialize()
            load_pretrained_weights(made.network, str(checkpoint))
            made.run_training()
            made.perform_actual_validation()
        self.predict(Path(made.output_folder_base), column, previous)

    def trainer(self, name: str, plans: dict, column: Setting):
        """A trainer with the quick config, and the patch of the plans in place of a recipe's."""
        import torch

        from nnunet_xlstm.nnunet.install.registration import load_class
        from nnunet_xlstm.nnunet.training.run_config import load_recipe

        row = plans["configurations"][column.configuration]
        row = plans["configurations"][row["inherits_from"]] if "inherits_from" in row else row
        recipe = load_recipe(name)
        keys = {f.name for f in dataclasses.fields(recipe)}
        values = {k: v for k, v in CONFIG.items() if k in keys} | {"patch_size": row["patch_size"]}
        if getattr(recipe, "decoder_epochs", 0):
            values |= {"decoder_epochs": 1, "num_epochs": 2}
        (self.work / "config.json").write_text(json.dumps(values))
        os.environ["nnUNet_xlstm_config"] = str(self.work / "config.json")
        dataset = json.loads((self.preprocessed / NAMES[column.dataset] / "dataset.json").read_text())
        plans = copy.deepcopy(plans) | {"continue_training": False}
        return load_class(name)(plans, column.configuration, "all", dataset, torch.device("cpu"))

    def predict(self, model: Path, column: Setting, previous: Path | None) -> None:
        """Predict the first training image with nnU-Net's predictor and check the result."""
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(model), ("all",), "checkpoint_final.pth")
        raw = self.work / "raw" / NAMES[column.dataset]
        image = first_image(raw)
        out = self.work / "predicted" / model.name
        out.mkdir(parents=True, exist_ok=True)
        case = image.name.removesuffix("_0000.nii.gz")
        predictor.predict_from_files_sequential(
            [[str(image)]], [str(out / case)], folder_with_segs_from_prev_stage=previous and str(previous)
        )
        made, original = sitk.ReadImage(str(out / f"{case}.nii.gz")), sitk.ReadImage(str(image))
        assert made.GetSize() == original.GetSize() and made.GetSpacing() == original.GetSpacing()
        assert set(np.unique(sitk.GetArrayFromImage(made))) <= {0, 1, 2, 3}


def first_image(raw: Path) -> Path:
    """The first image of a raw data set, which may name its images elsewhere."""
    facts = json.loads((raw / "dataset.json").read_text())
    if "dataset" in facts:
        path = Path(next(iter(facts["dataset"].values()))["images"][0])
        return path if path.is_absolute() else raw / path
    return min((raw / "imagesTr").iterdir())


def cut(arch_kwargs: dict) -> None:
    """Make a planned network small: its stages, strides and blocks' kinds stay."""
    n = len(arch_kwargs["features_per_stage"])
    arch_kwargs["features_per_stage"] = [min(4 * 2**s, 8) for s in range(n)]
    for key in ("n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder"):
        if key in arch_kwargs:
            arch_kwargs[key] = [1] * len(arch_kwargs[key])
    if arch_kwargs.get("vit"):
        arch_kwargs["vit"] = arch_kwargs["vit"] | {"dim": 24, "layers": 1, "heads": 2}


def is_pretraining(trainer: str) -> bool:
    from nnunet_xlstm.config.pretraining import PretrainingConfig
    from nnunet_xlstm.nnunet.training.run_config import load_recipe

    return isinstance(load_recipe(trainer), PretrainingConfig)


class InlinePool:
    """A pool that does what it is given at once, in this process."""

    def __init__(self, processes: int | None = None):
        self._pool: list = []  # nnU-Net looks whether its workers live

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def starmap(self, function: Callable, arguments, chunksize: int | None = None) -> list:
        return [function(*one) for one in arguments]

    def starmap_async(self, function: Callable, arguments) -> SimpleNamespace:
        result = self.starmap(function, arguments)
        return SimpleNamespace(ready=lambda: True, get=lambda timeout=None: result)


@contextlib.contextmanager
def one_process():
    """Inside, nnU-Net starts no processes, each of which would import torch, and draws no curves."""
    from nnunetv2.training.logging.nnunet_logger import MetaLogger

    context = SimpleNamespace(Pool=InlinePool)
    with (
        mock.patch.object(multiprocessing, "get_context", lambda method=None: context),
        mock.patch(
            "nnunetv2.utilities.utils.Pool", InlinePool
        ),  # forks, which may wait for ever beside torch's threads
        mock.patch.object(MetaLogger, "plot_progress_png", lambda self, folder: None),
    ):
        yield


def prepare(work: Path) -> None:
    """Point nnU-Net's variables into the work folder and write the data; before nnU-Net is imported."""
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ |= {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    import nnunet_xlstm.shim

    os.environ["nnUNet_extTrainer"] = list(nnunet_xlstm.shim.__path__)[0]  # prediction finds trainers by name
    if not (work / "raw" / NAMES[921]).is_dir():
        write_data(work / "raw")


def cells_of(only: list[str] | None = None) -> list[tuple[str, str, str, str]]:
    """List (name of the row, setting, trainer, planner) of all cells, or of those that NAME or NAME:SETTING name."""
    from nnunet_xlstm.registry import PLANNERS, TRAINERS

    rows = [(name, name, PLANNER) for name in TRAINERS] + [(name, TRAINER, name) for name in PLANNERS]
    cells = [(name, setting, trainer, planner) for name, trainer, planner in rows for setting in SETTINGS]
    return [cell for cell in cells if not only or cell[0] in only or f"{cell[0]}:{cell[1]}" in only]


def fill(work: Path, chosen: list[tuple[str, str, str, str]], say: Callable[[str], None]) -> dict[str, dict[str, str]]:
    """Run the cells that are not there yet, and red ones again."""
    path = work / "cells.json"
    cells = json.loads(path.read_text()) if path.is_file() else {}
    runner = Runner(work)
    for name, setting, trainer, planner in chosen:
        if not cells.get(name, {}).get(setting, "RED").startswith("RED"):
            continue
        start = time.process_time()
        with open(work / "log.txt", "a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            try:
                answer = runner.cell(trainer, planner, setting)
            except Exception as error:  # the table shows it, and the run goes on
                traceback.print_exc()
                answer = f"RED: {type(error).__name__}: {error}"
        for private, said in ((str(work), "WORK"), *((NAMES[number], "DATA") for number in NAMES)):
            answer = answer.replace(private, said)
        cells.setdefault(name, {})[setting] = answer
        path.write_text(json.dumps(cells, indent=1))
        say(f"{name}, {setting}: {answer[:160]} ({time.process_time() - start:.1f} s)")
        for folder in ("results", "predicted"):  # of this cell alone
            shutil.rmtree(work / folder, ignore_errors=True)
    return cells


def page(cells: dict[str, dict[str, str]]) -> str:
    """The table as Markdown; a refusal is a number, its sentence stands below."""
    sentences: list[str] = []

    def mark(answer: str | None) -> str:
        if answer in (None, GREEN):
            return answer or ""
        if answer not in sentences:
            sentences.append(answer)
        return f"refused ({sentences.index(answer) + 1})" if not answer.startswith("RED") else "**red**"

    from nnunet_xlstm.registry import PLANNERS, TRAINERS

    lines = [
        "# Every trainer and planner, from plan to prediction",
        "",
        "<!-- made by `python tests/support/every_class.py`; do not edit -->",
        "",
        *" ".join(__doc__.split("\n\n")[2].split()).replace(". ", ".\n").splitlines(),
        "",
        f"`python tests/support/every_class.py --work WORK --out docs/reference/every-class.md`; Python "
        f"{platform.python_version()}, a CPU.",
    ]
    for title, names in (("Trainers", TRAINERS), ("Planners", PLANNERS)):
        lines += ["", f"## {title}", "", "| name | " + " | ".join(SETTINGS) + " |", "|---" * (len(SETTINGS) + 1) + "|"]
        for name in (name for name in names if name in cells):
            marks = " | ".join(mark(cells[name].get(setting)) for setting in SETTINGS)
            lines.append(f"| `{name}` | {marks} |")
    if sentences:
        lines += ["", "## What the refusals say", ""]
        lines += [f"{i}. {' '.join(sentence.split())}" for i, sentence in enumerate(sentences, 1)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--out", type=Path, help="write the table there")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows, or cells as NAME:SETTING")
    args = parser.parse_args()
    work = args.work.resolve()
    prepare(work)
    with one_process():
        if not (work / "raw" / NAMES[924]).is_dir():
            write_pool(work)
        cells = fill(work, cells_of(args.only), lambda line: print(line, file=sys.__stdout__, flush=True))
    if args.out:
        args.out.write_text(page(cells))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for `support`, as in tests
    main()
