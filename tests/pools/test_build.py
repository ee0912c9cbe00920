"""`pool build`: what POOL.json says, and the data set that comes of it."""

import json

import pytest
import SimpleITK as sitk
from support.image_files import body_image, cine, tree, write
from support.raw_datasets import cut

from nnunet_xlstm.datasets.case_index import read_pool_cases
from nnunet_xlstm.datasets.sampling import FramePartner
from nnunet_xlstm.datasets.unlabelled import make_unlabelled
from nnunet_xlstm.errors import UserError
from nnunet_xlstm.pools.build import build_pool


def raw_dataset(folder, cases, channels=("MR",), ending=".nii.gz"):
    """A labelled data set in nnU-Net's layout."""
    for i, case in enumerate(cases):
        for c in range(len(channels)):
            write(folder / "imagesTr" / f"{case}_{c:04d}{ending}", body_image(10 * i + c))
        write(folder / "labelsTr" / f"{case}{ending}", (body_image() > 45).astype("uint8") * 3)
    facts = {"channel_names": dict(enumerate(channels)), "labels": {"background": 0, "a": 1, "b": 2, "c": 3}}
    (folder / "dataset.json").write_text(json.dumps(facts | {"numTraining": len(cases), "file_ending": ending}))


@pytest.fixture
def sources(tmp_path, nnunet_folders):
    raw = nnunet_folders / "raw"
    acdc = [f"patient{i:03d}_{phase}" for i in range(1, 7) for phase in ("ED", "ES")]
    raw_dataset(raw / "Dataset027_ACDC", acdc)
    (raw / "Dataset027_ACDC" / "test_subjects.json").write_text(
        json.dumps({"test_subjects": ["patient002"], "test_cases": ["patient002_ED", "patient002_ES"]})
    )
    raw_dataset(raw / "Dataset112_CT", ["p1", "patient002"], ("CT",), ".mha")
    raw_dataset(raw / "Dataset131_MS", ["m1", "m2"], ("FLAIR", "T1"))
    return tmp_path


ACDC = {"dataset": "Dataset027_ACDC", "modality": "MR", "subjects": {"pattern": r"^(patient\d+)"}}
CT = {"dataset": "Dataset112_CT", "modality": "CT"}
MS = {"dataset": "Dataset131_MS", "modality": "MR"}


def build(folder, *rows, number=50, **more):
    (folder / "POOL.json").write_text(json.dumps({"name": "Mix", "sources": list(rows)} | more))
    return build_pool(folder / "POOL.json", number)


def content(dataset, name="dataset.json"):
    return json.loads((dataset.folder / name).read_text())


def cases_of(dataset):
    return read_pool_cases(dataset.folder / "pool_cases.json").cases


def test_ct_and_mr_by_reference(sources):
    dataset, summary = build(sources, ACDC | {"exclude": "test_subjects.json"}, CT, MS)
    found, rows = content(dataset), cases_of(dataset)
    assert dataset.folder.name == "Dataset050_Mix" and found["channel_names"] == {"0": "image"}  # z-score
    assert found["numTraining"] == summary.cases == 10 + 2 + 4
    assert summary.sources == {"Dataset027_ACDC": (5, 10), "Dataset112_CT": (2, 2), "Dataset131_MS": (2, 4)}
    assert not any("patient002" in case for case in rows if "ACDC" in case)
    images = found["dataset"]["Dataset131_MS_m1_T1"]["images"]
    assert images == [str(dataset.folder.parent / "Dataset131_MS" / "imagesTr" / "m1_0001.nii.gz")]
    assert {rows[f"Dataset131_MS_m1_{c}"].subject for c in ("T1", "FLAIR")} == {"Dataset131_MS/m1"}
    assert {row.modality for row in rows.values()} == {"CT", "MR"} and not (dataset.folder / "imagesTr").exists()
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset.folder / found["dataset"]["Dataset112_CT_p1"]["label"])))
    assert set(label.ravel()) <= {0, 1}  # the body, not the data set's own label 3
    for fold in content(dataset, "splits_final.json"):
        assert not {rows[c].subject for c in fold["train"]} & {rows[c].subject for c in fold["val"]}


def test_ct_alone_takes_ct_normalisation(sources):
    dataset, _ = build(sources, CT)
    assert content(dataset)["channel_names"] == {"0": "CT"}
    dataset, _ = build(sources, CT | {"channels": {"a": 0, "b": 0}}, channels=["a", "b"], number=51)
    assert content(dataset)["channel_names"] == {"0": "CT", "1": "CT"}


def test_channels_are_mapped_by_index_or_name(sources):
    two = {"channels": {"one": "T1", "two": 0}}
    dataset, _ = build(sources, MS | two, channels=["one", "two"])
    found = content(dataset)
    names = [path.rpartition("/")[2] for path in found["dataset"]["Dataset131_MS_m1"]["images"]]
    assert names == ["m1_0001.nii.gz", "m1_0000.nii.gz"] and found["channel_names"] == {"0": "one", "1": "two"}
    dataset, _ = build(sources, MS | {"channels": {"image": "T1"}}, number=51)
    assert list(content(dataset)["dataset"]) == ["Dataset131_MS_m1", "Dataset131_MS_m2"]


def test_what_the_file_no_longer_names_goes(sources):
    dataset, _ = build(sources, ACDC, CT)
    before = tree(dataset.folder)
    assert build(sources, ACDC, CT)[1].new == 0 and tree(dataset.folder) == before
    dataset, summary = build(sources, ACDC | {"exclude": ["patient001"]}, CT)
    assert summary.cases == 12 and summary.new == 0 and summary.changed
    labels = {path.name for path in (dataset.folder / "labelsTr").iterdir()}
    assert len(labels) == 12 and not any("patient001" in name for name in labels)
    assert not any("patient001" in text for text in map(str, content(dataset, "splits_final.json")))
    kept = {name: data for name, data in before.items() if name.removeprefix("labelsTr/") in labels}
    assert {name: data for name, data in tree(dataset.folder).items() if name in kept} == kept
    dataset, summary = build(sources, ACDC, CT, MS)
    assert summary.new == 2 + 4


def test_own_data_sets_and_folders_join(sources, nnunet_folders):
    write(sources / "cine" / "pig.nii.gz", cine(3), isVector=False)
    own, _ = make_unlabelled([sources / "cine"], "MR", 60, "Pig")
    write(sources / "folder" / "s1" / "a.nii.gz")
    write(sources / "folder" / "s1" / "b.nii.gz", cine(2, seed=7), isVector=False)
    write(sources / "folder" / "bad.nii.gz", body_image() * 0)
    folder = {"dataset": "folder", "modality": "PET", "name": "mine", "subjects": {"pattern": "^([^/]+)"}}
    dataset, _ = build(sources, {"dataset": "Dataset060_Pig", "modality": "MR"}, folder)
    rows, found = cases_of(dataset), content(dataset)["dataset"]
    pig = "Dataset060_Pig_pig_t01"
    assert found[pig]["label"] == str(own.folder / "labelsTr" / "pig_t01.nii.gz")  # the mask serves again
    assert found[pig]["images"] == [str(own.folder / "imagesTr" / "pig_t01_0000.nii.gz")]
    assert (rows[pig].frame, rows[pig].frames, rows[pig].subject) == (1, 3, "Dataset060_Pig/pig")
    assert rows[pig].images == (str(sources / "cine" / "pig.nii.gz"),)
    assert FramePartner(read_pool_cases(dataset.folder / "pool_cases.json").cases, list(rows))(pig) != pig
    assert {c: r.subject for c, r in rows.items() if "mine" in c} == dict.fromkeys(
        ("mine_s1_a", "mine_s1_b_t00", "mine_s1_b_t01"), "mine/s1"
    )
    assert "bad.nii.gz,constant" in (dataset.folder / "excluded.csv").read_text()


def test_a_mask_of_ours_serves_again_only_where_it_is_whole(sources, nnunet_folders):
    for name in ("a", "b", "c"):
        write(sources / "in" / f"{name}.nii.gz")
    own, _ = make_unlabelled([sources / "in"], "MR", 60, "Own")
    cut(own.folder / "labelsTr" / "a.nii.gz")
    cut(sources / "in" / "b.nii.gz")
    dataset, _ = build(sources, {"dataset": "Dataset060_Own", "modality": "MR"})
    labels = {case: row["label"] for case, row in content(dataset)["dataset"].items()}
    assert labels == {
        "Dataset060_Own_a": "labelsTr/Dataset060_Own_a.nii.gz",
        "Dataset060_Own_c": str(own.folder / "labelsTr" / "c.nii.gz"),
    }
    assert "in/b.nii.gz,is damaged or cut off" in (dataset.folder / "excluded.csv").read_text()


def test_people_of_one_cohort(sources, caplog):
    acdc = ACDC | {"exclude": "test_subjects.json"}
    dataset, _ = build(sources, acdc, CT)
    assert "Dataset112_CT_patient002" in cases_of(dataset)  # same name, other person, but it is said
    assert "source Dataset112_CT has subjects of the names patient002, which are excluded" in caplog.text
    caplog.clear()
    dataset, _ = build(sources, acdc | {"cohort": "X"}, CT | {"cohort": "X"})
    rows = cases_of(dataset)
    assert "Dataset112_CT_patient002" not in rows and rows["Dataset112_CT_p1"].subject == "X/p1" and not caplog.text


def test_two_parts_of_one_data_set_share_its_people(sources):
    parts = [MS | {"name": c, "channels": {"image": c}} for c in ("T1", "FLAIR")]
    rows = cases_of(build(sources, *parts)[0])
    assert rows["T1_m1"].subject == rows["FLAIR_m1"].subject and rows["T1_m1"].source == "T1"


def test_include_and_subjects_by_file(sources, nnunet_folders):
    table = {f"patient{i:03d}_{p}": f"s{i}" for i in range(1, 7) for p in ("ED", "ES")}
    (sources / "who.json").write_text(json.dumps(table))
    (sources / "more.json").write_text('["s2"]')
    row = {
        "dataset": "Dataset027_ACDC",
        "modality": "MR",
        "subjects": {"file": "who.json"},
        "include": ["s1", "s2", "s3"],
    }
    rows = cases_of(build(sources, row | {"exclude": ["s3", "more.json"]})[0])
    assert {r.subject for r in rows.values()} == {"Dataset027_ACDC/s1"} and len(rows) == 2


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        ([ACDC | {"modalty": "MR"}], {}, r'sources\[0\]: key "modalty" is unknown .did you mean modality'),
        ([ACDC], {"colour": 1}, 'key "colour" is unknown'),
        (
            [ACDC | {"subjects": {"regex": "x"}}],
            {},
            'subjects: key "regex" is unknown; use pattern, file',
        ),
        ([ACDC | {"dataset": "Dataset999_Gone"}], {}, "there is no Dataset999_Gone, neither in .* nor in"),
        ([{"modality": "MR"}], {}, 'key "dataset" is missing; give text, such as "Dataset003_Liver"'),
        ([ACDC | {"modality": "US"}], {}, r'sources\[0\].modality is "US"; give one of CT, MR, PET'),
        ([], {}, r"sources is \[\]; give a list of at least 1"),
        ([ACDC, ACDC], {}, "give every source a name of its own"),
        ([ACDC, ACDC | {"name": "again"}], {}, "is in the sources Dataset027_ACDC and again; keep one"),
        ([ACDC], {"sampling": "best"}, "give one of sqrt, modality, uniform"),
        ([ACDC], {"name": "a b"}, "letters, digits"),
        ([MS], {"channels": ["a", "b"]}, "the pool has 2 channels; give channels"),
        ([MS | {"channels": {"image": 2}}], {}, "there is no channel 2; it has"),
        ([MS | {"channels": {"image": "T2"}}], {}, "there is no channel 'T2'"),
        ([MS | {"channels": {"img": 0}}], {}, "give one for every channel of the pool"),
        ([MS | {"channels": {"CT": 0}}], {"channels": ["CT"]}, "nnU-Net takes this name as a normalisation"),
        ([ACDC | {"exclude": ["patient2"]}], {}, "none of the excluded subjects .patient2"),
        ([ACDC | {"subjects": None, "exclude": "test_subjects.json"}], {}, "its subjects are called patient001_ED"),
        ([ACDC | {"include": ["patient9"]}], {}, "included subject patient9 is not in it"),
        ([ACDC | {"exclude": "nowhere.json"}], {}, "there is no nowhere.json"),
        ([ACDC | {"exclude": "dataset.json"}], {}, "test_subjects is null; give a list"),
        ([ACDC | {"include": ["patient002"], "exclude": ["patient002"]}], {}, "no image is left"),
        ([ACDC | {"subjects": {"pattern": "("}}], {}, "not a regular expression"),
        ([ACDC | {"subjects": {"pattern": "sub"}}], {}, "finds no subject in 'patient001_ED'"),
        ([ACDC | {"subjects": {"pattern": "a", "file": "b"}}], {}, 'give {"pattern": REGEX} or'),
    ],
)
def test_wrong_files(sources, rows, more, words):
    with pytest.raises(ValueError, match=words):
        build(sources, *rows, **more)
    assert not (sources / "nnunet" / "raw" / "Dataset050_Mix").exists()


def test_a_list_of_subjects_that_names_itself(sources):
    (sources / "a.json").write_text('["patient001", "b.json"]')
    (sources / "b.json").write_text('["a.json"]')
    with pytest.raises(ValueError, match="a.json names itself; give the subjects there"):
        build(sources, ACDC | {"exclude": "a.json"})


def test_not_json_and_not_there(sources):
    (sources / "POOL.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        build_pool(sources / "POOL.json", 50)
    with pytest.raises(UserError):
        build_pool(sources / "GONE.json", 50)


def test_a_pool_is_not_its_own_source(sources):
    build(sources, CT)
    with pytest.raises(ValueError, match="is the pool itself"):
        build(sources, CT, {"dataset": "Dataset050_Mix", "modality": "CT"})
    with pytest.raises(ValueError, match="`nnunet_xlstm unlabelled` did not make"):
        make_unlabelled([sources / "nnunet" / "raw" / "Dataset112_CT"], "CT", 50)
