"""A raw data set with what the study looks for in its preprocessed folder, and commands that only pretend."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.fake_study import DATASET, PLANS, FakeCommands, ball, write
from support.png import PNG


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


@pytest.fixture
def fake(monkeypatch):
    """The class, in place of the one that starts processes."""
    from nnunet_xlstm.studies import execute

    made = type("Fake", (FakeCommands,), {"seen": []})
    monkeypatch.setattr(execute, "Commands", made)
    monkeypatch.setattr("nnunet_xlstm.studies.steps.stock_command", lambda name: name)
    return made


@pytest.fixture
def no_drawing(monkeypatch):
    """Figures cost seconds: each becomes one pixel."""

    def save(figure, path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(f"{path}.png").write_bytes(PNG)
        return [Path(f"{path}.png")]

    monkeypatch.setattr("nnunet_xlstm.studies.report.save", save)
    for module in ("run", "sets.run"):
        monkeypatch.setattr(f"nnunet_xlstm.comparison.{module}.draw", lambda job, folder: save(None, folder / job.name))
