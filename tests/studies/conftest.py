"""A raw data set with what the study looks for in its preprocessed folder, and commands that only pretend."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.errors import CommandFailed

DATASET = "Dataset321_Balls"
PLANS = "nnUNetXLSTMUNetTinyPlans"
TRAINER = "nnUNetTrainerXLSTMUNetShort"


def ball(radius: float, centre: int = 6) -> np.ndarray:
    """(12, 12, 12): two halves of a ball, labels 1 and 2."""
    z, y, x = np.indices((12, 12, 12)) - centre
    inside = z**2 + y**2 + x**2 < radius**2
    return (inside * np.where(z < 0, 1, 2)).astype(np.uint8)


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Eight patients with two cases each; the last three are for testing."""
    raw, preprocessed = (tmp_path / name / DATASET for name in ("raw", "preprocessed"))
    for p in range(8):
        for phase in ("ED", "ES"):
            case = f"patient{p}_{phase}"
            labels = ball(4 + 0.1 * p)
            write(raw / "imagesTr" / f"{case}_0000.nii.gz", labels.astype(np.float32))
            write(raw / "labelsTr" / f"{case}.nii.gz", labels)
            data = preprocessed / "some_data" / f"{case}.pkl"
            data.parent.mkdir(parents=True, exist_ok=True)
            data.touch()
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "upper": 1, "lower": 2}}
    text = json.dumps(content | {"numTraining": 16, "file_ending": ".nii.gz"})
    (raw / "dataset.json").write_text(text)
    (preprocessed / "dataset.json").write_text(text)
    (raw / "test_subjects.json").write_text(json.dumps(["patient5", "patient6", "patient7"]))
    configurations = {"3d_fullres": {"data_identifier": "some_data"}, "3d_bigger": {"inherits_from": "3d_fullres"}}
    plans = {"plans_name": PLANS, "configurations": configurations}
    (preprocessed / f"{PLANS}.json").write_text(json.dumps(plans))
    (preprocessed / "splits_final.json").write_text("[]")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path


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
        getattr(self, stage.split("_")[0])(command)

    def adapt(self, command):
        Path(command[command.index("-o") + 1]).write_text("weights")

    def train(self, command):
        trainer, plans = (command[command.index(flag) + 1] for flag in ("-tr", "-p"))
        fold = Path(self.variables["nnUNet_results"]) / DATASET / f"{trainer}__{plans}__{command[2]}" / "fold_0"
        fold.mkdir(parents=True, exist_ok=True)
        (fold / "checkpoint_final.pth").touch()

    def predict(self, command):
        images, out = (Path(command[command.index(flag) + 1]) for flag in ("-i", "-o"))
        run = self.folder.name
        cases = json.loads((self.folder / "preprocessed" / DATASET / "splits_final.json").read_text())[0]["train"]
        radius = 2.5 + 0.3 * len(cases) / 2 + 0.4 * run.startswith("full") + 0.05 * int(run[-1])
        for image in images.iterdir():
            write(out / image.name.replace("_0000", ""), ball(radius))

    def evaluate(self, command):
        assert main(command[3:]) == 0


@pytest.fixture
def fake(monkeypatch):
    """The class, in place of the one that starts processes."""
    from nnunet_xlstm.studies import execute

    made = type("Fake", (FakeCommands,), {"seen": []})
    monkeypatch.setattr(execute, "Commands", made)
    monkeypatch.setattr("nnunet_xlstm.studies.steps.stock_command", lambda name: name)
    return made


def fail(stage, message="no memory"):
    """For `spoil`: this stage fails."""

    def spoil(now, folder):
        if now == stage:
            raise CommandFailed(message)

    return staticmethod(spoil)
