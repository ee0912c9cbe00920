"""The steps of one run, as commands: train, predict, restrict, evaluate. Each is skipped where it is done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import CommandFailed, DatasetError, UserError
from nnunet_xlstm.imaging.integrity import check_whole
from nnunet_xlstm.io.write import WriteError, remove_leftovers, replacing, write_json
from nnunet_xlstm.nnunet.install.environment import FEW_CORES, child_variables, own_command, stock_command
from nnunet_xlstm.nnunet.loading.raw_images import RawImages
from nnunet_xlstm.studies.study import LabelledSet, Part, Run, Study
from nnunet_xlstm.studies.trainer_config import trainer_config
from nnunet_xlstm.subprocesses import Commands

POOLED = "images_pooled"  # a source's test images with the channels that the pool takes


def variables(study: Study, run: Run, device: str) -> dict[str, str]:
    """Return the environment of a run's commands."""
    data = study.data(run.trained_on)
    folders = {"raw": data.raw.parent, "preprocessed": run.folder / "preprocessed", "results": run.folder / "results"}
    made = child_variables(folders, run.folder / "config.json")
    # A GPU waits for its augmentation workers; there the environment decides.
    return made | {key: os.environ.get(key, value) for key, value in FEW_CORES.items() if device == "cpu"}


def data_variables(data: LabelledSet) -> dict[str, str]:
    """Return the environment in which nnU-Net finds a data set."""
    return {"nnUNet_raw": str(data.raw.parent), "nnUNet_preprocessed": str(data.preprocessed.parent)}


def do_run(study: Study, run: Run, device: str, commands: Commands) -> None:
    """Do what is left to do of a run.

    Raises:
        CommandFailed: see `Commands`.
        Stopped: see `Commands`.
        OSError: the system has no symbolic links.
    """
    if run.is_done:
        return
    _write_inputs(study, run)
    fold = _fold_folder(study, run)
    if not (fold / "checkpoint_final.pth").is_file():
        commands.run("train", _train_command(study, run, device))
    for part in study.parts():
        if part.name not in run.parts or run.is_scored(part.name):
            continue
        suffix = "" if len(run.parts) == 1 else f"_{part.name}"
        if part.validated:
            predictions = fold / "validation"
            if not (predictions / "summary.json").is_file():  # nnU-Net writes it last
                commands.run("validate", [*_train(study, run, device), "--val"])
            try:
                _check_predictions(predictions, part)
            except CommandFailed:
                (predictions / "summary.json").unlink()  # a rerun predicts again
                raise
        else:
            predictions = _predicted(study, run, part, device, commands, suffix)
        commands.run(f"evaluate{suffix}", _evaluate_command(study, run, part, predictions))


def _predicted(study: Study, run: Run, part: Part, device: str, commands: Commands, suffix: str) -> Path:
    """Return the folder with predictions that have the ids of the part's data set."""
    predictions = run.result_folder(part.name) / "predictions"
    if not predictions.is_dir():
        unfinished = predictions.with_name("predictions_unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        commands.run(f"predict{suffix}", _predict_command(study, run, part, device, unfinished))
        if _of_pool(run, part):
            restricted = predictions.with_name("restricted_unfinished")
            shutil.rmtree(restricted, ignore_errors=True)
            command = [*own_command("restrict"), "-i", str(unfinished), "-o", str(restricted), "--source", part.name]
            commands.run(f"restrict{suffix}", command)
            shutil.rmtree(unfinished)  # its probabilities of all targets take the most room of all
            unfinished = restricted
        _check_predictions(unfinished, part)
        unfinished.replace(predictions)
    return predictions


def _check_predictions(folder: Path, part: Part) -> None:
    """Check that the label map of every case is whole: on a full disk ITK cuts NIfTI files off and tells nobody.

    Raises:
        CommandFailed: one is not.
    """
    ending = DatasetFile.read(part.data.raw).file_ending()
    for case in part.cases:
        try:
            check_whole(folder / f"{case}{ending}")
        except DatasetError as error:
            raise CommandFailed(
                f"{error}: its command ended without an error, so the disk may have been full; make room on it and run "
                "the study again"
            ) from error


def _of_pool(run: Run, part: Part) -> bool:
    """Return whether the run's network predicts the targets of a pool, not the labels of the part's data set."""
    return run.trained_on != part.data.name


def _fold_folder(study: Study, run: Run) -> Path:
    """Return where the run's checkpoints lie, as nnU-Net names it."""
    variant, data = study.variant(run.variant), study.data(run.trained_on)
    model = f"{variant.trainer}__{variant.plans}__{study.configuration}"
    return run.folder / "results" / data.dataset / model / f"fold_{study.split(run)[1]}"


def adapted(study: Study, run: Run) -> Path:
    """Return where `nnunet_xlstm adapt` puts the variant's checkpoint; the seed draws what that does not have."""
    label = study.label(study.variant(run.variant), study.data(run.trained_on))
    return study.folder / "adapted" / f"{label}_s{run.seed}" / "adapted.pth"


def adapt(study: Study, run: Run, commands: Commands) -> None:
    """Fit the variant's checkpoint to its plans, unless that is done. Of two processes that try, the first wins."""
    variant, target = study.variant(run.variant), adapted(study, run)
    if variant.checkpoint is None or target.is_file():
        return
    remove_leftovers(target.parent.parent)
    try:
        with replacing(target.parent) as fresh:
            fresh.mkdir()
            command = [*own_command("adapt"), variant.checkpoint, "-d", _number(study.data(run.trained_on))]
            command += ["-c", study.configuration, "-p", variant.plans, "-o", str(fresh / target.name)]
            commands.run(f"adapt_{target.parent.name}", [*command, "--seed", str(run.seed), *variant.adapt])
    except WriteError:
        if not target.is_file():
            raise


def _train(study: Study, run: Run, device: str) -> list[str]:
    variant = study.variant(run.variant)
    fold = _fold_folder(study, run).name.removeprefix("fold_")
    command = [stock_command("nnUNetv2_train"), _number(study.data(run.trained_on)), study.configuration, fold]
    return [*command, "-tr", variant.trainer, "-p", variant.plans, "-device", device]


def _train_command(study: Study, run: Run, device: str) -> list[str]:
    """Return the command that starts, or continues where there is a checkpoint."""
    command = _train(study, run, device)
    if any(_fold_folder(study, run).glob("checkpoint_*.pth")):
        return [*command, "--c"]
    has_start = study.variant(run.variant).checkpoint is not None
    return [*command, *(["-pretrained_weights", str(adapted(study, run))] if has_start else [])]


def _predict_command(study: Study, run: Run, part: Part, device: str, out: Path) -> list[str]:
    variant, pooled = study.variant(run.variant), _of_pool(run, part)
    images = study.case_folder(part) / (POOLED if pooled else "images")
    command = [stock_command("nnUNetv2_predict"), "-i", str(images), "-o", str(out)]
    command += ["-d", _number(study.data(run.trained_on)), "-c", study.configuration, "-tr", variant.trainer]
    command += ["-p", variant.plans, "-f", _fold_folder(study, run).name.removeprefix("fold_")]
    # beside a GPU one process reads and one writes; on a CPU they would only take its cores and 0.9 GB each
    workers = "0" if device == "cpu" else "1"
    command += ["-device", device, "-npp", workers, "-nps", workers]
    return [*command, *(["--save_probabilities"] if pooled else [])]


def _evaluate_command(study: Study, run: Run, part: Part, predictions: Path) -> list[str]:
    command = [*own_command("evaluate"), "-ref", str(study.case_folder(part) / "labels"), "-pred", str(predictions)]
    return [*command, "-djfile", str(part.data.raw / "dataset.json"), "-o", str(run.summary(part.name))]


def _number(data: LabelledSet) -> str:
    """Return the data set's number, as nnU-Net's commands take it."""
    return data.dataset[len("Dataset") :][:3]


def _write_inputs(study: Study, run: Run) -> None:
    """Write the run's config, and the preprocessed data with folds of its own: everything but the folds is links."""
    config = trainer_config(study.variant(run.variant), study.config, study.length(run), run.seed)
    write_json(run.folder / "config.json", config)
    data = study.data(run.trained_on)
    folder = run.folder / "preprocessed" / data.dataset
    folder.mkdir(parents=True, exist_ok=True)
    for entry in data.preprocessed.iterdir():
        if entry.name != "splits_final.json":
            link(folder / entry.name, entry)
    write_json(folder / "splits_final.json", study.split(run)[0])


def link_scored_cases(study: Study) -> None:
    """Label maps and, where they are not nnU-Net's validation, images of all parts, named as nnU-Net wants them."""
    datasets = {data.name: RawImages.find(str(data.raw)) for data in study.scored_sets}
    for part in study.parts():
        dataset = datasets[part.data.name]
        ending = dataset.file.file_ending()
        folder = study.case_folder(part)
        kinds = {} if part.validated else {"images": None} | ({POOLED: part.data.channels} if study.pooled else {})
        for name in (*kinds, "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for case in part.cases:
            for name, channels in kinds.items():
                images = dataset.images[case]
                for i, image in enumerate(images if channels is None else [images[c] for c in channels]):
                    link(folder / name / f"{case}_{i:04d}{ending}", Path(image))
            link(folder / "labels" / f"{case}{ending}", dataset.labels[case])


def link_models(study: Study) -> None:
    """Link all finished folds of a variant as one model: models/VARIANT serves stock commands as nnUNet_results.

    Of several seeds the first, of several values the largest.
    """
    value = study.values[-1] if study.values else None
    for run in study.runs():
        fold = _fold_folder(study, run)
        if run.fold is None or run.seed or run.value != value or not run.is_done:
            continue
        model = study.folder / "models" / run.variant / fold.parent.relative_to(run.folder / "results")
        model.mkdir(parents=True, exist_ok=True)
        for entry in (fold, *fold.parent.glob("*.json")):
            link(model / entry.name, entry)


def link(path: Path, target: Path) -> None:
    """Make a symbolic link; one that leads elsewhere is replaced.

    Raises:
        UserError: there is a file or a folder of that name, or the system has no links.
    """
    target = target.resolve()
    if path.is_symlink() and path.readlink() == target:
        return
    if path.exists() and not path.is_symlink():
        raise UserError(f"{path} is no link of this study; move it away, so that one to {target} can be made")
    try:
        with replacing(path) as fresh:
            fresh.symlink_to(target)
    except (OSError, WriteError) as error:
        raise UserError(
            f"{path}: no symbolic link can be made ({error}); a study needs them. On Windows switch on the developer "
            "mode, elsewhere give an -o on a file system that has links"
        ) from error
