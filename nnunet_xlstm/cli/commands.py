"""The commands of `nnunet_xlstm`: help, dispatch and tests all read this table. Imports nothing heavy."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One row of the table.

    Attributes:
        name: of the command.
        stage: of a user's work, under which the help lists it.
        summary: a line of help.
        passthrough: whether `run` gets the raw list of its arguments and needs no parser.
    """

    name: str
    stage: str
    summary: str
    passthrough: bool = False

    def load(self) -> tuple[Callable, Callable]:
        """Import cmd_NAME.py: (add_arguments(parser), run(args) -> exit code); `passthrough` adds no arguments."""
        module = importlib.import_module(f"nnunet_xlstm.cli.cmd_{self.name}")
        return getattr(module, "add_arguments", lambda parser: None), module.run


_TABLE = {
    "set up": {
        "register": "make the trainers and planners findable for stock nnU-Net commands",
        "status": "say what works and what to do",
        "demo": "make a phantom set and run plan, train, predict, evaluate on it",
    },
    "data": {
        "plan_and_preprocess": "nnUNetv2_plan_and_preprocess with our planners, where `register` may not write",
        "unlabelled": "make a data set from images without labels: files, 4D cine, DICOM",
        "convert": "make a data set of a downloaded public one that nnU-Net has no converter for",
        "pool": "unite several data sets for pre-training, by reference",
        "split": "folds by subject, a part held out, or test subjects: splits_final.json, test_subjects.json",
        "check": "read every image and label map of a data set to its end, before nnU-Net preprocesses it",
    },
    "train": {
        "config": "list the keys that a trainer accepts in nnUNet_xlstm_config",
    },
    "transfer": {
        "plan_like": "plan a data set after a checkpoint, so that its weights fit",
        "adapt": "fit a trained network to a data set's plans, for -pretrained_weights, with a report",
        "study": "studies of several trainings, run, resumed and compared as one: few labels, folds, epochs, pools",
    },
    "predict": {
        "restrict": "predictions of a pool's network as label maps of one data set, or of all its targets",
    },
    "evaluate": {
        "evaluate": "score a folder of predictions: Dice, surface distances, volumes",
        "compare": "compare evaluated models: tests, rankings, figures, tables for a paper",
        "cost": "parameters, GMAC, activations and latency of presets and plans",
        "features": "what a pre-trained encoder knows: linear probe, nearest neighbours, pictures of features",
        "view": "pictures of images with reference and prediction, and of the worst cases",
        "mesh": "surface meshes of label maps as STL, PLY or VTP, with their volumes and a picture",
        "cardiac": "ventricular volumes, ejection fraction and myocardial mass from ED and ES segmentations",
    },
}
STAGES = tuple(_TABLE)
COMMANDS = tuple(
    Command(name, stage, summary, passthrough=name == "plan_and_preprocess")
    for stage, rows in _TABLE.items()
    for name, summary in rows.items()
)
