"""Reading checkpoint files: what is read, what is refused, and in which words."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from support.hostile import RunsCode

from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.nnunet.checkpoints.load import HoldsObjects, load_checkpoint
from nnunet_xlstm.nnunet.checkpoints.resume import read_header, readable_checkpoint

CONTENT = {
    "network_weights": {"a": torch.ones(2)},
    "logging": {"dice": [np.float64(0.5)], "loss": [np.float32(2)], "epochs": np.arange(3), "best": np.bool_(True)},
    "init_args": {"device": torch.device("cpu"), "fold": 0, "none": None},
    "current_epoch": 3,
}


def renamed(path, old, new):
    """The same file with another module's name in its pickle."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, data in parts.items():
            file.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_what_nnunet_saves_is_read_without_unpickling(module, tmp_path):
    """With either NumPy: most published weights were saved with NumPy 1."""
    path = tmp_path / "a.pth"
    torch.save(CONTENT, path)
    for old in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        renamed(path, old, module)
    content = load_checkpoint(path)
    assert content["logging"]["dice"] == [0.5] and content["logging"]["best"]
    np.testing.assert_array_equal(content["logging"]["epochs"], [0, 1, 2])
    assert load_checkpoint(path, mmap=True)["current_epoch"] == read_header(path)["current_epoch"] == 3


def test_objects_are_refused_and_not_made(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(CONTENT | {"x": RunsCode(tmp_path / "ran")}, path)
    with pytest.raises(HoldsObjects, match="a.pth: holds objects .* can run any code; add a flag") as error:
        load_checkpoint(path, fix="; add a flag")
    assert "weights_only" not in str(error.value) and not (tmp_path / "ran").exists()


def damaged(path):
    torch.save({"weights": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


MADE = {
    "text": lambda path: path.write_text("no"),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": damaged,
    "a plain pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=4)),
    "a zip of something": lambda path: zipfile.ZipFile(path, "w").writestr("x", "y"),
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("allow", [False, True])
def test_what_cannot_be_read_has_words_of_ours(kind, allow, tmp_path, recwarn):
    path = tmp_path / "a.pth"
    MADE[kind](path)
    if kind == "a plain pickle" and allow:
        return  # torch reads it
    with pytest.raises(CheckpointError, match="a.pth: not a readable checkpoint") as error:
        load_checkpoint(path, allow_pickle=allow)
    assert not any(word in str(error.value) for word in ("weights_only", "PyTorch 2.6", "miniz", "issue"))
    assert not recwarn.list and read_header(path) is None


def test_no_file(tmp_path):
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(CheckpointError, match="no such file"):
            load_checkpoint(path)


class Extra:
    """What a user's own trainer may keep."""


def test_a_run_of_a_trainer_with_objects_of_its_own_continues(tmp_path):
    for name, epoch in (("checkpoint_best.pth", 2), ("checkpoint_latest.pth", 4)):
        torch.save(CONTENT | {"current_epoch": epoch, "extra": Extra()}, tmp_path / name)
    assert readable_checkpoint(tmp_path / "checkpoint_latest.pth").name == "checkpoint_latest.pth"
    (tmp_path / "checkpoint_final.pth").write_text("cut off")
    assert readable_checkpoint(tmp_path / "checkpoint_final.pth").name == "checkpoint_latest.pth"
