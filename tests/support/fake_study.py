"""What a study works on, and commands that only pretend; not a test."""

import json
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.errors import CommandFailed

DATASET = "Dataset321_Balls"
PLANS = "nnUNetXLSTMUNetTinyPlans"
TRAINER = "nnUNetTrainerXLSTMUNetShort"


def ball(radius: float, center: int = 6) -> np.ndarray:
    """(12, 12, 12): two halves of a ball, labels 1 and 2."""
    z, y, x = np.indices((12, 12, 12)) - center
    inside = z**2 + y**2 + x**2 < radius**2
    return (inside * np.where(z < 0, 1, 2)).astype(np.uint8)


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


class FakeCommands:
    """Writes what nnU-Net's commands would leave: predictions are balls, larger ones for more labels.

    `seen` collects (stage, command, variables); `spoil(stage, folder)` may raise in place of a command.
    """

    seen: list
    spoil = staticmethod(lambda stage, folder: None)

    def __init__(self, folder, variables, cores=None, own_session=False):
        self.folder, self.variables, self.cores = folder, dict(variables), cores

    def stop(self):
        pass

    def run(self, stage, command, on_line=None):
        type(self).seen.append((stage, command, self.variables))
        type(self).spoil(stage, self.folder)
        try:
            getattr(self, stage.split("_")[0])(command)
        except (OSError, RuntimeError) as error:  # SimpleITK's is a RuntimeError
            raise CommandFailed(f"{command[0]}: {error}") from error

    def adapt(self, command):
        Path(command[command.index("-o") + 1]).write_text("weights")

    def train(self, command):
        trainer, plans = (command[command.index(flag) + 1] for flag in ("-tr", "-p"))
        dataset = next((self.folder / "preprocessed").iterdir()).name
        fold = (
            Path(self.variables["nnUNet_results"])
            / dataset
            / f"{trainer}__{plans}__{command[2]}"
            / f"fold_{command[3]}"
        )
        fold.mkdir(parents=True, exist_ok=True)
        (fold / "checkpoint_final.pth").touch()
        self.validate(command, fold)

    def validate(self, command, fold=None):
        fold = fold or next((self.folder / "results").rglob(f"fold_{command[3]}"))
        split = json.loads(next((self.folder / "preprocessed").rglob("splits_final.json")).read_text())[int(command[3])]
        if set(split["val"]) & set(split["train"]):
            return  # a study that scores test cases
        type(self).spoil("validation", self.folder)
        for case in split["val"]:
            write(fold / "validation" / f"{case}.nii.gz", ball(self.radius(len(split["train"]))))
        (fold / "validation" / "summary.json").write_text("{}")

    def predict(self, command):
        images, out = (Path(command[command.index(flag) + 1]) for flag in ("-i", "-o"))
        cases = json.loads(next((self.folder / "preprocessed").rglob("splits_final.json")).read_text())[0]["train"]
        for image in images.iterdir():
            write(out / image.name.replace("_0000", ""), ball(self.radius(len(cases))))

    def radius(self, cases):
        """Larger, and so nearer to the truth, for more cases, for the variant `full` and for higher seeds."""
        run = self.folder.name
        return 2.5 + 0.3 * cases / 2 + 0.4 * run.startswith("full") + 0.05 * int(run[-1])

    def restrict(self, command):
        predictions, out = (Path(command[command.index(flag) + 1]) for flag in ("-i", "-o"))
        shutil.copytree(predictions, out)

    def evaluate(self, command):
        if main(command[3:]):
            raise CommandFailed("evaluate failed")


def fail(stage, message="no memory"):
    """For `spoil`: this stage fails."""

    def spoil(now, folder):
        if now == stage:
            raise CommandFailed(message)

    return staticmethod(spoil)
