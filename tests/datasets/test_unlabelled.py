"""`unlabelled`: from files in any format to a data set that nnU-Net can plan; again after changes and kills."""

import csv
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from support.dicom_files import volume, write_series
from support.image_files import body_image, cine, tree, write

from nnunet_xlstm.datasets import build, ingest
from nnunet_xlstm.datasets.case_index import read_pool_cases
from nnunet_xlstm.datasets.unlabelled import make_unlabelled
from nnunet_xlstm.errors import UserError


def make(*inputs, modality="MR", number=7, **options):
    return make_unlabelled([*inputs], modality, number, **options)


def content(dataset, name="dataset.json"):
    return json.loads((dataset.folder / name).read_text())


def excluded(dataset):
    rows = list(csv.reader((dataset.folder / "excluded.csv").read_text().splitlines()))
    assert rows[0] == ["path", "reason"]
    return {os.path.basename(path): reason for path, reason in rows[1:]}


def test_formats_are_referenced_in_place(tmp_path, nnunet_folders):
    files = [write(tmp_path / "in" / f"x{i}{e}") for i, e in enumerate((".nii.gz", ".nii", ".mha", ".nrrd", ".mhd"))]
    dataset, summary = make(tmp_path / "in", name="Mixed")
    assert dataset.folder == nnunet_folders / "raw" / "Dataset007_Mixed"
    found = content(dataset)
    assert {case: row["images"] for case, row in found["dataset"].items()} == {
        f"x{i}": [str(f)] for i, f in enumerate(files)
    }
    assert found["numTraining"] == 5 and found["channel_names"] == {"0": "MR"} and found["file_ending"] == ".nii.gz"
    assert found["labels"] == {"background": 0, "foreground": 1} and not (dataset.folder / "imagesTr").exists()
    assert (summary.cases, summary.new, summary.subjects, summary.excluded, summary.folds) == (5, 5, 5, 0, 5)
    for row in found["dataset"].values():
        label, image = (sitk.ReadImage(str(dataset.folder / p)) for p in (row["label"], row["images"][0]))
        assert label.GetPixelIDTypeAsString() == "8-bit unsigned integer" and label.GetSize() == image.GetSize()
        assert label.GetSpacing() == pytest.approx(image.GetSpacing())
        np.testing.assert_array_equal(sitk.GetArrayFromImage(label), body_image() > 25)
    names = ("pool_cases.json", "dataset.json", "splits_final.json")
    for name in (
        n for n in names if (dataset.folder / n).is_file()
    ):  # plans moved here from another data set need both
        copy = nnunet_folders / "preprocessed" / "Dataset007_Mixed" / name
        assert copy.read_bytes() == (dataset.folder / name).read_bytes()


def test_what_cannot_be_read_in_place_is_converted(tmp_path, nnunet_folders, monkeypatch):
    monkeypatch.setenv("HOMEWARD", "/nowhere")
    write(tmp_path / "in" / "$HOMEWARD.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(body_image()), str(tmp_path / "in" / "b.tif"))
    (tmp_path / "in" / "b.json").write_text('{"spacing": [3, 1, 1]}')
    dataset, _ = make(tmp_path / "in")
    found = content(dataset)["dataset"]
    assert [row["images"] for row in found.values()] == [["imagesTr/HOMEWARD_0000.nii.gz"], ["imagesTr/b_0000.nii.gz"]]
    assert sitk.ReadImage(str(dataset.folder / "imagesTr/b_0000.nii.gz")).GetSpacing() == (1, 1, 3)


def test_cine_is_split_into_frames_of_one_subject(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "heart.nii.gz", cine(12), isVector=False)
    dataset, summary = make(tmp_path / "in")
    rows = read_pool_cases(dataset.folder / "pool_cases.json").cases
    assert list(rows) == [f"heart_t{t:02d}" for t in range(12)] and summary.subjects == 1
    assert [(r.frame, r.frames, r.subject) for r in rows.values()] == [(t, 12, "heart") for t in range(12)]
    image = sitk.ReadImage(str(dataset.folder / "imagesTr" / "heart_t07_0000.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), cine(12)[7])
    assert not (dataset.folder / "splits_final.json").exists()


def unusable(folder):
    """One file for every reason, and words of that reason."""
    whole = body_image().astype(np.int16)
    nan = body_image()
    nan[0, 0, 0] = np.nan
    broken_frame = cine(3)
    broken_frame[1] = 0
    label = (body_image() > 25).astype(np.uint8)
    arrays = {
        "constant.nii.gz": (np.full((10, 20, 24), 5, np.int16), "constant: every voxel is 5"),
        "nan.nii.gz": (nan, "1 voxels are NaN or infinite"),
        "inf.mha": (np.where(body_image() > 52, np.inf, body_image()), "NaN or infinite"),
        "tiny.nii.gz": (body_image(shape=(7, 7, 24)), "24 x 7 x 7 voxels"),
        "binary.nii.gz": (label, "a label map: no more than 16"),
        "brain_seg.nii.gz": (np.arange(4800).reshape(10, 20, 24).astype(np.int16) % 100, "a label map, by its name"),
    }
    for name, (array, _) in arrays.items():
        write(folder / name, array)
    write(folder / "rgb.nii.gz", np.stack([whole, whole + 1, whole], -1).astype(np.uint8), isVector=True)
    write(folder / "broken.nii.gz", broken_frame, isVector=False)
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "text.nrrd").write_text("no image")
    reasons = {name: words for name, (_, words) in arrays.items()}
    cut = write(folder / "cut.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(cut[: len(cut) // 2])
    return reasons | {
        "rgb.nii.gz": "3 values per voxel",
        "broken.nii.gz (frame 1)": "constant",
        "empty.nii.gz": "is not a NIfTI file",
        "text.nrrd": "is no NRRD file",
        "cut.nii.gz": "cut off",
    }


def test_unusable_images_are_listed_and_never_in_the_way(tmp_path, nnunet_folders):
    expected = unusable(tmp_path / "in")
    write(tmp_path / "in" / "good.nii.gz")
    dataset, summary = make(tmp_path / "in")
    found = excluded(dataset)
    assert set(found) == set(expected)
    for name, words in expected.items():
        assert words in found[name] and "\n" not in found[name], name
    assert list(content(dataset)["dataset"]) == ["broken_t00", "broken_t02", "good"]
    assert summary.excluded == len(expected) and summary.cases == 3


def test_nothing_usable_is_an_error(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "constant.nii.gz", np.zeros((10, 20, 24)))
    with pytest.raises(ValueError, match="none of 1 inputs can be used; the reasons are in .*excluded.csv"):
        make(tmp_path / "in")
    folder = nnunet_folders / "raw" / "Dataset007_Unlabelled"
    assert "constant" in (folder / "excluded.csv").read_text() and not (folder / "dataset.json").exists()
    write(tmp_path / "in" / "good.nii.gz")
    assert make(tmp_path / "in")[1].cases == 1


def test_label_map_beside_a_cine_is_no_image(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "sax.nii.gz", cine(3), isVector=False)
    write(tmp_path / "in" / "sax_label.nii.gz", (cine(3) > 25).astype(np.uint8), isVector=False)
    dataset, summary = make(tmp_path / "in")
    assert summary.cases == 3 and "a label map" in excluded(dataset)["sax_label.nii.gz"]


def test_same_names_in_different_folders(tmp_path, nnunet_folders):
    for i, site in enumerate(("a", "b/c")):
        write(tmp_path / "in" / site / "scan.nii.gz", body_image(i))
    write(tmp_path / "in" / "a_scan.nii.gz", body_image(2))
    write(tmp_path / "more" / "a" / "scan.nii.gz", body_image(3))
    dataset, _ = make(tmp_path / "in")
    names = list(content(dataset)["dataset"])
    assert len(names) == 3 and "a_scan" in names and "b_c_scan" in names
    dataset, _ = make(tmp_path / "more")
    found = content(dataset)["dataset"]
    assert len(found) == 4 and len({row["images"][0] for row in found.values()}) == 4 and set(names) < set(found)


def test_a_second_run_adds_only_what_is_new(tmp_path, nnunet_folders):
    for i in range(5):
        write(tmp_path / "in" / f"s{i}.nii.gz", body_image(i))
    write(tmp_path / "in" / "c.nii.gz", cine(2), isVector=False)
    write(tmp_path / "in" / "bad.nii.gz", np.zeros((10, 20, 24)))
    dataset, _ = make(tmp_path / "in")
    before, folds = tree(nnunet_folders), content(dataset, "splits_final.json")
    assert make(tmp_path / "in")[1].new == 0
    assert tree(nnunet_folders) == before  # bytes and times of every file
    write(tmp_path / "in" / "a_new.nii.gz", body_image(9))
    dataset, summary = make(tmp_path / "in")
    assert (summary.cases, summary.new) == (8, 1)
    after = tree(nnunet_folders)
    changed = {name for name in after if after[name] != before.get(name)}
    raw = "raw/Dataset007_Unlabelled"
    assert changed == {
        *(f"{raw}/{name}" for name in ("dataset.json", "pool_cases.json", "splits_final.json")),
        f"{raw}/labelsTr/a_new.nii.gz",
        *(
            f"preprocessed/Dataset007_Unlabelled/{name}"
            for name in ("dataset.json", "pool_cases.json", "splits_final.json")
        ),
    }
    for old, new in zip(folds, content(dataset, "splits_final.json"), strict=True):
        assert set(old["val"]) <= set(new["val"])


def test_a_changed_image_is_taken_in_anew(tmp_path, nnunet_folders):
    path = write(tmp_path / "in" / "c.nii.gz", cine(4), isVector=False)
    write(tmp_path / "in" / "s.nii.gz")
    dataset, _ = make(tmp_path / "in")
    write(path, cine(2, seed=5), isVector=False)
    dataset, summary = make(tmp_path / "in")
    assert list(content(dataset)["dataset"]) == ["c_t00", "c_t01", "s"] and summary.new == 2
    assert sorted(p.name for p in (dataset.folder / "labelsTr").iterdir()) == [
        "c_t00.nii.gz",
        "c_t01.nii.gz",
        "s.nii.gz",
    ]


def test_a_lost_mask_is_made_again(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "s.nii.gz")
    dataset, _ = make(tmp_path / "in")
    mask = (dataset.folder / "labelsTr" / "s.nii.gz").read_bytes()
    (dataset.folder / "labelsTr" / "s.nii.gz").unlink()
    assert make(tmp_path / "in")[1].new == 1
    assert (dataset.folder / "labelsTr" / "s.nii.gz").read_bytes() == mask


@pytest.mark.parametrize("save_seconds", [0.0, 1e9])
def test_killed_and_run_again(tmp_path, nnunet_folders, monkeypatch, save_seconds):
    for i in range(5):
        write(tmp_path / "in" / f"s{i}.nii.gz", body_image(i))
    write(tmp_path / "in" / "c.nii.gz", cine(3), isVector=False)
    monkeypatch.setattr(build, "SAVE_SECONDS", save_seconds)
    stock, calls = ingest.sitk.WriteImage, []

    def dies(image, path, *options):
        calls.append(path)
        if len(calls) == 8:
            (nnunet_folders / "raw").joinpath(path).write_bytes(b"half a file")
            raise KeyboardInterrupt
        stock(image, path, *options)

    monkeypatch.setattr(ingest.sitk, "WriteImage", dies)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "in")
    monkeypatch.setattr(ingest.sitk, "WriteImage", stock)
    _, summary = make(tmp_path / "in")
    assert summary.cases == 8 and summary.new == (8 if save_seconds else 8 - 4)  # three frames and s0 were saved
    killed = {name: data for name, (data, _) in tree(nnunet_folders).items()}
    assert not any("tmp" in name for name in killed)
    for folder in nnunet_folders.iterdir():
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    make(tmp_path / "in")
    assert {name: data for name, (data, _) in tree(nnunet_folders).items()} == killed


def test_lists_of_paths(tmp_path, nnunet_folders):
    write(tmp_path / "in" / "deep" / "a.nii.gz")
    write(tmp_path / "in" / "b.nii.gz", body_image(1))
    (tmp_path / "list.txt").write_text(f"# mine\nin/deep/a.nii.gz\n\n{tmp_path}/in/b.nii.gz\nin/gone.nii.gz\n")
    dataset, _ = make(tmp_path / "list.txt")
    assert list(content(dataset)["dataset"]) == ["b", "deep_a"]
    assert excluded(dataset) == {"gone.nii.gz": "no such file or folder"}


def test_subjects_by_pattern(tmp_path, nnunet_folders):
    for i in range(6):
        for sequence in ("T1", "T2"):
            write(tmp_path / "in" / f"sub-{i}" / f"{sequence}.nii.gz", body_image(i))
    dataset, summary = make(tmp_path / "in", subject=r"sub-(\d+)")
    assert summary.subjects == 6 and summary.folds == 5
    rows = read_pool_cases(dataset.folder / "pool_cases.json").column("subject")
    assert rows["sub-3_T1"] == rows["sub-3_T2"] == "3"
    for fold in content(dataset, "splits_final.json"):
        assert not {rows[c] for c in fold["train"]} & {rows[c] for c in fold["val"]}


def test_several_sequences_make_one_case(tmp_path, nnunet_folders):
    for name in ("p1_T1", "p1_FLAIR", "p2_T1", "p2_FLAIR", "p3_T1", "p4_T1", "p4_other"):
        write(tmp_path / "in" / f"{name}.nii.gz", body_image(1))
    write(tmp_path / "in" / "p4_FLAIR.nii.gz", body_image(1), spacing=(2, 1, 3))
    dataset, summary = make(tmp_path / "in", subject=r"^(p\d)", channels=["T1=*_T1", "FLAIR=*_FLAIR"])
    found = content(dataset)
    assert found["channel_names"] == {"0": "T1", "1": "FLAIR"}
    paths = {case: [os.path.basename(p) for p in row["images"]] for case, row in found["dataset"].items()}
    assert paths == {p: [f"{p}_T1.nii.gz", f"{p}_FLAIR.nii.gz"] for p in ("p1", "p2")}
    left = {name.split(" | ")[0]: reason for name, reason in excluded(dataset).items()}
    assert "0 images of channel FLAIR" in left["p3_T1.nii.gz"]
    assert "matches the patterns of 0 channels" in left["p4_other.nii.gz"]
    assert any("grids of first channel and other" in reason for reason in left.values())


def test_channels_of_visits_and_of_ct(tmp_path, nnunet_folders):
    for visit in ("v1", "v2"):
        for name in ("plain", "contrast"):
            write(tmp_path / "in" / "p1" / visit / f"{name}.mha", body_image(1))
    options = {"modality": "CT", "subject": "^(p1)", "channels": ["plain=plain", "late=contr*"]}
    dataset, summary = make(tmp_path / "in", **options)
    assert summary.cases == 2 and summary.subjects == 1
    assert content(dataset)["channel_names"] == {"0": "CT", "1": "CT"}  # nnU-Net's CT normalisation


def test_dicom_archive(tmp_path, nnunet_folders):
    write_series(tmp_path / "in" / "p1" / "ct", volume(1, (6, 16, 18)), uid=1)
    write_series(tmp_path / "in" / "p1" / "hole", volume(2, (6, 16, 18)), uid=2, skip=(3,))
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_series(tmp_path / "in" / "p1" / "scout", volume(3, (1, 16, 18)), uid=3, tags=lambda z: scout)
    write_series(tmp_path / "in" / "p1" / "mr", volume(4, (6, 16, 18)), uid=4, modality="MR")
    write_series(tmp_path / "in" / "p2", volume(5, (6, 16, 18)), uid=5, patient="P2")
    dataset, summary = make(tmp_path / "in", modality="CT", dicom=True)
    rows = read_pool_cases(dataset.folder / "pool_cases.json").cases
    assert {case: row.subject for case, row in rows.items()} == {"p1_ct_1_thorax": "P1", "p2_5_thorax": "P2"}
    found = excluded(dataset)
    assert "missing slices: 1" in found["hole"] and "modality is MR" in found["mr"] and "a scout" in found["scout"]
    image = sitk.ReadImage(str(dataset.folder / "imagesTr" / "p1_ct_1_thorax_0000.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume(1, (6, 16, 18)))
    assert content(dataset)["channel_names"] == {"0": "CT"}
    write_series(tmp_path / "in" / "p1" / "hole", volume(2, (6, 16, 18)), uid=2)  # the slice is found
    assert make(tmp_path / "in", modality="CT", dicom=True)[1].new == 1


def test_folders_without_images(tmp_path, nnunet_folders):
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="no image .*for DICOM files add --dicom"):
        make(tmp_path / "in")
    with pytest.raises(ValueError, match="no DICOM series"):
        make(tmp_path / "in", dicom=True)
    with pytest.raises(UserError, match="no such file or folder"):
        make(tmp_path / "nowhere")
    (tmp_path / "in" / "a.pdf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="neither an image"):
        make(tmp_path / "in" / "a.pdf")
    assert not list((nnunet_folders / "raw").iterdir())


def test_wrong_options(tmp_path, nnunet_folders, monkeypatch):
    write(tmp_path / "in" / "a.nii.gz")
    make(tmp_path / "in", name="One")
    for options, words in (
        ({"modality": "US"}, "use one of CT, MR, PET"),
        ({"number": 0}, "from 1 to 999"),
        ({"name": "a b"}, "letters, digits"),
        ({"name": "Two"}, "-d 7 is Dataset007_One already"),
        ({"modality": "CT"}, "unite both with `nnunet_xlstm pool build`"),
        ({"channels": ["T1"]}, "give NAME=GLOB"),
        ({"channels": ["zscore=*"]}, "takes this name as a normalisation"),
        ({"subject": r"sub-\d"}, "finds no subject in 'a'"),
        ({"processes": 0}, "1 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            make(tmp_path / "in", **options)
    assert make(tmp_path / "in")[0].folder.name == "Dataset007_One"
    other = nnunet_folders / "raw" / "Dataset008_Labelled"
    other.mkdir()
    (other / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a data set that `nnunet_xlstm unlabelled` did not make"):
        make(tmp_path / "in", number=8)
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(ValueError, match="nnUNet_preprocessed is not set"):
        make(tmp_path / "in")


def test_folds_among_preprocessed_data_follow_unless_somebody_changed_them(tmp_path, nnunet_folders, caplog):
    for i in range(5):
        write(tmp_path / "in" / f"s{i}.nii.gz", body_image(i))
    dataset, _ = make(tmp_path / "in")
    copy = dataset.preprocessed / "splits_final.json"
    copy.write_bytes((dataset.folder / "splits_final.json").read_bytes())  # as nnU-Net's planner does
    write(tmp_path / "in" / "s5.nii.gz", body_image(5))
    make(tmp_path / "in")
    assert copy.read_bytes() == (dataset.folder / "splits_final.json").read_bytes()
    copy.write_text('[{"train": [], "val": []}]')
    write(tmp_path / "in" / "s6.nii.gz", body_image(6))
    make(tmp_path / "in")
    assert copy.read_text().startswith('[{"train": []') and "nnU-Net refuses it" in caplog.text


def test_two_processes_give_the_same(tmp_path, nnunet_folders):
    for i in range(3):
        write(tmp_path / "in" / f"s{i}.nii.gz", body_image(i))
    one, _ = make(tmp_path / "in", name="A", number=11)
    two, _ = make(tmp_path / "in", name="A", number=12, processes=2)
    assert content(one)["dataset"] == content(two)["dataset"]
    for path in (one.folder / "labelsTr").iterdir():
        assert path.read_bytes() == (two.folder / "labelsTr" / path.name).read_bytes()


def test_ct_without_negative_values_is_reported(tmp_path, nnunet_folders, caplog):
    write(tmp_path / "in" / "hu.nii.gz", body_image() - 500)
    write(tmp_path / "in" / "raw.nii.gz", np.abs(body_image()))
    make(tmp_path / "in", modality="CT")
    assert "1 of the CT images" in caplog.text and "raw.nii.gz" in caplog.text and "Hounsfield" in caplog.text
    caplog.clear()
    make(tmp_path / "in", modality="CT")  # said once
    assert not caplog.text
