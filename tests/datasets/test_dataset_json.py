"""dataset.json and the cases it stands for, as nnU-Net reads them."""

import json
import os

import numpy as np
import pytest
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from support.image_files import write
from support.raw_datasets import change, raw_dataset

from nnunet_xlstm.datasets.cases import find_cases
from nnunet_xlstm.datasets.dataset_json import DatasetFile, Labels, parse_labels, scored_labels
from nnunet_xlstm.errors import DatasetError


def file_of(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content))
    return DatasetFile.read(folder)


def test_labels():
    labels = parse_labels({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3})
    assert labels == Labels({"background": (0,), "whole": (1, 2), "core": (2,)}, 3, frozenset({"whole"}))
    assert labels.known == {0, 1, 2, 3} and labels.has_regions
    assert not parse_labels({"background": 0, "a": [1], "b": 2}).has_regions


@pytest.mark.parametrize("rows", [
    {"background": 0, "a": 1, "ignore": "2"},
    {"background": 0, "a": "1"},
    {"background": 0, "a": None},
    {"background": 0, "a": 1.0},
    {"background": 0, "a": True},
    {"background": 0, "a": -1},
    {"background": 0, "a": []},
    {"background": 0, "a": [1, 1]},
    {"background": 0, "a": [1, [2]]},
    {"background": 0, "a": {"b": 1}},
    {"background": 0, "a": 1, "ignore": [2, 3]},
    {"background": 0, "a": [0, 1]},
    {"background": 0, "a": [1, 2], "ignore": 2},
    {"background": 1, "a": 0},
    {"background": 2, "a": 1},
    {"background": [0, 3], "a": 1},
    {},
    [],
    None,
    "labels",
])  # fmt: skip
def test_wrong_labels_get_the_sentence_of_evaluate(rows):
    with pytest.raises(DatasetError) as ours:
        parse_labels(rows)
    with pytest.raises(DatasetError) as theirs:
        scored_labels(rows)
    assert str(ours.value) == str(theirs.value)


def test_ids_have_an_end():
    with pytest.raises(DatasetError, match="labels.a is 2147483648; give a whole number from 0 to 2147483647"):
        parse_labels({"background": 0, "a": 2**31})


@pytest.mark.parametrize(("content", "ask", "said"), [
    ({}, "channels", 'channel_names is null; give an object number -> name, such as {"0": "CT"}'),
    ({"channel_names": ["CT"]}, "channels", r'channel_names is \["CT"\]; give'),
    ({"channel_names": {}}, "channels", "channel_names is {}"),
    ({"channel_names": {"0": 1}}, "channels", "channel_names.0 is 1; give text"),
    ({"channel_names": {"0": "CT"}, "image_channels": ["a", "b"]}, "image_channels", r'"b"\]; give a list of 1'),
    ({"channel_names": {"0": "CT"}, "image_channels": {"a": 1}}, "image_channels", "image_channels is"),
    ({"file_ending": None}, "file_ending", 'file_ending is null; give an ending, such as ".nii.gz"'),
    ({"file_ending": "nii.gz"}, "file_ending", 'file_ending is "nii.gz"'),
    ({"file_ending": "./../../evil.nii"}, "file_ending", "file_ending is"),
    ({"dataset": []}, "table", r"dataset is \[\]; give an object case ->"),
    ({"dataset": {"a": []}}, "table", r"dataset.a is \[\]; give an object with images, label"),
    ({"dataset": {"a": {"images": "x", "label": "y"}}}, "table", 'dataset.a.images is "x"; give a list'),
    ({"dataset": {"a": {"images": ["x\0"], "label": "y"}}}, "table", r"dataset.a.images\[0\] is .*; give a path"),
    ({"dataset": {"a": {"images": [1], "label": "y"}}}, "table", r"dataset.a.images\[0\] is 1; give a path"),
    ({"dataset": {"a": {"images": ["\ud800"], "label": "y"}}}, "table", r"dataset.a.images\[0\] is .*; give a path"),
    ({"dataset": {"a": {"images": ["x"], "label": ""}}}, "table", 'dataset.a.label is ""; give a path'),
    ({"dataset": {"a": {"images": [], "label": "y"}}}, "table", r"dataset.a.images is \[\]; give a list of at least 1"),
    ({"dataset": {"../a": {"images": ["x"], "label": "y"}}}, "table", 'has the key "../a"; give the name of a file'),
    ({"labels": {"background": 0, "a": "1"}}, "labels", r'dataset\.json: labels.a is "1"; give a whole number'),
])  # fmt: skip
def test_what_is_wrong_is_told_when_it_is_asked_for(tmp_path, content, ask, said):
    with pytest.raises(DatasetError, match=said) as error:
        getattr(file_of(tmp_path, **content), ask)()
    assert str(tmp_path / "dataset.json") in str(error.value)


def test_what_is_not_asked_for_may_be_wrong(tmp_path):
    file = file_of(tmp_path, channel_names={"0": "CT"}, labels={"a": "1"}, dataset=3)
    assert file.channels() == file.image_channels() == ("CT",) and file.file_ending() == ".nii.gz"


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", "3", "null", "\udcff", '{"a": 1'])
def test_not_a_dataset_json(tmp_path, text):
    (tmp_path / "dataset.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DatasetError, match=str(tmp_path)):
        DatasetFile.read(tmp_path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        DatasetFile.read(tmp_path)


# Cases ----------------------------------------------------------------------------------------------------------------


def cases_of_stock(folder):
    found = get_filenames_of_train_images_and_targets(str(folder))
    return {case: (tuple(row["images"]), row["label"]) for case, row in found.items()}


def cases_of(folder):
    cases, left_out = find_cases(DatasetFile.read(folder))
    return {case: (files.images, files.label) for case, files in cases.items()}, left_out


def test_cases_are_those_of_nnunet(tmp_path, monkeypatch):
    """Also with variables: expanded in the table of files, taken as they are in names of files."""
    import multiprocessing.dummy

    from nnunetv2.utilities import utils

    monkeypatch.setattr(utils, "Pool", multiprocessing.dummy.Pool)  # threads need no start-up
    monkeypatch.setenv("PLACE", str(tmp_path / "elsewhere"))
    folder = raw_dataset(tmp_path / "set", ["b", "case$HOME", "a ${PLACE}", "x.y"], channels=("CT", "PET"))
    found, left_out = cases_of(folder)
    assert found == cases_of_stock(folder) and left_out == []
    images, label = found["case$HOME"]
    assert label.endswith("labelsTr/case$HOME.nii.gz") and all(map(os.path.isfile, (*images, label)))
    rows = {
        "abs": {"images": [str(tmp_path / "i0.mha"), "$PLACE/i1.mha"], "label": "$PLACE/l.mha"},
        "rel": {"images": ["imagesTr/b_0000.nii.gz", "../set/${PLACE}x"], "label": "labelsTr/$NOT_SET.nii.gz"},
    }
    change(folder, dataset=rows)
    assert cases_of(folder)[0] == cases_of_stock(folder)


def test_files_that_are_no_images_of_a_case_are_told(tmp_path):
    folder = raw_dataset(tmp_path, ["a", "b"])
    (folder / "imagesTr" / "._a_0000.nii.gz").write_bytes(b"\0\5")
    write(folder / "imagesTr" / "c.nii.gz")
    (folder / "imagesTr" / "d_0000.nii.gz").symlink_to(folder / "gone")
    (folder / "imagesTr" / "notes.txt").write_text("x")
    found, left_out = cases_of(folder)
    assert list(found) == ["a", "b"]
    reasons = {os.path.basename(path): why for path, why in left_out}
    words = {"c.nii.gz": "_0000", "d_0000.nii.gz": "link"}
    assert len(reasons) == 2 and all(word in reasons[name] for name, word in words.items())


def test_number_of_channels(tmp_path):
    folder = raw_dataset(tmp_path, ["a", "b"], channels=("CT", "PET"))
    os.rename(folder / "imagesTr/b_0001.nii.gz", folder / "imagesTr/b_0002.nii.gz")
    with pytest.raises(DatasetError, match="case b has the channels 0000, 0002; number them 0000, 0001, ... without"):
        cases_of(folder)
    os.remove(folder / "imagesTr/b_0002.nii.gz")
    with pytest.raises(DatasetError, match="case b has 1 image file for the 2 channels of channel_names$"):
        cases_of(folder)
    change(folder, file_ending=".png", channel_names={"0": "R", "1": "G", "2": "B"})
    write(folder / "imagesTr/a_0000.png", np.ones((20, 24), np.uint8))
    with pytest.raises(
        DatasetError, match="1 image file for the 3 channels .*; nnU-Net takes the colours of one file as"
    ):
        cases_of(folder)
    change(folder, file_ending=".mha")
    with pytest.raises(DatasetError, match="holds no training image"):
        cases_of(folder)
