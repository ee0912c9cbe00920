"""CT intensities of the foreground where some voxels are ignored."""

import json
import logging

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.nnunet.planning.foreground_intensities import PROPERTIES, leave_out_ignored, statistics

IGNORED = {"0": {"mean": -902.0, "std": 1.0, "percentile_00_5": -1000.0, "percentile_99_5": 100.0}}


@pytest.fixture
def make(tmp_path):
    """make(channel, ignore) -> files and dataset.json of three cases: tissue around 73, air of -1000 under `ignore`."""

    def _make(channel="CT", ignore=True):
        rng = np.random.default_rng(0)
        for name in ("imagesTr", "labelsTr"):
            (tmp_path / name).mkdir(exist_ok=True)
        for case in range(3):
            image = np.full((6, 8, 8), -1000.0, np.float32)
            image[:2] = rng.normal(73, 20, (2, 8, 8))
            label = np.zeros(image.shape, np.uint8)
            label[:2], label[2:] = 1, 2 if ignore else 0
            sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / "imagesTr" / f"c{case}_0000.nii.gz"))
            sitk.WriteImage(sitk.GetImageFromArray(label), str(tmp_path / "labelsTr" / f"c{case}.nii.gz"))
        labels = {"background": 0, "tissue": 1} | ({"ignore": 2} if ignore else {})
        facts = {"channel_names": {"0": channel}, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz"}
        (tmp_path / "dataset.json").write_text(json.dumps(facts))
        return get_filenames_of_train_images_and_targets(str(tmp_path), facts), facts

    return _make


def test_ignored_voxels_do_not_count(make, caplog):
    files, facts = make()
    fingerprint = {PROPERTIES: dict(IGNORED)}
    with caplog.at_level(logging.WARNING):
        leave_out_ignored(fingerprint, files, facts)
    found = fingerprint[PROPERTIES]["0"]
    assert found["mean"] == pytest.approx(73, abs=5) and found["std"] == pytest.approx(20, abs=5)
    assert found["min"] > -100 and set(found) == set(statistics(np.ones(3)))
    assert "(was -902.0)" in caplog.text and "from 3 cases" in caplog.text


def test_it_is_what_nnunet_finds_where_nothing_is_ignored(make):
    files, facts = make()
    fingerprint = {PROPERTIES: dict(IGNORED)}
    leave_out_ignored(fingerprint, files, facts)
    files, facts = make(ignore=False)
    cases = [
        DatasetFingerprintExtractor.analyze_case(row["images"], row["label"], SimpleITKIO, 10_000_000 // 3)[2][0]
        for _, row in sorted(files.items())
    ]
    assert fingerprint[PROPERTIES]["0"] == statistics(np.concatenate(cases))


@pytest.mark.parametrize(("channel", "ignore"), [("MR", True), ("CT", False)])
def test_other_data_sets_keep_their_statistics_and_are_not_read(channel, ignore):
    labels = {"background": 0, "tissue": 1} | ({"ignore": 2} if ignore else {})
    fingerprint = {PROPERTIES: dict(IGNORED)}
    leave_out_ignored(fingerprint, {}, {"channel_names": {"0": channel}, "labels": labels})
    assert fingerprint == {PROPERTIES: IGNORED}


def test_an_image_that_is_cut_off(make):
    files, facts = make()
    path = files["c1"]["images"][0]
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
    with pytest.raises(DatasetError, match="c1_0000"):
        leave_out_ignored({PROPERTIES: dict(IGNORED)}, files, facts)
