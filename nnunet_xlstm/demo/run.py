"""The whole pipeline in one call: data, the stock nnU-Net commands as child processes, and a report."""

from __future__ import annotations

import logging
import math
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm.demo.inputs import Dataset, check_out, place_dataset, prepare_out, read_dataset
from nnunet_xlstm.demo.page import build_page
from nnunet_xlstm.demo.progress import EpochBar, Stages
from nnunet_xlstm.demo.report import Scores, draw_pictures, intensity_baseline, quality
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.write import write_json
from nnunet_xlstm.nnunet.install.environment import (
    FEW_CORES,
    child_variables,
    is_registered,
    plan_command,
    stock_command,
    versions,
)
from nnunet_xlstm.phantoms.dataset import write_dataset
from nnunet_xlstm.subprocesses import Commands

PLANNER = "nnUNetPlannerXLSTMUNetTiny"
PLANS = "nnUNetXLSTMUNetTinyPlans"
TRAINER = "nnUNetTrainerXLSTMUNetShort"
PHANTOMS = "Dataset900_HeartPhantom"
CASES, TEST_CASES = 40, 8
# The tiny net takes a learning rate of four times the short recipe's, and needs it to be done in minutes.
TRAINING = {
    "num_iterations_per_epoch": 50,
    "num_val_iterations_per_epoch": 2,
    "mirroring": False,
    "initial_lr": 4e-3,
}
PHANTOM_EPOCHS, DATA_EPOCHS = 7, 10
# On a CPU a step costs as much as its voxels; a GPU keeps the plans' patch and batch.
PHANTOM_PATCH_VOXELS, DATA_PATCH_VOXELS, BATCH_VOXELS = 35_000, 100_000, 200_000

logger = logging.getLogger(__name__)


def run_demo(
    out: Path,
    data: Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    epochs: int | None = None,
    cases: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run everything; return the content of summary.json. Bad input is refused before anything is written.

    Args:
        out: new, empty, or of an earlier demo, which is replaced.
        data: a raw nnU-Net dataset; None makes the phantoms.
        device: "cpu", "cuda" or "mps", as in nnU-Net's -device.
        seed: of phantoms and training.
        epochs: of 50 iterations; default 7 for phantoms, 10 for data.
        cases: phantoms to train on, at least 10; default 40.
        progress: show progress bars on stderr.

    Raises:
        DatasetError: unusable input.
        WriteError: the folder cannot be written.
        CommandFailed: one of the commands failed.
    """
    start = time.perf_counter()
    out = Path(out).resolve()
    given = _check(out, data, cases)
    prepare_out(out)
    folders = {name: out / f"nnUNet_{name}" for name in ("raw", "preprocessed", "results")}
    # On a GPU, compiling would take longer than the whole run.
    variables = child_variables(folders, out / "config.json") | FEW_CORES | {"nnUNet_compile": "0"}
    commands = Commands(out, variables)
    _log_registration(commands.variables)

    stages = Stages(progress)
    with stages("data"):
        dataset = _phantoms(out, cases or CASES, seed) if given is None else place_dataset(given, out / "nnUNet_raw")
    configuration = dataset.configuration()
    with stages("plan"):
        plans = _plan(commands, dataset, configuration, check=given is not None)
    n_epochs = epochs or (PHANTOM_EPOCHS if data is None else DATA_EPOCHS)
    config: dict[str, Any] = TRAINING | {"num_epochs": n_epochs, "seed": seed}
    if device != "cuda":
        voxels = PHANTOM_PATCH_VOXELS if data is None else DATA_PATCH_VOXELS
        config |= cpu_sizes(plans["configurations"][configuration], voxels)
    write_json(out / "config.json", config)
    with stages("train"), EpochBar(n_epochs, progress) as bar:
        options = [dataset.number, configuration, "0", "-tr", TRAINER, "-p", PLANS, "-device", device]
        commands.run("train", [stock_command("nnUNetv2_train"), *options], bar.update_from)
    scores = _score(commands, stages, dataset, configuration, device)
    with stages("report"):
        baseline = intensity_baseline(dataset, scores, out / "nnUNet_preprocessed")
        pictures = draw_pictures(dataset, scores, out / "pictures")

    summary = quality(dataset, scores, baseline) | {
        "seconds": stages.seconds,
        "total_seconds": round(time.perf_counter() - start, 1),
        "device": device,
        "seed": seed,
        "planner": PLANNER,
        "plans": PLANS,
        "trainer": TRAINER,
        "configuration": configuration,
        "config": config,
        "environment": commands.variables,
        "commands": commands.done,
        "pictures": [path.relative_to(out).as_posix() for _, path in pictures],
        "versions": versions(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_json(out / "summary.json", summary)
    build_page(summary, pictures).write(out / "index.html")
    return summary


def _check(out: Path, data: Path | None, cases: int | None) -> Dataset | None:
    """Return the user's dataset, if any, after all checks."""
    if data is not None and cases is not None:
        raise DatasetError(
            f"--cases {cases} is the number of phantoms, which --data {data} replaces; give one of them."
        )
    if cases is not None and cases < 10:
        raise DatasetError(f"--cases {cases} is too few: five folds of two phases per subject need 10 or more.")
    check_out(out, data)
    return None if data is None else read_dataset(Path(data))


def _log_registration(variables: dict[str, str]) -> None:
    if is_registered("trainers") and is_registered("planners"):
        logger.info("nnunet_xlstm is registered: stock commands find its trainers and planners.")
        return
    logger.info(
        "nnunet_xlstm is not registered with nnU-Net; for its own processes the demo uses the fallbacks "
        "`python -m nnunet_xlstm plan_and_preprocess` and nnUNet_extTrainer=%s. "
        "To use the stock commands yourself: nnunet_xlstm register",
        variables.get("nnUNet_extTrainer", "(not needed)"),
    )


def _phantoms(out: Path, cases: int, seed: int) -> Dataset:
    folder = write_dataset(out / "nnUNet_raw" / PHANTOMS, cases, min(TEST_CASES, cases), seed)
    return read_dataset(folder)


def _plan(commands: Commands, dataset: Dataset, configuration: str, check: bool) -> dict[str, Any]:
    options = ["-d", dataset.number, "-pl", PLANNER, "-c", configuration, "-npfp", "1", "-np", "1"]
    commands.run("plan", [*plan_command(), *options, *["--verify_dataset_integrity"] * check])
    return read_json(commands.folder / "nnUNet_preprocessed" / dataset.folder.name / f"{PLANS}.json")


def cpu_sizes(configuration: dict[str, Any], max_voxels: int) -> dict[str, Any]:
    """patch_size and batch_size for a CPU: the plans' own, made smaller where they cost too much.

    The longest axis loses one divisor (the product of its strides) at a time until the patch has at most max_voxels.
    """
    patch = list(configuration["patch_size"])
    divisor = np.prod(configuration["architecture"]["arch_kwargs"]["strides"], axis=0).tolist()
    while math.prod(patch) > max_voxels:
        can_shrink = [axis for axis, (n, d) in enumerate(zip(patch, divisor, strict=True)) if n > d]
        if not can_shrink:
            break
        axis = max(can_shrink, key=patch.__getitem__)
        patch[axis] -= divisor[axis]
    batch = min(configuration["batch_size"], max(2, BATCH_VOXELS // math.prod(patch)))
    return {"patch_size": patch, "batch_size": batch}


def _score(commands: Commands, stages: Stages, dataset: Dataset, configuration: str, device: str) -> Scores:
    """Predict and evaluate the labelled test cases; without any, take the training's validation of fold 0."""
    out = commands.folder
    if not dataset.files("Ts"):
        model = out / "nnUNet_results" / dataset.folder.name / f"{TRAINER}__{PLANS}__{configuration}"
        validation = model / "fold_0" / "validation"
        return Scores(read_json(validation / "summary.json"), "Tr", validation)
    predictions = out / "predictions"
    with stages("predict"):
        options = ["-i", str(dataset.folder / "imagesTs"), "-o", str(predictions), "-d", dataset.number, "-f", "0"]
        options += ["-tr", TRAINER, "-p", PLANS, "-c", configuration, "-device", device, "-npp", "1", "-nps", "1"]
        commands.run("predict", [stock_command("nnUNetv2_predict"), *options, "--disable_tta"])
    with stages("evaluate"):
        command = [stock_command("nnUNetv2_evaluate_folder"), str(dataset.folder / "labelsTs"), str(predictions)]
        files = ["-djfile", str(predictions / "dataset.json"), "-pfile", str(predictions / "plans.json")]
        commands.run("evaluate", [*command, *files, "-o", str(out / "evaluation.json"), "-np", "1"])
    return Scores(read_json(out / "evaluation.json"), "Ts", predictions)
