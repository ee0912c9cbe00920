"""The commands of `nnunet_xlstm`: help, dispatch and tests all read this table. Imports nothing heavy."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

STAGES = ("set up", "data", "train", "transfer", "predict", "evaluate")


@dataclass(frozen=True)
class Command:
    """One row: the command's name, its stage, a line of help, and where it lives.

    `target` is "module:function" with `function(args: argparse.Namespace) -> int`; the module also offers
    `add_arguments(parser)`. A `passthrough` command gets the raw list of its arguments instead and needs no parser.
    """

    name: str
    stage: str
    summary: str
    target: str
    passthrough: bool = False

    def load(self) -> tuple[Callable | None, Callable]:
        """Imports the command: (add_arguments or None, run)."""
        module_name, function = self.target.split(":")
        module = importlib.import_module(module_name)
        return getattr(module, "add_arguments", None), getattr(module, function)


COMMANDS = (
    Command(
        "register",
        "set up",
        "make the trainers and planners findable for stock nnU-Net commands",
        "nnunet_xlstm.cli.cmd_register:run",
    ),
    Command("status", "set up", "say what works and what to do", "nnunet_xlstm.cli.cmd_status:run"),
    Command(
        "demo",
        "set up",
        "make a phantom set and run plan, train, predict, evaluate on it",
        "nnunet_xlstm.cli.cmd_demo:run",
    ),
    Command(
        "plan_and_preprocess",
        "data",
        "nnUNetv2_plan_and_preprocess with our planners, where `register` may not write",
        "nnunet_xlstm.cli.cmd_plan_and_preprocess:run",
        passthrough=True,
    ),
    Command(
        "unlabelled",
        "data",
        "make a data set from images without labels: files, 4D cine, DICOM",
        "nnunet_xlstm.cli.cmd_unlabelled:run",
    ),
    Command(
        "convert",
        "data",
        "make a data set of a downloaded public one that nnU-Net has no converter for",
        "nnunet_xlstm.cli.cmd_convert:run",
    ),
    Command(
        "pool",
        "data",
        "unite several data sets for pre-training, by reference",
        "nnunet_xlstm.cli.cmd_pool:run",
    ),
    Command(
        "split",
        "data",
        "folds by subject, a part held out, or test subjects: splits_final.json, test_subjects.json",
        "nnunet_xlstm.cli.cmd_split:run",
    ),
    Command(
        "check",
        "data",
        "read every image and label map of a data set to its end, before nnU-Net preprocesses it",
        "nnunet_xlstm.cli.cmd_check:run",
    ),
    Command(
        "config",
        "train",
        "list the keys that a trainer accepts in nnUNet_xlstm_config",
        "nnunet_xlstm.cli.cmd_config:run",
    ),
    Command(
        "plan_like",
        "transfer",
        "plan a data set after a checkpoint, so that its weights fit",
        "nnunet_xlstm.cli.cmd_plan_like:run",
    ),
    Command(
        "adapt",
        "transfer",
        "fit a trained network to a data set's plans, for -pretrained_weights, with a report",
        "nnunet_xlstm.cli.cmd_adapt:run",
    ),
    Command(
        "study",
        "transfer",
        "studies of several trainings, run, resumed and compared as one: few labels, folds, epochs, pools",
        "nnunet_xlstm.cli.cmd_study:run",
    ),
    Command(
        "restrict",
        "predict",
        "predictions of a pool's network as label maps of one data set, or of all its targets",
        "nnunet_xlstm.cli.cmd_restrict:run",
    ),
    Command(
        "evaluate",
        "evaluate",
        "score a folder of predictions: Dice, surface distances, volumes",
        "nnunet_xlstm.cli.cmd_evaluate:run",
    ),
    Command(
        "compare",
        "evaluate",
        "compare evaluated models: tests, rankings, figures, tables for a paper",
        "nnunet_xlstm.cli.cmd_compare:run",
    ),
    Command(
        "cost",
        "evaluate",
        "parameters, GMAC, activations and latency of presets and plans",
        "nnunet_xlstm.cli.cmd_cost:run",
    ),
    Command(
        "features",
        "evaluate",
        "what a pre-trained encoder knows: linear probe, nearest neighbours, pictures of features",
        "nnunet_xlstm.cli.cmd_features:run",
    ),
    Command(
        "view",
        "evaluate",
        "pictures of images with reference and prediction, and of the worst cases",
        "nnunet_xlstm.cli.cmd_view:run",
    ),
    Command(
        "mesh",
        "evaluate",
        "surface meshes of label maps as STL, PLY or VTP, with their volumes and a picture",
        "nnunet_xlstm.cli.cmd_mesh:run",
    ),
    Command(
        "cardiac",
        "evaluate",
        "ventricular volumes, ejection fraction and myocardial mass from ED and ES segmentations",
        "nnunet_xlstm.cli.cmd_cardiac:run",
    ),
)
