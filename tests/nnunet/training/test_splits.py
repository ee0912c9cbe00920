"""splits_final.json as users write it, and as nnU-Net does."""

import json

import pytest

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.nnunet.training.splits import check_splits, write_splits

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
