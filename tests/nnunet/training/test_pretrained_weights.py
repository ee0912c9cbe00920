"""-pretrained_weights of a larger network, and splits_final.json as users write it."""

import json
import sys
from pathlib import Path

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.networks.build import build_network
from nnunet_xlstm.nnunet.training.pretrained_weights import check_pretrained_weights, named_file
from nnunet_xlstm.nnunet.training.splits import check_splits, write_splits


@pytest.mark.parametrize(
    "words, expected",
    [
        (["901", "-p", "x"], None),
        (["-pretrained_weights", "a.pth", "-p", "x"], Path("a.pth")),
        (["-p", "x", "-pretrained_weights=b.pth"], Path("b.pth")),
        (["-pretrained_weights"], None),
    ],
)
def test_the_file_is_read_from_the_arguments(words, expected):
    assert named_file(words) == expected


def test_an_xlstm_network_is_not_loaded_into_its_control_in_silence(tmp_path, monkeypatch):
    full, control = (build_network(preset, (16, 16, 16), 1, 2) for preset in ("tiny", "tiny_no_xlstm"))
    torch.save({"network_weights": full.state_dict()}, tmp_path / "full.pth")
    torch.save({"network_weights": control.state_dict()}, tmp_path / "control.pth")
    load_pretrained_weights(control, str(tmp_path / "full.pth"))  # nnU-Net says nothing
    arguments = ["-pretrained_weights", str(tmp_path / "full.pth")]
    with pytest.raises(ConfigError, match=r"tensors of its encoder have no place .*xlstm.*nnunet_xlstm adapt"):
        check_pretrained_weights(control, arguments)
    check_pretrained_weights(full, arguments)
    check_pretrained_weights(control, ["-pretrained_weights", str(tmp_path / "control.pth")])
    monkeypatch.setattr(sys, "argv", ["nnUNetv2_train", *arguments])  # what the trainers look at
    with pytest.raises(ConfigError, match="no place"):
        check_pretrained_weights(control)


CASES = ["a", "b", "c"]


@pytest.mark.parametrize(
    "content, fold, words",
    [
        ([{"train": ["a"], "val": ["b", "x", "y"]}], 0, "`val` of fold 0 names 2 cases that are not among the 3"),
        ([{"train": ["a", "x"], "val": ["b"]}], 0, "`train` of fold 0 names 1 cases .* such as 'x'"),
        ([{"train": ["a"], "val": []}], 0, "`val` of fold 0 is empty"),
        ([{"train": [], "val": ["a"]}], 0, "`train` of fold 0 is empty"),
        ([{"train": ["a"]}], 0, "a list of case names `val`"),
        ([{"train": ["a"], "val": "b"}], 0, "a list of case names `val`"),
        ([["a"], ["b"]], 1, "must be an object"),
        ({"train": ["a"], "val": ["b"]}, 0, "must hold a list"),
    ],
)
def test_splits_that_cannot_be_used(content, fold, words, tmp_path):
    (tmp_path / "splits_final.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=words):
        check_splits(tmp_path / "splits_final.json", fold, CASES)


def test_splits_that_can_be_used(tmp_path):
    file = tmp_path / "splits_final.json"
    check_splits(file, 0, list("abcde"))  # nnU-Net will make it
    file.write_text(json.dumps([{"train": ["a", "b"], "val": ["c"]}, {"train": ["x"], "val": []}]))
    for fold in (0, "all", 2):  # the last is a random split of nnU-Net's
        check_splits(file, fold, CASES)


def test_the_split_is_that_of_nnunet_and_whole(tmp_path, monkeypatch):
    """nnU-Net writes it in place: a kill meanwhile would leave half a file, which ends every later run."""
    from types import SimpleNamespace

    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_xlstm.io import write

    cases = [f"case_{i}" for i in range(7)]
    stock = SimpleNamespace(
        fold=1,
        dataset_class=lambda *_, **__: SimpleNamespace(identifiers=cases),
        preprocessed_dataset_folder_base=str(tmp_path / "stock"),
        preprocessed_dataset_folder="",
        folder_with_segs_from_previous_stage=None,
        print_to_log_file=lambda *_: None,
    )
    (tmp_path / "stock").mkdir()
    nnUNetTrainer.do_split(stock)
    ours = tmp_path / "splits_final.json"
    write_splits(ours, cases[::-1])
    assert json.loads(ours.read_text()) == json.loads((tmp_path / "stock" / ours.name).read_text())
    before = ours.stat().st_mtime_ns
    write_splits(ours, cases[:5])
    assert ours.stat().st_mtime_ns == before
    ours.unlink()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(write.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_splits(ours, cases)
    assert not ours.exists()
