"""`convert`: files in the layouts of several entries, and the data sets that come of them."""

import argparse
import json
import re
import runpy
import shutil
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.image_files import tree, write
from support.raw_datasets import claiming, cut, sheared, zero_pixdim

from nnunet_xlstm.catalogue import convert_case
from nnunet_xlstm.catalogue.convert import CALLS, catalogue_rows, convert
from nnunet_xlstm.catalogue.convert_case import consecutive_ids, id_table
from nnunet_xlstm.catalogue.entries import count_sets, load_dataset, shipped
from nnunet_xlstm.catalogue.layout import compile_pattern
from nnunet_xlstm.cli.main import main
from nnunet_xlstm.datasets import build
from nnunet_xlstm.datasets.case_index import read_pool_cases
from nnunet_xlstm.errors import DatasetError, UserError
from nnunet_xlstm.imaging.label_look_up import look_up
from nnunet_xlstm.io import write as files
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.pools.build import build_pool

SHAPE = (5, 10, 12)  # (z, y, x)


def image(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def label(*values, kind=np.int16):
    """A stripe of every value, and background."""
    array = np.zeros(SHAPE, kind)
    for i, value in enumerate(values):
        array[:, i % 9, 2:-1] = value
    return array


def layout_of(root, name, cases, values=None):
    """Writes cases in the layout of an entry, with all its labels or with `values`."""
    entry = load_dataset(name)
    for i, case in enumerate(cases):
        for phase in ("ED", "ES"):
            for c, pattern in enumerate(entry.layout["image"].values()):
                write(root / filled(pattern, case, phase), image(10 * i + c))
            write(root / filled(entry.layout["label"], case, phase), label(*(values or entry.labels.values())))
    return root


def filled(pattern, case, phase):
    return pattern.replace("**/", "").replace("*", "any").format(case=case, phase=phase)


def content(dataset, name="dataset.json"):
    return read_json(dataset.folder / name)


def converted_label(dataset, case):
    path = dataset.folder / content(dataset)["dataset"][case]["label"]
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def mmwhs(root, name="MMWHS_CT", n=5, **more):
    folder = name[-2:].lower()
    return layout_of(root / "in", name, [f"{folder}_train_{1001 + i}" for i in range(n)], **more)


@pytest.fixture
def root(tmp_path, nnunet_folders):
    return tmp_path


# Layouts ------------------------------------------------------------------------------------------------------------


def test_mmwhs_ct(root, caplog):
    source = mmwhs(root)
    dataset, summary = convert("MMWHS_CT", source, 60)
    found = content(dataset)
    assert dataset.folder.name == "Dataset060_MMWHS_CT" and summary.cases == found["numTraining"] == 5
    assert found["labels"] == {
        "background": 0, "LV blood cavity": 1, "RV blood cavity": 2, "LA blood cavity": 3, "RA blood cavity": 4,
        "LV myocardium": 5, "ascending aorta": 6, "pulmonary artery": 7,
    }  # fmt: skip
    assert found["channel_names"] == {"0": "CT"} and found["file_ending"] == ".nii.gz"
    row = found["dataset"]["ct_train_1003"]
    assert row == {"images": [str(source / "ct_train/ct_train_1003_image.nii.gz")], "label": row["label"]}
    assert not (dataset.folder / "imagesTr").exists()
    expected = label(*range(1, 8), kind=np.uint8)
    assert np.array_equal(converted_label(dataset, "ct_train_1003"), expected)
    assert "5 training cases are found, the catalogue counts 20" in caplog.text
    for fold in content(dataset, "splits_final.json"):
        assert len(fold["val"]) == 1 and len(fold["train"]) == 4


def test_it_says_where_it_came_from(root):
    found = content(convert("MMWHS_MR", mmwhs(root, "MMWHS_MR"), 60)[0])
    entry = load_dataset("MMWHS_MR")
    assert (found["name"], found["licence"], found["citation"]) == (entry.name, entry.licence, entry.citation)
    assert found["catalogue"]["labels"] == entry.labels and found["catalogue"]["label_aliases"] == {
        "421": "LA blood cavity"
    }
    assert found["made_by"] == "nnunet_xlstm convert" and found["reference"] == entry.url


def test_stray_value_is_read_as_the_entry_says(root):
    dataset, _ = convert("MMWHS_MR", mmwhs(root, "MMWHS_MR", 1, values=[421, 420, 600]), 60)
    assert np.array_equal(converted_label(dataset, "mr_train_1001"), label(3, 3, 2))
    with pytest.raises(ValueError, match=r"ct_train_1001_label.nii.gz holds the value 421 in 45 voxels"):
        convert("MMWHS_CT", mmwhs(root, "MMWHS_CT", 1, values=[421]), 61)


def test_kits19_cases_are_folders_and_test_images_those_without_label(root):
    cases = [f"case_{i:05d}" for i in range(3)]
    source = layout_of(root / "in", "KiTS19", cases)
    write(source / "data/case_00210/imaging.nii.gz", image(9))
    dataset, _ = convert("KiTS19", source, 60, test=True)
    assert list(content(dataset)["dataset"]) == cases
    link = dataset.folder / "imagesTs" / "case_00210_0000.nii.gz"
    assert link.is_symlink() and link.resolve() == (source / "data/case_00210/imaging.nii.gz").resolve()
    assert not (dataset.folder / "labelsTs").exists()


def test_avt_nrrd_stays_where_it_is(root):
    source = root / "in"
    for case in ("D1", "K12"):
        folder = source / "Dongyang" / f"{case} (AC)"
        write(folder / f"{case}.nrrd", image())
        write(folder / f"{case}.seg.nrrd", label(1))
    dataset, _ = convert("AVT", source, 60)
    assert [row["images"] for row in content(dataset)["dataset"].values()] == [
        [str(source / f"Dongyang/{case} (AC)/{case}.nrrd")] for case in ("D1", "K12")
    ]
    assert content(dataset)["channel_names"] == {"0": "CT"} and content(dataset)["image_channels"] == ["CTA"]


def total_segmentator(source, case="s0001", skip=()):
    entry = load_dataset("TotalSegmentator_MR")
    write(source / case / "mri.nii.gz", image())
    for name, number in entry.labels.items():
        if name not in skip:
            mask = np.zeros(SHAPE, np.uint8)
            mask[number % 5, number // 5 % 10] = 1
            write(source / case / "segmentations" / f"{name}.nii.gz", mask)
    return entry


def test_one_mask_per_label_is_merged(root):
    source = root / "in"
    entry = total_segmentator(source)
    both = np.zeros(SHAPE, np.uint8)
    both[1, 0] = both[2, 0] = 1
    write(source / "s0001/segmentations/spleen.nii.gz", both)  # 2, 0 is also kidney_right, which comes later
    dataset, _ = convert("TotalSegmentator_MR", source, 60)
    array = converted_label(dataset, "s0001")
    assert set(np.unique(array)) == set(range(1, 51))
    assert array[1, 0, 0] == 1 and array[2, 0, 0] == entry.labels["kidney_right"] == 2
    total_segmentator(source, "s0002", skip=["heart"])
    dataset, summary = convert("TotalSegmentator_MR", source, 60)
    assert (summary.cases, summary.excluded) == (1, 1)
    table = (dataset.folder / "excluded.csv").read_text()
    assert "s0002/mri.nii.gz,there is no mask of heart (1 of 50 missing)" in table  # blames no mask that is there
    own = json.loads((resources.files("nnunet_xlstm.dataset_json") / "TotalSegmentator_MR.json").read_text())
    (root / "TotalSegmentator_MR.json").write_text(json.dumps(own | {"optional_labels": ["heart"]}))
    assert convert(str(root / "TotalSegmentator_MR.json"), source, 60)[1].cases == 2
    assert entry.labels["heart"] not in converted_label(dataset, "s0002")
    assert content(dataset)["catalogue"]["optional_labels"] == ["heart"]
    write(source / "s0001/segmentations/tail.nii.gz", label(1))
    with pytest.raises(ValueError, match=r"tail.nii.gz: TotalSegmentator_MR has no label 'tail'; is this another ver"):
        convert("TotalSegmentator_MR", source, 60)
    (source / "s0001/segmentations/tail.nii.gz").unlink()
    write(source / "s0001/segmentations/heart.nii.gz", label(1, 7))
    with pytest.raises(ValueError, match=r"heart.nii.gz holds the value 7 in 45 voxels.*only 0 and 1"):
        convert("TotalSegmentator_MR", source, 60)


def test_isles22_channels_must_lie_on_one_grid(root):
    cases = [f"sub-strokecase{i:04d}" for i in range(1, 4)]
    source = layout_of(root / "in", "ISLES22", cases)
    write(source / f"{cases[1]}/ses-0001/{cases[1]}_ses-0001_adc.nii.gz", image(), spacing=(1, 1, 2))
    (source / f"{cases[2]}/ses-0001/{cases[2]}_ses-0001_dwi.nii.gz").unlink()
    dataset, summary = convert("ISLES22", source, 60)
    assert list(content(dataset)["dataset"]) == cases[:1] and summary.excluded == 2
    assert content(dataset)["channel_names"] == {"0": "DWI", "1": "ADC"}
    assert [Path(p).name[-10:-7] for p in content(dataset)["dataset"][cases[0]]["images"]] == ["dwi", "adc"]
    reasons = (dataset.folder / "excluded.csv").read_text()
    assert "grids of first channel and other" in reasons and f"case {cases[2]} has no image of DWI" in reasons


def test_hvsmr2_takes_no_other_file_for_a_label(root):
    source = layout_of(root / "in", "HVSMR2", ["pat0", "pat1"])
    write(source / "cropped/pat0_cropped_seg_endpoints.nii.gz", label(9))
    dataset, _ = convert("HVSMR2", source, 60)
    assert list(content(dataset)["dataset"]) == ["pat0", "pat1"]
    assert set(np.unique(converted_label(dataset, "pat0"))) == set(range(9))


def test_phases_of_a_subject_stay_together(root):
    dataset, summary = convert("MnMs2", layout_of(root / "in", "MnMs2", [f"{i:03d}" for i in range(1, 7)]), 60)
    assert (summary.cases, summary.subjects) == (12, 6)
    rows = read_pool_cases(dataset.folder / "pool_cases.json").cases
    assert rows["001_ED"].subject == rows["001_ES"].subject == "001"
    for fold in content(dataset, "splits_final.json"):
        assert not {c[:3] for c in fold["train"]} & {c[:3] for c in fold["val"]} and len(fold["val"]) in (2, 4)


def test_subjects_by_pattern(root, caplog):
    source = root / "in"
    for patient in range(1, 6):
        for sequence in ("C0", "LGE"):
            case = f"patient{patient}_{sequence}"
            write(source / f"C0LET2_nii45_for_challenge19/c0t2lge/{case}.nii.gz", image())
            write(source / f"C0LET2_nii45_for_challenge19/c0gt/{case}_manual.nii.gz", label(200, 500, 600))
    dataset, summary = convert("MSCMRSeg", source, 60)  # the entry has a pattern
    assert (summary.cases, summary.subjects) == (10, 5)
    assert "10 training cases of 5 subjects are found, the catalogue counts 35" in caplog.text
    for fold in content(dataset, "splits_final.json"):
        assert len({case.split("_")[0] for case in fold["val"]}) == 1
    with pytest.raises(ValueError, match="finds no subject in 'patient1_C0'"):
        convert("MSCMRSeg", source, 60, subject="sub-")


def test_unzipped_files_fit_too(root):
    source = root / "in"
    for channel in ("t1", "t1ce", "t2", "flair"):
        write(source / f"BraTS/a/a_{channel}.nii", image())
    write(source / "BraTS/a/a_seg.nii", label(1, 2, 4))
    write(source / "__MACOSX/BraTS/a/a_seg.nii", label(1))
    dataset, _ = convert("BraTS2020", source, 60)
    assert np.array_equal(converted_label(dataset, "a"), label(1, 2, 3))


@pytest.mark.parametrize("name", [name for name in shipped() if load_dataset(name).layout])
def test_every_pattern_finds_its_own_files(name):
    entry = load_dataset(name)
    patterns = [entry.layout["label"], *entry.layout["image"].values(), *entry.layout.get("test_image", {}).values()]
    some = next(iter(entry.labels))
    for pattern in patterns:
        path = pattern.replace("**/", "a/b/").replace("*", "x").format(case="c_01", phase="ES", label=some)
        found = compile_pattern(pattern).fullmatch(path)
        assert found and found["case"] in {"c_01", "c_01x"}, (pattern, path)
        assert not compile_pattern(pattern).fullmatch(path + "x")


# Images that nnU-Net cannot read in place ---------------------------------------------------------------------------


def test_images_are_converted_where_they_must(root):
    source = layout_of(root / "in", "AVT", ["D1", "D2"])
    for frames, case in enumerate(("D1", "D2"), start=1):
        write(source / f"any/{case}any/{case}.nrrd", np.stack([image()] * frames), isVector=False)
    dataset, summary = convert("AVT", source, 60)
    assert content(dataset)["dataset"]["D1"]["images"] == ["imagesTr/D1_0000.nii.gz"]
    made = sitk.ReadImage(str(dataset.folder / "imagesTr/D1_0000.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(made), image()) and made.GetSpacing() == (1, 1, 3)
    assert summary.excluded == 1 and "4 dimensions" in (dataset.folder / "excluded.csv").read_text()
    dollar = mmwhs(root / "a$HOME", n=1)
    dataset, _ = convert("MMWHS_CT", dollar, 61)
    assert content(dataset)["dataset"]["ct_train_1001"]["images"] == ["imagesTr/ct_train_1001_0000.nii.gz"]


def test_labels_take_the_header_of_the_image(root):
    source = mmwhs(root, n=2)
    near, far = source / "ct_train/ct_train_1001_label.nii.gz", source / "ct_train/ct_train_1002_label.nii.gz"
    for path, shift in ((near, 0.01), (far, 0.4)):
        moved = sitk.ReadImage(str(path))
        moved.SetOrigin((shift, 0, 0))
        sitk.WriteImage(moved, str(path))
    dataset, summary = convert("MMWHS_CT", source, 60)
    made = sitk.ReadImage(str(dataset.folder / "labelsTr/ct_train_1001.nii.gz"))
    assert made.GetOrigin() == (0, 0, 0) and made.GetSpacing() == (1, 1, 3)
    assert summary.excluded == 1 and "up to 0.4 mm apart" in (dataset.folder / "excluded.csv").read_text()


def test_test_images(root, monkeypatch):
    source = mmwhs(root, n=1)
    write(source / "ct_test/ct_test_2001_image.nii.gz", image(3))
    write(source / "ct_test/ct_test_2002_image.nii", image(4))
    dataset, _ = convert("MMWHS_CT", source, 60, test=True)
    names = ["ct_test_2001_0000.nii.gz", "ct_test_2002_0000.nii.gz"]
    first, second = (dataset.folder / "imagesTs" / name for name in names)
    assert first.is_symlink() and not second.is_symlink()
    before = tree(dataset.folder)
    convert("MMWHS_CT", source, 60, test=True)
    assert tree(dataset.folder) == before
    write(source / "ct_test/ct_test_2002_image.nii", image(5))
    convert("MMWHS_CT", source, 60, test=True)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(second))), image(5))
    monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    first.unlink()
    convert("MMWHS_CT", source, 60, test=True)
    assert not first.is_symlink() and first.read_bytes() == (source / "ct_test/ct_test_2001_image.nii.gz").read_bytes()
    shutil.rmtree(source / "ct_test")
    with pytest.raises(ValueError, match="--test: .* holds no test case of MMWHS_CT: ct_test/{case}_image"):
        convert("MMWHS_CT", source, 60, test=True)


@pytest.mark.parametrize("share", [0, 0.6])
def test_test_files_that_are_not_whole_are_made_again(root, share):
    """A full disk left them, and they are newer than their sources."""
    source = layout_of(root / "in", "HeartPhantom", ["tr000_ct"])
    write(source / "imagesTs/ts000_ct_0000.nii", image())
    write(source / "labelsTs/ts000_ct.nii.gz", label(1, 7))
    dataset, _ = convert("HeartPhantom", source, 60, test=True)
    before = {name: data for name, (data, _) in tree(dataset.folder).items()}
    for name in ("imagesTs/ts000_ct_0000.nii.gz", "labelsTs/ts000_ct.nii.gz", "labelsTr/tr000_ct.nii.gz"):
        cut(dataset.folder / name, share)
        convert("HeartPhantom", source, 60, test=True)
        assert {name: data for name, (data, _) in tree(dataset.folder).items()} == before


def own_entry(root, **layout):
    """An entry like that of the phantoms, without a rule for subjects; its path."""
    own = json.loads((resources.files("nnunet_xlstm.dataset_json") / "HeartPhantom.json").read_text())
    layout = {key: value for key, value in own["layout"].items() if key != "subject"} | layout
    (root / "Mine.json").write_text(json.dumps(own | {"name": "Mine", "layout": layout}))
    return str(root / "Mine.json")


def test_test_cases_with_the_names_of_training_cases(root, caplog):
    """They are other people: kept, under another name."""
    entry, source = own_entry(root), layout_of(root / "in", "HeartPhantom", ["a", "b"])
    for case in ("a", "c", "A_test"):
        write(source / f"imagesTs/{case}_0000.nii.gz", image(7))
        write(source / f"labelsTs/{case}.nii.gz", label(2))
    write(source / "labelsTs/d.nii.gz", label(2))
    dataset, summary = convert(entry, source, 60, test=True)
    assert list(content(dataset)["dataset"]) == ["a", "b"]
    names = sorted(path.name.removesuffix(".nii.gz") for path in (dataset.folder / "labelsTs").iterdir())
    assert names[:2] == ["A_test", "a_test_" + names[1][-6:]] and names[2:] == ["c"]
    images = sorted(path.name.removesuffix("_0000.nii.gz") for path in (dataset.folder / "imagesTs").iterdir())
    assert images == names
    assert (dataset.folder / "imagesTs" / f"{names[1]}_0000.nii.gz").resolve() == source / "imagesTs/a_0000.nii.gz"
    assert "1 test cases have the names of training cases (a, ...)" in caplog.text
    assert "labelsTs/d.nii.gz,case d has no image of MR" in (dataset.folder / "excluded.csv").read_text()
    before = tree(dataset.folder)
    assert convert(entry, source, 60, test=True)[1].new == 0 and tree(dataset.folder) == before


def test_training_cases_are_no_test_cases_again(root):
    """An entry whose test images are in the folder of the training images."""
    patterns = load_dataset("HeartPhantom").layout
    entry = own_entry(root, test_image=patterns["image"], test_label=patterns["label"])
    source = layout_of(root / "in", "HeartPhantom", ["a", "b"])
    write(source / "imagesTr/c_0000.nii.gz", image(7))
    dataset, _ = convert(entry, source, 60, test=True)
    assert [path.name for path in (dataset.folder / "imagesTs").iterdir()] == ["c_0000.nii.gz"]
    assert not (dataset.folder / "labelsTs").exists()


def test_public_labels_of_test_cases(root):
    source = layout_of(root / "in", "HeartPhantom", ["tr000_ct", "tr001_mr"])
    write(source / "imagesTs/ts000_ct_0000.nii.gz", image())
    write(source / "labelsTs/ts000_ct.nii.gz", label(1, 7))
    dataset, _ = convert("HeartPhantom", source, 60, test=True)
    answer = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset.folder / "labelsTs/ts000_ct.nii.gz")))
    assert set(np.unique(answer)) == {0, 1, 7}
    assert list(content(dataset)["dataset"]) == ["tr000_ct", "tr001_mr"]


# Runs ---------------------------------------------------------------------------------------------------------------


def test_again_does_only_what_is_missing(root):
    source = mmwhs(root, n=3)
    dataset, _ = convert("MMWHS_CT", source, 60)
    before, native = tree(dataset.folder), tree(source)
    _, summary = convert("MMWHS_CT", source, 60)
    assert tree(dataset.folder) == before and (summary.new, summary.changed) == (0, False)
    (dataset.folder / "labelsTr/ct_train_1001.nii.gz").unlink()
    write(source / "ct_train/ct_train_1002_label.nii.gz", label(500, 820))
    _, summary = convert("MMWHS_CT", source, 60, processes=2)
    assert summary.new == 2 and np.array_equal(converted_label(dataset, "ct_train_1002"), label(1, 6))
    assert tree(dataset.folder)["labelsTr/ct_train_1003.nii.gz"] == before["labelsTr/ct_train_1003.nii.gz"]
    (source / "ct_train/ct_train_1003_label.nii.gz").unlink()
    _, summary = convert("MMWHS_CT", source, 60)
    assert summary.cases == 2 and not (dataset.folder / "labelsTr/ct_train_1003.nii.gz").exists()
    assert len(tree(source)) == len(native) - 1


def test_a_killed_run_leaves_no_half_file_and_goes_on(root, monkeypatch):
    source = mmwhs(root, n=4)
    monkeypatch.setattr(build, "SAVE_SECONDS", 0)
    real, made = convert_case.write_image, []

    def killed(map_, path):
        made.append(path)
        if len(made) == 3:
            host = files._owner().rpartition("-")[0]
            path.with_name(f".{path.name}.{host}-99999999.1.tmp.nii.gz").write_bytes(b"half")
            raise KeyboardInterrupt
        real(map_, path)

    monkeypatch.setattr(convert_case, "write_image", killed)
    with pytest.raises(KeyboardInterrupt):
        convert("MMWHS_CT", source, 60)
    folder = made[0].parent
    assert len(list(folder.glob("ct*"))) == 2
    _, summary = convert("MMWHS_CT", source, 60)
    assert (summary.cases, summary.new) == (4, 2) and len(made) == 5
    assert sorted(p.name for p in folder.iterdir()) == [f"ct_train_{i}.nii.gz" for i in range(1001, 1005)]


def test_disk_use_is_stated_and_must_be_there(root, monkeypatch, caplog):
    source = mmwhs(root, n=2)
    caplog.set_level("INFO")
    convert("MMWHS_CT", source, 60)
    assert "2 of 2 training and test cases are to be made: about 0.0 MB" in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1))
    convert("MMWHS_CT", source, 60)  # it is there already
    with pytest.raises(UserError, match="make room"):
        convert("MMWHS_CT", source, 61)


def test_another_data_set_is_not_overwritten(root):
    convert("MMWHS_CT", mmwhs(root, n=1), 60)
    with pytest.raises(ValueError, match="holds MMWHS_CT; give MMWHS_MR another -d"):
        convert("MMWHS_MR", mmwhs(root, "MMWHS_MR", 1), 60)
    foreign = root / "nnunet" / "raw" / "Dataset061_Own"
    write(foreign / "imagesTr" / "a_0000.nii.gz")
    before = tree(foreign)
    with pytest.raises(ValueError, match="`nnunet_xlstm convert` did not make"):
        convert("MMWHS_CT", root / "in", 61)
    assert tree(foreign) == before


# Errors -------------------------------------------------------------------------------------------------------------


def test_nothing_found_says_where_it_fits(root):
    source = mmwhs(root, n=1)
    for wrong in (root, source / "ct_train"):
        with pytest.raises(ValueError, match=rf"holds no training case of MMWHS_CT: ct_train/.*fits below {source}:"):
            convert("MMWHS_CT", wrong, 60)
    (root / "empty").mkdir()
    with pytest.raises(ValueError, match="fits 0 files.*there are 0 files. Give the folder that the official"):
        convert("MMWHS_CT", root / "empty", 60)
    (source / "ct_train/ct_train_1001_label.nii.gz").unlink()
    with pytest.raises(ValueError, match="such as ct_train/ct_train_1001_image.nii.gz.*The layout is not verified"):
        convert("WHSpp_CT", source, 60)
    with pytest.raises(UserError, match="no such folder"):
        convert("MMWHS_CT", root / "gone", 60)


def test_two_files_of_one_case(root):
    source = mmwhs(root, n=1)
    shutil.copy(source / "ct_train/ct_train_1001_image.nii.gz", source / "ct_train/ct_train_1001_image.nii")
    with pytest.raises(ValueError, match="both fit the pattern ct_train/{case}_image.nii.gz of one case; keep one"):
        convert("MMWHS_CT", source, 60)


def test_the_more_exact_fit_counts(root):
    """Within one folder: the file in whose name the pattern's * stands for less."""
    entry = own_entry(root, image={"MR": "**/{case}/image.nii.gz"}, label="**/{case}/*mask.nii.gz")
    folder = root / "in/x/a1"
    write(folder / "image.nii.gz", image())
    for name, value in {"old_mask": 7, "mask": 1, "very_old_mask": 7}.items():
        write(folder / f"{name}.nii.gz", label(value))
    dataset, summary = convert(entry, root / "in", 60)
    assert np.array_equal(converted_label(dataset, "a1"), label(1)) and summary.excluded == 2
    reasons = (dataset.folder / "excluded.csv").read_text()
    for name in ("old_mask", "very_old_mask"):
        assert f"{name}.nii.gz,fits the pattern **/{{case}}/*mask.nii.gz less exactly than mask.nii.gz" in reasons
    (folder / "mask.nii.gz").rename(folder / "new_mask.nii.gz")
    with pytest.raises(ValueError, match=r"new_mask.nii.gz and .*old_mask.nii.gz both fit the pattern .*; keep one"):
        convert(entry, root / "in", 60)
    (folder / "new_mask.nii.gz").unlink()
    write(root / "in/longer/a1/image.nii.gz", image(3))  # perhaps another patient, of another hospital
    with pytest.raises(ValueError, match=r"x/a1/image.nii.gz and .*longer/a1/image.nii.gz both fit"):
        convert(entry, root / "in", 60)


def test_isles24_has_a_second_mask(root):
    source = layout_of(root / "in", "ISLES24", ["sub-stroke0001"])
    folder = source / "derivatives/sub-stroke0001/ses-02"
    write(folder / "sub-stroke0001_ses-02_lesion-msk.nii.gz", label(1)[:, :-1])  # on the grid of the MR
    dataset, summary = convert("ISLES24", source, 60)
    assert summary.cases == 1 and np.array_equal(converted_label(dataset, "sub-stroke0001"), label(1))


def test_sets_that_others_convert(root, capsys):
    for name in shipped():
        entry = load_dataset(name)
        if entry.nnunet_converter:
            assert entry.nnunet_converter in CALLS
            with pytest.raises(ValueError, match=f"nnU-Net itself converts {name}, with {entry.nnunet_converter}."):
                convert(name, root, 60)
    assert main(["convert", "MSD03_Liver"]) == 1
    assert "Call: nnUNetv2_convert_MSD_dataset -i DIR -overwrite_id ID" in capsys.readouterr().err
    with pytest.raises(ValueError, match="the layout of AIMS_TBI is not known. Write the patterns"):
        convert("AIMS_TBI", root, 60)
    with pytest.raises(ValueError, match="no data set"):
        convert("Nobody", root, 60)


@pytest.mark.parametrize("name", CALLS)
def test_the_converters_of_nnunet_take_these_arguments(name, monkeypatch):
    """The line is read by the converter's own parser, which hands over what it read and stops there."""

    class Read(Exception):
        pass

    def stop(parser, *args, **kwargs):
        raise Read(parse(parser, *args, **kwargs))

    parse = argparse.ArgumentParser.parse_args
    words = CALLS[name].format(input="DIR", number=60).split()
    words = words[words.index("-m") + 1 :] if "-m" in words else words
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(Read) as read:
        if name.startswith("nnUNetv2_"):
            (script,) = entry_points(group="console_scripts", name=name)
            script.load()()
        else:
            runpy.run_module(words[0], run_name="__main__")
    values = list(vars(read.value.args[0]).values())
    assert "DIR" in values and 60 in values


@pytest.mark.parametrize(
    "name, message",
    [
        ("RVSC", r"RVSC has contours, no masks: there is no label map.* -i .+ --modality MR -d (ID|60)\."),
        ("DSB2015", "DSB2015 has values, no masks"),
        ("NLST", "NLST has no annotation: .* --modality CT"),
        ("LVSC", "the layout of LVSC is not known"),
    ],
)
def test_sets_that_hold_no_label_maps_are_refused(name, message, root, capsys):
    with pytest.raises(DatasetError, match=message):
        convert(name, root, 60)
    assert main(["convert", name]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_an_entry_of_ones_own(root):
    own = json.loads((resources.files("nnunet_xlstm.dataset_json") / "AIMS_TBI.json").read_text())
    own |= {"name": "MyTBI", "layout": {"image": {"T1w": "{case}.nii.gz"}, "label": "{case}_Lesion.nii.gz"}}
    (root / "MyTBI.json").write_text(json.dumps(own))
    write(root / "in/scan_0001.nii.gz", image())
    write(root / "in/scan_0001_Lesion.nii.gz", label(1))
    dataset, _ = convert(str(root / "MyTBI.json"), root / "in", 60)
    assert list(content(dataset)["dataset"]) == ["scan_0001"] and dataset.folder.name == "Dataset060_MyTBI"


# Label maps that are wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])
def test_a_value_that_is_no_label_is_named(root, kind):
    rng = np.random.default_rng(3)
    source = mmwhs(root, n=1, values=[500])
    path = source / "ct_train/ct_train_1001_label.nii.gz"
    known = set(load_dataset("MMWHS_CT").labels.values())
    for value in (-1, 1, 37, 244, 65535, 2**31 - 1, 0.5, float("inf"), int(rng.integers(900, 30000))):
        array = label(0).astype(kind)
        with np.errstate(all="ignore"):
            array[0, 0, 0] = np.array([value]).astype(kind)[0]
        stored = array[0, 0, 0]
        if stored in known or stored == 0:
            continue
        write(path, array)
        with pytest.raises(ValueError, match="ct_train_1001_label.nii.gz") as error:
            convert("MMWHS_CT", source, 60)
        text = str(error.value)
        assert any(part in text for part in ("no label", "whole number", "2^31"))
        if "no label" in text:
            assert str(int(stored)) in text


def test_damaged_files_are_left_out_with_the_reason(root):
    rng = np.random.default_rng(5)
    source = mmwhs(root, n=24)
    damaged = set()
    for i, path in enumerate(sorted((source / "ct_train").glob("*_label.nii.gz"))[1:]):
        data = bytearray(path.read_bytes())
        if i % 3 == 0:
            data = data[: int(rng.integers(1, len(data) - 1))]
        elif i % 3 == 1:
            at = rng.integers(0, len(data), 8)
            data[at[0] : at[0] + 8] = rng.bytes(8)
        else:
            data = b""
        path.write_bytes(bytes(data))
        damaged.add(path.name.removesuffix("_label.nii.gz"))
    dataset, summary = convert("MMWHS_CT", source, 60)
    assert "ct_train_1001" in content(dataset)["dataset"] and summary.cases + summary.excluded == 24
    assert summary.excluded >= 16 and set(content(dataset)["dataset"]) - {"ct_train_1001"} <= damaged
    reasons = (dataset.folder / "excluded.csv").read_text().splitlines()[1:]
    assert all(len(line.split(",", 1)[1]) > 10 for line in reasons)
    image_file = source / "ct_train/ct_train_1001_image.nii.gz"
    image_file.write_bytes(image_file.read_bytes()[:-200])
    with pytest.raises(ValueError, match="none of 24 inputs can be used"):
        convert("MMWHS_CT", source, 61)


DAMAGE = {
    "cut": (cut, "is damaged or cut off"),
    "no spacing": (zero_pixdim, "pixdim"),
    "claim": (claiming, "claims 900 x 900 x 900"),
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("part", ["image", "label"])
def test_one_damaged_file_does_not_end_the_run(root, what, part):
    damage, said = DAMAGE[what]
    source = mmwhs(root, n=2)
    damage(source / f"ct_train/ct_train_1002_{part}.nii.gz")
    dataset, summary = convert("MMWHS_CT", source, 60)
    assert (summary.cases, summary.excluded) == (1, 1)
    (line,) = (dataset.folder / "excluded.csv").read_text().splitlines()[1:]
    assert f"ct_train_1002_{part}.nii.gz" in line and said in line


def test_axes_that_are_not_at_right_angles(root):
    """As nnU-Net reads them: image and label map are written on the nearest grid that SimpleITK takes."""
    source = mmwhs(root, n=1)
    for part in ("image", "label"):
        sheared(source / f"ct_train/ct_train_1001_{part}.nii.gz")
    dataset, _ = convert("MMWHS_CT", source, 60)
    assert content(dataset)["dataset"]["ct_train_1001"]["images"] == ["imagesTr/ct_train_1001_0000.nii.gz"]
    assert np.array_equal(converted_label(dataset, "ct_train_1001"), label(*range(1, 8)))


def test_the_table_is_one_to_one():
    rng = np.random.default_rng(7)
    for name in shipped():
        entry = load_dataset(name)
        assert list(consecutive_ids(entry).values()) == list(range(1, len(entry.labels) + 1))
        native = rng.choice([0, *entry.labels.values()], (4, 5, 6))
        codes = look_up(native, id_table(entry))
        back = np.array([0, *entry.labels.values()])
        assert np.array_equal(back[codes], native)


# nnU-Net and the command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AVT", "ISLES22"])
def test_stock_integrity_check_accepts_it(root, verify_dataset_integrity, name):
    dataset, _ = convert(name, layout_of(root / "in", name, ["a", "b"]), 60)
    verify_dataset_integrity(str(dataset.folder), 1)


def test_a_pool_joins_its_labels_by_name(root):
    """The catalogue's ids are native, those of the files consecutive."""
    convert("MMWHS_CT", mmwhs(root, n=2), 60)
    source = {"dataset": "Dataset060_MMWHS_CT", "modality": "CT", "catalogue": "MMWHS_CT"}
    targets = [{"name": "myocardium", "group": "organ"}, {"name": "left_ventricle", "group": "organ"}]
    (root / "POOL.json").write_text(json.dumps({"targets": targets, "sources": [source]}))
    pool, summary = build_pool(root / "POOL.json", 61)
    assert summary.cases == 2 and content(pool)["pool"]["sources"]["Dataset060_MMWHS_CT"]["targets"] == {
        "myocardium": [5],
        "left_ventricle": [1],
    }
    codes = {tuple(names): int(code) for code, names in content(pool)["pool"]["codes"].items()}
    native = label(*load_dataset("MMWHS_CT").labels.values())
    array = converted_label(pool, "Dataset060_MMWHS_CT_ct_train_1001")
    assert np.array_equal(array == codes["myocardium",], native == 205)
    assert np.array_equal(array == codes["left_ventricle",], native == 500)


def test_command(root, capsys):
    source = mmwhs(root, n=5)
    assert main(["convert", "MMWHS_CT", "-i", str(source), "-d", "60", "--name", "Heart"]) == 0
    text = capsys.readouterr().out
    assert "Dataset060_Heart: 5 subjects, 5 cases, 5 of them new" in text and "next: nnUNetv2_plan" in text
    assert main(["convert", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(shipped()) + 2
    assert lines[-1] == count_sets(map(load_dataset, shipped())) and not lines[-2]
    (kits,) = [line.split() for line in lines if line.startswith("KiTS19 ")]
    assert kits[:5] == ["KiTS19", "210", "public", "nnunet_xlstm", "convert"]
    assert main(["convert", "MMWHS_CT", "-d", "60"]) == 1
    assert "give -i" in capsys.readouterr().err
    assert main(["convert"]) == 1
    assert "give NAME, -i, -d" in capsys.readouterr().err
    rows = catalogue_rows({name: load_dataset(name) for name in ("ACDC", "TSFM_Breast", "Sunnybrook", "NLST")})
    assert [row[2:4] for row in rows[1:]] == [
        ("public", "Dataset027_ACDC"),
        ("?", "layout not known"),
        ("public", "contours, no masks"),
        ("public", "no annotation"),
    ]
