"""The steps of one run, as commands: train, predict the test cases, evaluate. Each is skipped where it is done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nnunet_xlstm.commands.children import Commands
from nnunet_xlstm.commands.environment import FEW_CORES, child_variables, own_command, stock_command
from nnunet_xlstm.errors import UserError
from nnunet_xlstm.io.files import WriteError, remove_leftovers, replacing, write_json
from nnunet_xlstm.nnunet.raw_cases import RawImages
from nnunet_xlstm.studies.study import Run, Study
from nnunet_xlstm.studies.trainer_config import trainer_config

FOLD = "0"  # splits_final.json of a run has one


def variables(study: Study, run: Run, device: str) -> dict[str, str]:
    """The environment of a run's commands."""
    folders = {"raw": study.raw.parent, "preprocessed": run.folder / "preprocessed", "results": run.folder / "results"}
    made = child_variables(folders, run.folder / "config.json")
    # A GPU waits for its augmentation workers; there the environment decides.
    return made | {key: os.environ.get(key, value) for key, value in FEW_CORES.items() if device == "cpu"}


def adapt_variables(study: Study) -> dict[str, str]:
    """The environment in which a checkpoint is fitted to the plans."""
    return {"nnUNet_raw": str(study.raw.parent), "nnUNet_preprocessed": str(study.preprocessed.parent)}


def do_run(study: Study, run: Run, device: str, commands: Commands) -> None:
    """What is left to do of a run.

    Raises:
        CommandFailed, Stopped: see `Commands`. OSError: the system has no symbolic links.
    """
    if run.is_done:
        return
    _write_inputs(study, run)
    model = model_folder(study, run)
    if not (model / f"fold_{FOLD}" / "checkpoint_final.pth").is_file():
        commands.run("train", train_command(study, run, device, model))
    predictions = run.folder / "predictions"
    if not predictions.is_dir():
        unfinished = run.folder / "predictions_unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        commands.run("predict", predict_command(study, run, device, unfinished))
        unfinished.replace(predictions)
    commands.run("evaluate", evaluate_command(study, run, predictions))


def model_folder(study: Study, run: Run) -> Path:
    """As nnU-Net names it."""
    arm = study.arm(run.arm)
    return run.folder / "results" / study.dataset / f"{arm.trainer}__{arm.plans}__{study.configuration}"


def adapted(study: Study, run: Run) -> Path:
    """What `nnunet_xlstm adapt` makes of the arm's checkpoint; its seed draws what the checkpoint does not have."""
    return study.folder / "adapted" / f"{run.arm}_s{run.seed}" / "adapted.pth"


def adapt(study: Study, run: Run, commands: Commands) -> None:
    """Fit the arm's checkpoint to its plans, unless that is done. Of two processes that try, the first wins."""
    arm, target = study.arm(run.arm), adapted(study, run)
    if arm.checkpoint is None or target.is_file():
        return
    remove_leftovers(target.parent.parent)
    try:
        with replacing(target.parent) as fresh:
            fresh.mkdir()
            command = [*own_command("adapt"), arm.checkpoint, "-d", number(study), "-c", study.configuration]
            command += ["-p", arm.plans, "-o", str(fresh / target.name), "--seed", str(run.seed), *arm.adapt]
            commands.run(f"adapt_{target.parent.name}", command)
    except WriteError:
        if not target.is_file():
            raise


def train_command(study: Study, run: Run, device: str, model: Path) -> list[str]:
    """Starts, or continues where there is a checkpoint."""
    arm = study.arm(run.arm)
    command = [stock_command("nnUNetv2_train"), number(study), study.configuration, FOLD]
    command += ["-tr", arm.trainer, "-p", arm.plans, "-device", device]
    if any((model / f"fold_{FOLD}").glob("checkpoint_*.pth")):
        return [*command, "--c"]
    return [*command, *(["-pretrained_weights", str(adapted(study, run))] if arm.checkpoint else [])]


def predict_command(study: Study, run: Run, device: str, out: Path) -> list[str]:
    arm = study.arm(run.arm)
    command = [stock_command("nnUNetv2_predict"), "-i", str(study.folder / "test" / "images"), "-o", str(out)]
    command += ["-d", number(study), "-c", study.configuration, "-tr", arm.trainer, "-p", arm.plans, "-f", FOLD]
    # beside a GPU one process reads and one writes; on a CPU they would only take its cores and 0.9 GB each
    workers = "0" if device == "cpu" else "1"
    return [*command, "-device", device, "-npp", workers, "-nps", workers]


def evaluate_command(study: Study, run: Run, predictions: Path) -> list[str]:
    command = [*own_command("evaluate"), "-ref", str(study.folder / "test" / "labels"), "-pred", str(predictions)]
    return [*command, "-djfile", str(study.raw / "dataset.json"), "-o", str(run.summary)]


def number(study: Study) -> str:
    """Of the data set, as nnU-Net's commands take it."""
    return study.dataset[len("Dataset") :][:3]


def _write_inputs(study: Study, run: Run) -> None:
    """The run's config, and the preprocessed data with a fold of its own: everything but the fold is links."""
    config = trainer_config(study.arm(run.arm), study.config, study.iterations, study.epoch, run.seed)
    write_json(run.folder / "config.json", config)
    folder = run.folder / "preprocessed" / study.dataset
    folder.mkdir(parents=True, exist_ok=True)
    for entry in study.preprocessed.iterdir():
        if entry.name != "splits_final.json":
            link(folder / entry.name, entry)
    cases = study.cases(run.labels, run.seed)
    write_json(folder / "splits_final.json", [{"train": cases, "val": cases[:1]}])


def link_test_cases(study: Study) -> None:
    """Images and labels of the test cases, named as nnU-Net wants them."""
    dataset = RawImages.find(str(study.raw))
    ending = dataset.content["file_ending"]
    for name in ("images", "labels"):
        (study.folder / "test" / name).mkdir(parents=True, exist_ok=True)
    for case in study.test_cases:
        for channel, image in enumerate(dataset.images[case]):
            link(study.folder / "test" / "images" / f"{case}_{channel:04d}{ending}", Path(image))
        link(study.folder / "test" / "labels" / f"{case}{ending}", dataset.labels[case])


def link(path: Path, target: Path) -> None:
    """A symbolic link; one that leads elsewhere is replaced.

    Raises:
        OSError: the system has none.
    """
    target = target.resolve()
    if path.is_symlink() and path.readlink() == target:
        return
    try:
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    except FileExistsError:  # another process was faster
        return
    except OSError as error:
        raise UserError(
            f"{path}: no symbolic link can be made ({error}); a study needs them. On Windows switch on the developer "
            "mode, elsewhere give an -o on a file system that has links"
        ) from error
