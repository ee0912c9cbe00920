"""`pool build` with labels: the files of a pool, stock nnU-Net on them, and what it refuses."""

import json
import os
import re

import numpy as np
import pytest
import SimpleITK as sitk
from support.image_files import body_image, tree, write
from support.raw_datasets import cut, sheared, zero_pixdim

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.datasets import build as raw_build
from nnunet_xlstm.datasets.case_index import read_pool_cases
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.pools.build import build_pool
from nnunet_xlstm.pools.check import check_pool
from nnunet_xlstm.pools.manifest_json import read_manifest

TARGETS = [
    {"name": "liver", "group": "organ"},
    {"name": "tumour", "group": "lesion"},
    {"name": "vessel", "group": "vessel"},
    {"name": "larynx", "region": ["neck"]},
]
LIVER = {"dataset": "Dataset003_Liver", "modality": "CT", "targets": {"liver": [1, 2], "tumour": [2]}}
VESSEL = {"dataset": "Dataset008_Vessel", "modality": "CT", "targets": {"vessel": [1], "tumour": [2]}}
POOL = {"name": "Mix", "targets": TARGETS, "hierarchy": [["liver", "tumour"]]}


def label_map(*values):
    """Boxes of these values, one after the other."""
    label = np.zeros((10, 20, 24), np.int16)
    for i, value in enumerate(values):
        label[3:7, 5:15, 4 + 4 * i : 8 + 4 * i] = value
    return label


def raw_dataset(folder, labels, cases, channels=("CT",)):
    for i, (case, values) in enumerate(cases.items()):
        for c in range(len(channels)):
            write(folder / "imagesTr" / f"{case}_{c:04d}.nii.gz", body_image(10 * i + c))
        write(folder / "labelsTr" / f"{case}.nii.gz", label_map(*values))
    facts = {"channel_names": dict(enumerate(channels)), "labels": {"background": 0} | labels}
    text = json.dumps(facts | {"numTraining": len(cases), "file_ending": ".nii.gz"})
    (folder / "dataset.json").write_text(text)


@pytest.fixture
def raw(nnunet_folders):
    raw = nnunet_folders / "raw"
    cases = {f"l{i}": (1, 2) for i in range(4)} | {"l4": (1,)}
    raw_dataset(raw / "Dataset003_Liver", {"liver": 1, "cancer": 2}, cases)
    raw_dataset(raw / "Dataset008_Vessel", {"vessel": 1, "tumour": 2}, {f"v{i}": (1, 2) for i in range(5)})
    return raw


def build(raw, *rows, number=50, **more):
    path = raw.parent / "POOL.json"
    path.write_text(json.dumps(POOL | {"sources": list(rows)} | more))
    return build_pool(path, number)[0]


def content(dataset, name="dataset.json"):
    return json.loads((dataset.folder / name).read_text())


def codes(dataset, case):
    file = dataset.folder / content(dataset)["dataset"][case]["label"]
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def test_images_by_reference_and_labels_as_regions(raw, verify_dataset_integrity):
    dataset = build(raw, LIVER, VESSEL)
    found = content(dataset)
    # larynx is in no source; codes: liver, tumour, vessel, liver + tumour
    assert found["labels"] == {"background": 0, "liver": [1, 4], "vessel": 3, "tumour": [2, 4]}
    assert found["regions_class_order"] == [1, 3, 4] and found["channel_names"] == {"0": "CT"}
    image = raw / "Dataset003_Liver" / "imagesTr" / "l0_0000.nii.gz"
    assert found["dataset"]["Dataset003_Liver_l0"]["images"] == [str(image)]
    assert not (dataset.folder / "imagesTr").exists()
    assert np.array_equal(codes(dataset, "Dataset003_Liver_l0"), label_map(1, 4))
    assert np.array_equal(codes(dataset, "Dataset008_Vessel_v0"), label_map(3, 2))
    rows = read_pool_cases(dataset.folder / "pool_cases.json").cases
    assert rows["Dataset003_Liver_l4"].valid == ("liver", "tumour")
    assert rows["Dataset008_Vessel_v0"].valid == ("tumour", "vessel")
    pool = read_manifest(found, "here")
    assert pool.names == ("liver", "vessel", "tumour") and pool.codes[4] == ("liver", "tumour")
    assert pool.sources["Dataset003_Liver"].labels == {"liver": 1, "cancer": 2}
    assert pool.sources["Dataset003_Liver"].targets == {"liver": (1, 2), "tumour": (2,)}
    verify_dataset_integrity(str(dataset.folder), 1)


def test_building_again_changes_nothing_and_a_new_mapping_everything_it_must(raw):
    dataset = build(raw, LIVER, VESSEL)
    before = tree(dataset.folder)
    assert tree(build(raw, LIVER, VESSEL).folder) == before
    changed = LIVER | {"targets": {"liver": [1], "tumour": [2]}}
    build(raw, changed, VESSEL)
    after = tree(dataset.folder)
    assert np.array_equal(codes(dataset, "Dataset003_Liver_l0"), label_map(1, 2))
    vessels = [name for name in before if "Vessel_v" in name]
    assert len(vessels) == 5 and all(before[name] == after[name] for name in vessels)
    write(raw / "Dataset003_Liver" / "labelsTr" / "l1.nii.gz", label_map(2))
    build(raw, changed, VESSEL)
    assert np.array_equal(codes(dataset, "Dataset003_Liver_l1"), label_map(2))


@pytest.mark.parametrize("killed_after", [0, 1, 3])
def test_a_build_that_is_killed_lists_no_case_with_codes_of_another_meaning(raw, monkeypatch, killed_after):
    build(raw, LIVER, VESSEL)
    real = raw_build.for_each

    def killed(*args, **options):
        for i, result in enumerate(real(*args, **options)):
            if i == killed_after:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(raw_build, "for_each", killed)
    monkeypatch.setattr(raw_build, "SAVE_SECONDS", -1)
    changed = LIVER | {"targets": {"tumour": [1], "liver": [2]}}
    with pytest.raises(KeyboardInterrupt):
        build(raw, changed, VESSEL, hierarchy=[])
    folder = raw / "Dataset050_Mix"
    found = json.loads((folder / "dataset.json").read_text())
    pool = read_manifest(found, "here")
    liver = {case: row for case, row in found["dataset"].items() if "Liver" in case}
    assert len(liver) == killed_after and len(found["dataset"]) == found["numTraining"] == killed_after + 5
    for row in liver.values():
        values = np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / row["label"]))))
        assert {pool.codes[code] for code in values.tolist() if code} == {("tumour",), ("liver",)}
    monkeypatch.setattr(raw_build, "for_each", real)
    ended = tree(build(raw, changed, VESSEL, hierarchy=[]).folder)
    expected = tree(build(raw, changed, VESSEL, hierarchy=[], number=51).folder)
    assert {n: d for n, (d, _) in ended.items()} == {n: d for n, (d, _) in expected.items()}


def test_a_target_of_another_name_reaches_every_case(raw):
    """The codes stay the same, but not what the trainer reads of a case."""
    build(raw, LIVER, VESSEL)
    renamed = [t | {"name": "leber"} if t["name"] == "liver" else t for t in TARGETS]
    mapping = LIVER | {"targets": {"leber": [1, 2], "tumour": [2]}}
    dataset = build(raw, mapping, VESSEL, targets=renamed, hierarchy=[["leber", "tumour"]])
    rows = read_pool_cases(dataset.folder / "pool_cases.json").cases
    assert content(dataset)["labels"]["leber"] == [1, 4] and rows["Dataset003_Liver_l0"].valid == ("leber", "tumour")


def test_several_channels_share_a_label_and_a_subject(raw):
    raw_dataset(raw / "Dataset131_MS", {"lesion": 1}, {"m1": (1,), "m2": (1,)}, ("FLAIR", "T1"))
    ms = {"dataset": "Dataset131_MS", "modality": "MR", "targets": {"tumour": [1]}}
    dataset = build(raw, LIVER, ms)
    rows = read_pool_cases(dataset.folder / "pool_cases.json").cases
    assert {rows[f"Dataset131_MS_m1_{c}"].subject for c in ("FLAIR", "T1")} == {"Dataset131_MS/m1"}
    assert np.array_equal(codes(dataset, "Dataset131_MS_m1_T1"), codes(dataset, "Dataset131_MS_m1_FLAIR"))
    assert content(dataset)["channel_names"] == {"0": "image"}  # not all CT: z-score


def test_a_label_that_may_be_missing_makes_its_targets_unknown(raw, monkeypatch):
    """Head and neck CT: an organ without voxels was not drawn in this patient."""
    labels = {"Brainstem": 1, "SpinalCord": 2, "RightParotid": 3, "LeftParotid": 4, "Esophagus": 5, "Larynx": 6,
              "Mandible": 7, "PTV70": 8}  # fmt: skip
    raw_dataset(raw / "Dataset121_HN", labels, {"h1": (1, 6), "h2": (1,)})
    head = {"dataset": "Dataset121_HN", "modality": "CT", "catalogue": "Dataset121_OpenKBP_HN_CT"}
    targets = [{"name": name} for name in ("larynx", "brainstem", "spinal_cord")]
    dataset = build(raw, head, targets=targets, hierarchy=[])
    rows = read_pool_cases(dataset.folder / "pool_cases.json").cases
    assert rows["Dataset121_HN_h1"].valid == ("larynx", "brainstem", "spinal_cord")
    assert rows["Dataset121_HN_h2"].valid == ("brainstem", "spinal_cord")  # the spinal cord is always drawn


def test_a_target_that_nobody_looked_for(raw):
    """Its voxels are no longer of that target, also inside others."""
    dataset = build(raw, LIVER | {"not_annotated": {"tumour": ["l0"]}}, VESSEL)
    rows = read_pool_cases(dataset.folder / "pool_cases.json").cases
    assert rows["Dataset003_Liver_l0"].valid == ("liver",) and rows["Dataset003_Liver_l1"].valid == ("liver", "tumour")
    assert np.array_equal(codes(dataset, "Dataset003_Liver_l0"), label_map(1, 1))
    with pytest.raises(ValueError, match="not_annotated names l9 for tumour, which is no case"):
        build(raw, LIVER | {"not_annotated": {"tumour": ["l9"]}}, VESSEL)


def test_converted_ids_are_joined_by_name(raw):
    """The catalogue has the authors' ids, 500, 600 and so on; a raw data set has consecutive ones."""
    from nnunet_xlstm.catalogue.entries import load_dataset

    entry = load_dataset("MMWHS_CT")
    names = {label: i for i, label in enumerate(entry.labels, start=1)}
    raw_dataset(raw / "Dataset060_MMWHS", names, {"m1": tuple(names.values())[:3]})
    heart = {"dataset": "Dataset060_MMWHS", "modality": "CT", "catalogue": "MMWHS_CT"}
    path = raw.parent / "POOL.json"
    path.write_text(json.dumps({"name": "Heart", "pool": "pool_cardiac", "sources": [heart]}))
    dataset, _ = build_pool(path, 61)
    pool = read_manifest(content(dataset), "here")
    ids = pool.sources["Dataset060_MMWHS"].targets
    assert set(ids) == set(entry.targets) & set(pool.names) and max(max(i) for i in ids.values()) == len(names)
    wrong = {f"{label}?": i for label, i in names.items()} | {"more": 8}
    raw_dataset(raw / "Dataset060_MMWHS", wrong, {"m1": (1,)})
    with pytest.raises(ValueError, match="are not those of the catalogue's MMWHS_CT.*nnunet_xlstm convert MMWHS_CT"):
        build_pool(path, 61)


def test_a_pool_of_the_catalogue_chooses_the_targets_of_its_sources(raw):
    """The entry has an inferior vena cava and an esophagus too, which these pools leave out."""
    from nnunet_xlstm.catalogue.entries import load_dataset, load_pool

    raw_dataset(raw / "Dataset070_Total", load_dataset("TotalSegmentator_v1").labels, {"t1": (5, 7, 8, 42, 46)})
    total = {"dataset": "Dataset070_Total", "modality": "CT", "catalogue": "TotalSegmentator_v1"}
    for number, name in enumerate(("pool_cardiac", "pool_tumor"), start=71):
        path = raw.parent / "POOL.json"
        path.write_text(json.dumps({"name": name, "pool": name, "sources": [total]}))
        dataset, _ = build_pool(path, number)
        (wanted,) = (s.targets for s in load_pool(name).sources if s.dataset.name == "TotalSegmentator_v1")
        found = read_manifest(content(dataset), "here").sources["Dataset070_Total"].targets
        assert {target: list(ids) for target, ids in found.items()} == wanted
    assert "esophagus" not in wanted and "inferior_vena_cava" in wanted


def test_a_source_of_labels_and_regions(raw):
    cases = {f"b{i}": (1, 2, 3) for i in range(2)}
    raw_dataset(raw / "Dataset082_BraTS", {"whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}, cases)
    row = {"dataset": "Dataset082_BraTS", "modality": "MR", "targets": {"tumour": [1, 2, 3], "vessel": [3]}}
    pool = read_manifest(content(build(raw, LIVER, row)), "here")
    assert pool.sources["Dataset082_BraTS"].labels == {"enhancing": 3, "1": 1, "2": 2}


def test_each_source_its_own_targets(raw):
    dataset = build(raw, LIVER, VESSEL, merge="none")
    labels = content(dataset)["labels"]
    assert list(labels)[1:] == [
        "Dataset003_Liver__liver", "Dataset008_Vessel__vessel", "Dataset003_Liver__tumour", "Dataset008_Vessel__tumour"
    ]  # fmt: skip
    rows = read_pool_cases(dataset.folder / "pool_cases.json").cases
    assert rows["Dataset008_Vessel_v1"].valid == ("Dataset008_Vessel__tumour", "Dataset008_Vessel__vessel")


def test_voxels_to_ignore(raw, verify_dataset_integrity):
    raw_dataset(raw / "Dataset070_Part", {"liver": 1, "ignore": 2}, {f"p{i}": (1, 2) for i in range(2)})
    part = {"dataset": "Dataset070_Part", "modality": "CT", "targets": {"liver": [1]}}
    dataset = build(raw, LIVER, part)
    ignore = content(dataset)["labels"]["ignore"]
    assert np.array_equal(codes(dataset, "Dataset070_Part_p0"), label_map(1, ignore))
    verify_dataset_integrity(str(dataset.folder), 1)


def test_an_unknown_value_stops_the_build(raw):
    path = write(raw / "Dataset003_Liver" / "labelsTr" / "l2.nii.gz", label_map(1, 7))
    with pytest.raises(ValueError, match=r"l2\.nii\.gz holds the value 7 in 160 voxels.*cancer") as stopped:
        build(raw, LIVER, VESSEL)
    assert str(path) in str(stopped.value)


def test_another_grid_is_left_out(raw):
    write(raw / "Dataset003_Liver" / "labelsTr" / "l2.nii.gz", label_map(1)[:, :, :-1])
    write(raw / "Dataset003_Liver" / "labelsTr" / "l3.nii.gz", label_map(1), spacing=(1.0, 1.0, 2.0))
    dataset = build(raw, LIVER, VESSEL)
    assert content(dataset)["numTraining"] == 8
    reasons = (dataset.folder / "excluded.csv").read_text()
    assert "voxels" in reasons and "mm apart" in reasons


def test_a_missing_label_map(raw):
    os.remove(raw / "Dataset003_Liver" / "labelsTr" / "l2.nii.gz")
    with pytest.raises(ValueError, match=r"l2\.nii\.gz is missing \(1 of 5"):
        build(raw, LIVER, VESSEL)


@pytest.mark.parametrize(("more", "row", "said"), [
    ({"pool": "pool_tumour"}, LIVER, "pool and hierarchy are both given"),
    ({"targets": []}, LIVER, r"targets is \[\]; give a list of at least 1"),
    ({"targets": [{"name": "liver", "group": "bone"}]}, LIVER, r'targets\[0\].group is "bone"; give one of organ'),
    ({"targets": [{"name": "ignore"}], "hierarchy": []}, LIVER, "keeps the name ignore"),
    ({"targets": [{"name": "liver"}] * 2, "hierarchy": []}, LIVER, "listed twice"),
    ({"hierarchy": [["liver", "cancer"]]}, LIVER, 'hierarchy: target "cancer" is unknown; use liver, tumour'),
    ({"hierarchy": [["liver"]]}, LIVER, r"hierarchy\[0\] is"),
    ({"merge": "some"}, LIVER, 'merge is "some"; give one of'),
    ({}, {"dataset": "Dataset003_Liver", "modality": "CT"}, r"sources\[0\]: which labels make the targets"),
    ({}, LIVER | {"catalogue": "Liver"}, "catalogue: The catalogue has no data set"),
    ({}, LIVER | {"targets": {"lever": [1]}}, 'targets: target "lever" is unknown .did you mean liver'),
    ({}, LIVER | {"targets": {"liver": [0]}}, r"sources\[0\].targets.liver\[0\] is 0; give a whole number from 1"),
    ({}, LIVER | {"targets": {"liver": [9]}}, "targets name the id 9; give ids of its dataset.json"),
    ({}, LIVER | {"targets": {}}, "labels none of the pool's targets"),
])  # fmt: skip
def test_faults_of_the_file(raw, more, row, said):
    with pytest.raises(ValueError, match=said):
        build(raw, row, **more)


DAMAGE = {
    "cut": (cut, "is damaged or cut off"),
    "empty": (lambda path: cut(path, 0), "get it again|not a NIfTI file"),
    "no spacing": (zero_pixdim, "its header says pixdim"),
    "NaN": (lambda path: write(path, np.where(label_map(1) > 0, np.nan, 0.0)), "holds NaN"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_label_map_stops_build_and_check(raw, what):
    damage, said = DAMAGE[what]
    path = raw / "Dataset003_Liver" / "labelsTr" / "l2.nii.gz"
    damage(path)
    for run in (lambda: build(raw, LIVER, VESSEL), lambda: check_pool(raw.parent / "POOL.json")):
        with pytest.raises(DatasetError, match=said) as stopped:
            run()
        assert str(path) in str(stopped.value)


@pytest.mark.parametrize("what", ["cut", "empty", "no spacing"])
def test_a_damaged_image_is_left_out(raw, what):
    damage, said = DAMAGE[what]
    damage(raw / "Dataset003_Liver" / "imagesTr" / "l2_0000.nii.gz")
    dataset = build(raw, LIVER, VESSEL)
    assert content(dataset)["numTraining"] == 9
    (line,) = (dataset.folder / "excluded.csv").read_text().splitlines()[1:]
    assert "l2_0000.nii.gz" in line and re.search(said, line)


def test_axes_that_are_not_at_right_angles(raw, verify_dataset_integrity):
    """nnU-Net's SimpleITK reader cannot read these in place: image and label map are written on the nearest grid."""
    for path in ("imagesTr/l2_0000.nii.gz", "labelsTr/l2.nii.gz"):
        sheared(raw / "Dataset003_Liver" / path)
    dataset = build(raw, LIVER, VESSEL)
    assert content(dataset)["dataset"]["Dataset003_Liver_l2"]["images"] == ["imagesTr/Dataset003_Liver_l2_0000.nii.gz"]
    assert np.array_equal(codes(dataset, "Dataset003_Liver_l2"), label_map(1, 4))
    verify_dataset_integrity(str(dataset.folder), 1)


def test_a_label_map_that_was_cut_off_is_made_again(raw):
    """By a full disk, after an earlier build."""
    dataset = build(raw, LIVER, VESSEL)
    before = tree(dataset.folder)
    for case, share in (("Dataset003_Liver_l1", 0), ("Dataset008_Vessel_v1", 0.7)):
        cut(dataset.folder / "labelsTr" / f"{case}.nii.gz", share)
    after = tree(build(raw, LIVER, VESSEL).folder)
    assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}


def test_variables_in_names_of_files_are_no_variables(raw, monkeypatch, verify_dataset_integrity):
    """nnU-Net takes the names in imagesTr as they are; it would expand them in the pool's table of files."""
    monkeypatch.setenv("WHO", "somebody")
    raw_dataset(raw / "Dataset009_Dollar", {"liver": 1}, {"case$WHO-1": (1,), "$WHO": (1,)})
    dollar = {"dataset": "Dataset009_Dollar", "modality": "CT", "targets": {"liver": [1]}}
    dataset = build(raw, LIVER, dollar)
    rows = content(dataset)["dataset"]
    new = {case: row for case, row in rows.items() if "Dollar" in case}
    assert new["Dataset009_Dollar_case_WHO-1"]["images"] == ["imagesTr/Dataset009_Dollar_case_WHO-1_0000.nii.gz"]
    for row in new.values():
        assert all((dataset.folder / os.path.expandvars(path)).is_file() for path in (*row["images"], row["label"]))
    assert all(np.array_equal(codes(dataset, case), label_map(1)) for case in new)
    verify_dataset_integrity(str(dataset.folder), 1)


def test_files_that_macos_left_are_no_cases(raw):
    (raw / "Dataset003_Liver" / "imagesTr" / "._l2_0000.nii.gz").write_bytes(b"\0\5\x16\7")
    (raw / "Dataset003_Liver" / "imagesTr" / "l7.nii.gz").write_bytes(b"")
    dataset = build(raw, LIVER, VESSEL)
    assert content(dataset)["numTraining"] == 10
    (line,) = (dataset.folder / "excluded.csv").read_text().splitlines()[1:]
    assert "l7.nii.gz" in line and "does not end with the number of a channel" in line


@pytest.mark.parametrize(("wrong", "said"), [
    ([], "dataset.json: holds a list; it must hold an object"),
    ({"labels": {"liver": 1, "cancer": 2}}, '`labels` of its dataset.json has no "background": 0'),
    ({"labels": {"background": 0, "liver": None}}, "labels.liver is null; give a whole number from 0 to 214748"),
    ({"labels": {"background": 0, "liver": "1"}}, 'labels.liver is "1"; give a whole number from 0 to 2147483647, or'),
    ({"labels": {"background": 0, "liver": [1, "two"]}}, r'labels.liver\[1\] is "two"; give a whole number'),
    ({"labels": {"background": 0, "liver": 1, "ignore": "2"}}, 'labels.ignore is "2"; give a whole number'),
    ({"labels": {"background": 0, "liver": [0, 1]}}, "labels.liver is .*, which holds the background, 0; take it out"),
    ({"file_ending": None}, "file_ending is null; give an ending"),
    ({"dataset": []}, r"dataset is \[\]; give an object case ->"),
    ({"dataset": {"l0": "l0.nii.gz"}}, 'dataset.l0 is "l0.nii.gz"; give an object with images, label'),
])  # fmt: skip
def test_faults_of_a_source(raw, wrong, said):
    path = raw / "Dataset003_Liver" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong if wrong else wrong))
    with pytest.raises(ValueError, match=said):
        build(raw, LIVER)


def test_null_is_as_good_as_nothing(raw):
    assert content(build(raw, LIVER | {"not_annotated": None}))["numTraining"] == 5


def test_labels_without_targets_are_refused(raw):
    path = raw.parent / "POOL.json"
    path.write_text(json.dumps({"sources": [LIVER]}))
    with pytest.raises(ValueError, match="but the file lists no targets"):
        build_pool(path, 50)


def test_check_counts_and_names_conflicts(raw):
    path = raw.parent / "POOL.json"
    apart = VESSEL | {"targets": {"vessel": [1], "tumour": [2], "liver": [1]}}
    path.write_text(json.dumps(POOL | {"sources": [LIVER, apart], "mutually_exclusive": [["vessel", "liver"]]}))
    report = check_pool(path)
    liver, _, tumour = report.targets
    assert liver.sources == {"Dataset003_Liver": 5, "Dataset008_Vessel": 5} and liver.present == 10
    assert tumour.present == 9 and tumour.median_ml == pytest.approx(4 * 10 * 4 * 3 / 1000)
    assert report.together[("liver", "tumour")] == 10 and report.together[("liver", "vessel")] == 5
    said = "\n".join(report.conflicts)
    assert "liver includes tumour in Dataset003_Liver; liver is apart from tumour in Dataset008_Vessel" in said
    assert "Dataset008_Vessel: vessel and liver are exclusive but share the label 1" in said
    assert "Dataset008_Vessel: liver lacks the labels of tumour" in said


def test_check_on_the_command_line(raw, capsys):
    path = raw.parent / "POOL.json"
    apart = VESSEL | {"targets": {"vessel": [1], "tumour": [2], "liver": [1]}}
    path.write_text(json.dumps(POOL | {"sources": [LIVER, apart], "mutually_exclusive": [["vessel", "liver"]]}))
    assert main(["pool", "check", str(path)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^tumour +10 +9 +0\.48 +Dataset003_Liver 5, Dataset008_Vessel 5$", said, re.M)
    assert "liver + tumour: 10" in said
    assert "conflicts:\n" in said and "vessel and liver are exclusive but share the label 1" in said
    path.write_text(json.dumps(POOL | {"sources": [LIVER]}))
    assert main(["pool", "check", str(path)]) == 0
    assert "no conflicts" in capsys.readouterr().out
    assert not list(raw.glob("Dataset*_Mix"))  # nothing is built


def test_a_labelled_pool_as_a_source_of_images(raw):
    """Its label maps are no masks of the body."""
    labelled = build(raw, LIVER)
    path = raw.parent / "IMAGES.json"
    path.write_text(json.dumps({"sources": [{"dataset": labelled.folder.name, "modality": "CT"}]}))
    images, _ = build_pool(path, 52, "Images")
    files = content(images)["dataset"]
    assert all(row["label"] == f"labelsTr/{case}.nii.gz" for case, row in files.items())
    assert content(images)["labels"] == {"background": 0, "foreground": 1}


@pytest.mark.slow
def test_processes_give_the_same(raw):
    alone = tree(build(raw, LIVER, VESSEL).folder)
    path = raw.parent / "POOL.json"
    dataset, _ = build_pool(path, 51, "Mix", processes=2)
    assert {n: c for n, (c, _) in tree(dataset.folder / "labelsTr").items()} == {
        n.removeprefix("labelsTr/"): c for n, (c, _) in alone.items() if n.startswith("labelsTr/")
    }
