import copy
import dataclasses
import importlib.util
import json
import random
import re
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from nnunet_xlstm.catalogue import entries as c
from nnunet_xlstm.catalogue import schema as f
from nnunet_xlstm.catalogue.layout import compile_pattern
from nnunet_xlstm.catalogue.page import page
from nnunet_xlstm.phantoms.dataset import dataset_facts

ROOT = Path(__file__).parents[2]
# Targets of TSFM's ten sets, from the table of its reproduction: set -> cases, target -> native ids.
LOBES = [f"lung_{lobe}" for lobe in ("upper_lobe_left", "lower_lobe_left", "upper_lobe_right", "middle_lobe_right")]
LOBES += ["lung_lower_lobe_right"]
TUMOR_TARGETS = (
    """liver liver_tumor hepatic_vessel lung_tumor pancreas pancreas_tumor colon_tumor breast_tumor kidney
kidney_tumor kidney_cyst spleen kidney_right kidney_left gallbladder esophagus stomach aorta inferior_vena_cava
portal_and_splenic_vein adrenal_right adrenal_left duodenum bladder prostate_uterus""".split()
    + LOBES
)
ORGANS = "spleen kidney_right kidney_left gallbladder esophagus liver stomach aorta inferior_vena_cava".split()
PART1 = "spleen kidney_right kidney_left gallbladder liver stomach aorta inferior_vena_cava".split()
ADRENALS = ["adrenal_right", "adrenal_left"]


def numbered(*targets):
    return {target: [i] for i, target in enumerate(targets, start=1)} | {"kidney": [2, 3]}


TUMOR_SOURCES = {
    "MSD03_Liver": (131, {"liver": [1, 2], "liver_tumor": [2]}),
    "MSD06_Lung": (64, {"lung_tumor": [1]}),
    "MSD07_Pancreas": (281, {"pancreas": [1, 2], "pancreas_tumor": [2]}),
    "MSD08_HepaticVessel": (303, {"hepatic_vessel": [1], "liver_tumor": [2]}),
    "MSD10_Colon": (126, {"colon_tumor": [1]}),
    "TSFM_Breast": (100, {"breast_tumor": [1]}),
    "KiTS21": (300, {"kidney": [1, 2, 3], "kidney_tumor": [2], "kidney_cyst": [3]}),
    "AMOS22": (240, numbered(*ORGANS, "pancreas", *ADRENALS, "duodenum", "bladder", "prostate_uterus")),
    "BTCV": (30, numbered(*ORGANS, "portal_and_splenic_vein", "pancreas", *ADRENALS)),
    "TotalSegmentator_v1": (1204, numbered(*PART1, "portal_and_splenic_vein", "pancreas", *ADRENALS, *LOBES)),
}
WHOLE_HEART = {"left_ventricle", "right_ventricle", "left_atrium", "right_atrium", "myocardium"}
VENTRICLES = {"left_ventricle", "myocardium", "right_ventricle"}
CARDIAC_SOURCES = {
    **dict.fromkeys(
        ["MMWHS_CT", "MMWHS_MR", "WHSpp_CT", "WHSpp_MR"], WHOLE_HEART | {"ascending_aorta", "pulmonary_trunk"}
    ),
    "HVSMR2": WHOLE_HEART - {"myocardium"} | {"superior_vena_cava", "inferior_vena_cava", "aorta", "pulmonary_artery"},
    **dict.fromkeys(["ACDC", "MnMs", "MnMs2", "MSCMRSeg"], VENTRICLES),
    "EMIDEC": {"left_ventricle", "myocardium", "scar", "no_reflow"},
    "MyoPS2020": VENTRICLES | {"scar", "edema"},
    "MSD02_Heart": {"left_atrium"},
    "TotalSegmentator_v1": WHOLE_HEART | {"aorta", "pulmonary_artery"},
    **dict.fromkeys(["ImageCAS", "ASOCA"], {"coronary_artery"}),
    "ImageTBAD": {"aorta", "false_lumen", "false_lumen_thrombus"},
    "AVT": {"aorta"},
}


def content(name):
    return json.loads((resources.files("nnunet_xlstm.dataset_json") / f"{name}.json").read_text(encoding="utf-8"))


# Shipped files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", c.shipped())
def test_every_shipped_data_set_is_sound(name):
    entry = c.load_dataset(name)
    assert entry.name == name and bool(entry.targets) == bool(entry.labels) == (not entry.no_masks)
    native = set(entry.labels.values())
    assert all(set(ids) <= native for ids in entry.targets.values())
    assert {target for group in (*entry.mutually_exclusive, *entry.hierarchy) for target in group} <= set(entry.targets)


@pytest.mark.parametrize("name", c.shipped_pools())
def test_every_shipped_pool_is_sound(name):
    pool = c.load_pool(name)
    targets = {target.name for target in pool.targets}
    assert {target for group in (*pool.mutually_exclusive, *pool.hierarchy) for target in group} <= targets
    for source in pool.sources:
        assert set(source.targets) <= targets
        for group in pool.mutually_exclusive:  # what cannot overlap does not in any source
            ids = [number for target in group for number in source.targets.get(target, ())]
            assert len(set(ids)) == len(ids), (source.dataset.name, group)
        for target in pool.targets:  # a source can hold what it labels
            if target.name in source.targets:
                assert set(target.modality) & source.dataset.modalities, (source.dataset.name, target)
                assert set(target.region) & set(source.dataset.field_of_view), (source.dataset.name, target)


def test_the_sets_that_were_asked_for_are_there():
    wanted = {*TUMOR_SOURCES, *CARDIAC_SOURCES, "ISLES22", "ISLES24", "ATLAS2", "AIMS_TBI", "BraTS2020", "KiTS19"}
    wanted |= {"AbdomenCT1K", "MSD04_Hippocampus", "TotalSegmentator_v2", "TotalSegmentator_MR", "HeartPhantom"}
    # of the 3D-Heart_Seg and 3D-SegSync papers; CardioScans could not be identified
    wanted |= {"NLST", "CMRxMotion", "RVSC", "LVQuan18", "LVQuan19", "Sunnybrook", "CMRxRecon2023", "CMRxRecon2024"}
    wanted |= {"DSB2015", "MYOSAIQ", "MyoPSpp", "LVSC", "CAD", "UKBB", "ISLES15", "ISLES16", "ISLES18", "ATLAS1"}
    assert wanted <= set(c.shipped())
    assert set(c.shipped_pools()) == {"pool_brain", "pool_cardiac", "pool_tumor"}


def test_pool_tumor_is_the_papers():
    pool = c.load_pool("pool_tumor")
    assert [target.name for target in pool.targets] == TUMOR_TARGETS and len(TUMOR_TARGETS) == 30
    assert {s.dataset.name: (s.cases, s.targets) for s in pool.sources} == TUMOR_SOURCES
    cases = [s.cases for s in pool.sources]
    assert sum(cases) == 2779
    share = [n**0.5 / sum(m**0.5 for m in cases) for n in cases]  # of the order above
    expected = [0.077, 0.054, 0.113, 0.118, 0.076, 0.068, 0.117, 0.105, 0.037, 0.235]
    assert share == pytest.approx(expected, abs=6e-4)


def test_pool_cardiac_has_the_valid_targets_of_each_set():
    pool = c.load_pool("pool_cardiac")
    assert len(pool.targets) == 17
    assert {s.dataset.name: set(s.targets) for s in pool.sources} == CARDIAC_SOURCES
    native = {s.dataset.name: s.targets for s in pool.sources}
    assert native["EMIDEC"]["myocardium"] == [2, 3, 4] and native["ImageTBAD"]["aorta"] == [1, 2, 3]
    assert sorted(native["MyoPS2020"]["myocardium"]) == [200, 1220, 2221]
    assert native["ACDC"] == {"right_ventricle": [1], "myocardium": [2], "left_ventricle": [3]}
    assert native["MnMs"] == {"left_ventricle": [1], "myocardium": [2], "right_ventricle": [3]}


def test_versions_of_totalsegmentator_differ():
    one, two = c.load_dataset("TotalSegmentator_v1"), c.load_dataset("TotalSegmentator_v2")
    assert (one.version, two.version, len(one.labels), len(two.labels)) == ("1", "2", 104, 117)
    assert one.labels["pancreas"] == 10 and two.labels["lung_upper_lobe_left"] == 10


@pytest.mark.parametrize("name", c.shipped())
def test_nnunet_has_the_converter(name):
    converter = c.load_dataset(name).nnunet_converter
    if converter and converter.startswith("nnUNetv2_"):
        assert entry_points(group="console_scripts", name=converter)
    elif converter:
        assert importlib.util.find_spec(f"nnunetv2.dataset_conversion.{converter}")


def test_published_sets_are_counted_apart_from_those_made_here():
    entries = [c.load_dataset(name) for name in c.shipped()]
    made = {entry.name for entry in entries if entry.access == "local"}
    assert made == {"HeartPhantom", *(name for name in c.shipped() if name.startswith("Dataset"))}
    assert {entry.name for entry in entries if not entry.url} <= {"HeartPhantom", "TSFM_Breast"}
    assert {kind for kind in c.ACCESS_PHRASES if kind} == {*f.ACCESS} - {"local"}
    three = [dataclasses.replace(entries[0], access=access) for access in ("public", "public", None, "local")]
    assert c.count_sets(three) == (
        "3 published data sets (2 without an account, 1 of unknown access) and 1 made from them or by this project"
    )


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", "docs/how-to/public-data.md", "docs/reference/dataset-json.md"]
)
def test_documents_count_what_is_there(page):
    made = sum(c.load_dataset(name).access == "local" for name in c.shipped())
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    counts = re.findall(r"(\d+) published data sets(?: \([^)]*\))? and (\d+) made", text)
    assert counts and set(counts) == {(str(len(c.shipped()) - made), str(made))}


def test_facts_that_were_wrong():
    entry = {name: c.load_dataset(name) for name in c.shipped()}
    assert entry["TotalSegmentator_v1"].url.endswith("zenodo.6802614")  # 6802613 leads to the newest version
    assert entry["TotalSegmentator_v2"].url.endswith("zenodo.10047292")
    assert (entry["MSD06_Lung"].cases["test"], entry["MSD10_Colon"].cases["test"]) == (32, 64)
    tbi = entry["AIMS_TBI"]  # all of 2024
    assert (
        tbi.version == "2024" and "25" not in tbi.url and tbi.cases == {"train": 388, "test": 275, "test_labels": False}
    )
    assert entry["KiTS21"].licence == "CC BY-NC-SA 4.0"


@pytest.mark.parametrize(
    "name, channel, paths",
    [
        # the archive of the challenge and the one at Zenodo
        ("ISLES22", "DWI", ["dataset/rawdata/{c}/ses-0001/{c}_ses-0001_dwi.nii.gz"]),
        ("ISLES22", "DWI", ["ISLES-2022/{c}/ses-0001/dwi/{c}_ses-0001_dwi.nii.gz"]),
        ("ISLES15", "FLAIR", ["SISS2015_Training/{c}/VSD.Brain.XX.O.MR_Flair.7/VSD.Brain.XX.O.MR_Flair.7.nii"]),
        ("ISLES15", None, ["SISS2015_Training/{c}/VSD.Brain_3more.XX.XX.OT.7/VSD.Brain_3more.XX.XX.OT.7.nii"]),
        ("ISLES18", "CT", ["TRAINING/{c}/SMIR.Brain.XX.O.CT.9/SMIR.Brain.XX.O.CT.9.nii"]),
        ("ISLES18", "CBF", ["TRAINING/{c}/SMIR.Brain.XX.O.CT_CBF.9/SMIR.Brain.XX.O.CT_CBF.9.nii"]),
        ("CMRxMotion", "cineMRI", ["data/{c}/{c}-ED.nii.gz", "data/{c}/{c}-ES.nii.gz"]),
        ("CMRxMotion", None, ["data/{c}/{c}-ED-label.nii.gz"]),
        ("MYOSAIQ", "LGE", ["training/M12_postMI/images/{c}.nii.gz"]),
        ("MyoPSpp", "LGE", ["train/Center B/{c}/{c}_LGE.nii.gz"]),
    ],
)
def test_layouts_fit_the_files_that_readers_open(name, channel, paths):
    layout = c.load_dataset(name).layout
    all_patterns = {None: layout["label"], **layout["image"]}
    for path in paths:
        path = path.format(c="P001-1")
        fitting = [key for key, pattern in all_patterns.items() if compile_pattern(pattern).fullmatch(path)]
        assert fitting == [channel], (path, fitting)
        assert compile_pattern(all_patterns[channel]).fullmatch(path)["case"] == "P001-1"


def test_phantom_facts_are_nnunets():
    facts = dataset_facts()
    assert list(facts["labels"].items())[0] == ("background", 0) and sorted(facts["labels"].values()) == list(range(8))
    assert facts["channel_names"] == {"0": "MR"} and facts["file_ending"] == ".nii.gz"


def test_page_is_up_to_date():
    run = "from nnunet_xlstm.catalogue.page import page; print(page(), end='')"
    text = (ROOT / "docs" / "reference" / "dataset-json.md").read_text(encoding="utf-8")
    assert text == page(), f'run: python -c "{run}" > docs/reference/dataset-json.md'


def test_tables_are_the_classes():
    assert {field.name for field in dataclasses.fields(c.DataSet)} == set(f.DATASET)
    assert {field.name for field in dataclasses.fields(c.PoolPlan)} == set(f.POOL)
    assert {field.name for field in dataclasses.fields(c.PoolTarget)} == set(f.TARGET) - {"id"}


@pytest.mark.parametrize("table", [f.DATASET, f.POOL, f.CHANNEL, f.CASES, f.LAYOUT, f.TARGET, f.SOURCE])
def test_examples_are_sound(table):
    whole = {"layout", "verified", "targets", "sources"}  # their examples show a part
    for key, row in table.items():
        assert key in whole or not list(row.constraint.faults(row.example)), key


# Faults -------------------------------------------------------------------------------------------------------------


def put(*path_and_value):
    *path, last, value = path_and_value

    def edit(entry):
        for key in path:
            entry = entry[key]
        entry[last] = value

    return edit


def drop(key):
    return lambda entry: entry.pop(key)


DATASET_FAULTS = [
    (drop("licence"), 'key "licence" is missing; give null, or text, such as "CC BY-SA 4.0"'),
    (put("license", "CC0"), 'key "license" is unknown (did you mean licence?)'),
    (put("name", "two words"), 'name is "two words"; give a name of letters'),
    (put("name", "Other"), 'name is "Other"; give "KiTS21", as the file is called'),
    (put("channels", []), "channels is []; give a list of at least 1 entries"),
    (put("channels", 0, "modality", "US"), 'channels[0].modality is "US"; give one of CT, MR, PET'),
    (put("access", "open"), 'access is "open"; give null, or one of public, registration, application, private, local'),
    (put("access", ["public"]), 'access is ["public"]; give'),
    (drop("access"), 'key "access" is missing; give null, or one of public'),
    (put("annotation", "masks?"), 'annotation is "masks?"; give one of masks, contours, values, none'),
    (put("annotation", "none"), 'labels: given, but annotation is "none", which has no ids; write {}'),
    (put("annotation", "values"), 'annotation: "values", but layout or nnunet_converter is given; write null'),
    (
        lambda entry: entry.update(labels={}, targets={}, hierarchy=[], mutually_exclusive=[]),
        "labels: empty; list them, or say under",
    ),
    (put("labels", "cyst", 2), 'labels: "tumor" and "cyst" are both 2; give each its own'),
    (put("labels", "cyst", 0), "labels.cyst is 0; give a whole number from 1 to 2147483647"),
    (put("labels", "cyst", True), "labels.cyst is true; give a whole number"),
    (put("targets", "kidney", [1, 7]), 'targets: "kidney" names the ids [7], which no label has'),
    (put("targets", "kidney", []), "targets.kidney is []; give a list of at least 1 different entries"),
    (
        put("targets", "kidney", [1]),
        'hierarchy: "kidney" lacks [3] of "kidney_cyst", which it includes; add them',
    ),
    (put("mutually_exclusive", [["kidney", "spleen"]]), 'mutually_exclusive: there is no target "spleen"'),
    (
        put("mutually_exclusive", [["kidney", "kidney_cyst"]]),
        'mutually_exclusive: ["kidney", "kidney_cyst"] share a native id',
    ),
    (put("hierarchy", [["kidney"]]), 'hierarchy[0] is ["kidney"]; give a list of at least 2 different entries'),
    (put("optional_labels", ["larynx"]), 'there is no label "larynx"'),
    (put("label_aliases", {"2": "cyst"}), "label_aliases: 2 is the id of a label"),
    (put("label_aliases", {"x": "cyst"}), 'label_aliases has the key "x"; give an id in quotation marks'),
    (put("cases", "train", -1), "cases.train is -1; give null, or a whole number from 0 on"),
    (put("cases", "test_labels", "no"), 'cases.test_labels is "no"; give null, or true or false'),
    (
        put("layout", "label", "labels.nii.gz"),
        'layout.label is "labels.nii.gz"; give a path below the root',
    ),
    (put("layout", "label", "../{case}.nii.gz"), 'layout.label is "../{case}.nii.gz"; give a path below the root'),
    (put("layout", "label", "{case}_{time}.nii.gz"), 'layout.label is "{case}_{time}.nii.gz"; give a path'),
    (put("layout", "image", {"MR": "{case}.nii.gz"}), 'image has patterns for ["MR"]; the channels are ["CT"]'),
    (put("layout", None), "layout: null without nnunet_converter"),
    (put("nnunet_converter", "Dataset220_KiTS2023"), "both are given; keep one"),
    (put("field_of_view", ["belly"]), 'field_of_view[0] is "belly"; give one of head, neck'),
    (put("verified", "labels", "yes"), 'verified.labels is "yes"; give one of file, paper, no'),
    (put("verified", {"labels": "file"}), 'verified: key "cases" is missing; give one of file, paper, no'),
    (put("sources", []), "sources: empty, but facts are marked as verified"),
    (put("sources", "a book"), 'sources is "a book"; give a list of different entries, each entry text'),
]
POOL_FAULTS = [
    (put("targets", 0, "id", 5), "targets: the ids are not 1 to 6 in the order of the list"),
    (put("targets", 0, "name", "tumor_core"), 'targets: "tumor_core" is listed twice'),
    (put("targets", 0, "group", "bone"), 'targets[0].group is "bone"; give one of organ, vessel, lesion'),
    (put("sources", 0, "catalogue", "ISLES21"), 'sources, ISLES21: The catalogue has no data set "ISLES21"'),
    (put("sources", 0, "catalogue", "ATLAS2"), 'sources: "ATLAS2" is listed twice'),
    (put("sources", 0, "targets", {"stroke_lesion": [4]}), 'sources, ISLES22: "stroke_lesion" names the ids [4]'),
    (put("sources", 0, "targets", {"infarct": [1]}), 'sources, ISLES22: "infarct" is no target of the pool'),
    (put("sources", 0, "catalogue", "ACDC"), "sources, ACDC: labels none of the targets"),
    (put("modality", ["MR"]), "sources, ISLES24: has CT images; add that to modality"),
    (lambda pool: pool["sources"].pop(2), 'targets: no source labels "final_infarct"'),
    (put("merge", "all"), 'merge is "all"; give one of unified, none'),
    (put("sampling", "equal"), 'sampling is "equal"; give one of sqrt'),
    (put("hierarchy", [["brain_tumor", "edema"]]), 'hierarchy: there is no target "edema"'),
]


def write(folder, name, entry):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(entry), encoding="utf-8")
    return path


@pytest.mark.parametrize("edit, message", DATASET_FAULTS)
def test_faults_of_a_data_set_are_named(edit, message, tmp_path):
    entry = content("KiTS21")
    edit(entry)
    path = write(tmp_path, "KiTS21", entry)
    with pytest.raises(ValueError) as error:
        c.read_dataset(path)
    assert message in str(error.value) and str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("edit, message", POOL_FAULTS)
def test_faults_of_a_pool_are_named(edit, message, tmp_path):
    pool = content("pool_brain")
    edit(pool)
    with pytest.raises(ValueError) as error:
        c.read_pool_plan(write(tmp_path, "pool_brain", pool))
    assert message in str(error.value)


def test_all_faults_are_told_at_once(tmp_path):
    entry = content("KiTS21")
    for edit, _ in DATASET_FAULTS[:2] + DATASET_FAULTS[4:7:2]:
        edit(entry)
    with pytest.raises(ValueError, match="4 faults") as error:
        c.read_dataset(write(tmp_path, "KiTS21", entry))
    assert str(error.value).count("\n- ") == 4


@pytest.mark.parametrize("load, name", [(c.load_dataset, "MSD03"), (c.load_pool, "MSD03_Liver")])
def test_unknown_names(load, name):
    with pytest.raises(ValueError, match=f'The catalogue has no (data set|pool) "{name}"; it has '):
        load(name)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"a"', "[" * 100_000, '{"name": NaN}'])
def test_no_json_object(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    for read in (c.read_dataset, c.read_pool_plan):
        with pytest.raises(ValueError, match="a.json: "):
            read(path)


# Anything else ends in a clear error --------------------------------------------------------------------------------

JUNK = [None, True, -1, 0, 2.5, float("inf"), "", "x", "{case}", [], [[]], [None], {}, {"": {}}, [{"a": [1]}], 10**30]


def spots(value, path=()):
    """The paths of all values below this one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from spots(item, (*path, key))


@pytest.mark.parametrize(
    "name, read", [("AMOS22", c.read_dataset), ("MMWHS_MR", c.read_dataset), ("pool_cardiac", None)]
)
def test_fuzzed_files_end_in_a_clear_error(name, read, tmp_path):
    read = read or c.read_pool_plan
    draw = random.Random(0)
    original = content(name)
    paths = list(spots(original))
    refused = 0
    for _ in range(150):
        entry = copy.deepcopy(original)
        for *path, last in draw.sample(paths, draw.choice([1, 1, 3])):
            target = entry
            try:
                for key in path:
                    target = target[key]
                target[last] = draw.choice(JUNK)
            except (KeyError, IndexError, TypeError):  # an earlier draw took it away
                continue
        try:
            read(write(tmp_path, name, entry))
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{tmp_path / name}.json: ")
    assert refused > 100


def test_fuzzed_bytes_end_in_a_clear_error(tmp_path):
    draw = random.Random(0)
    original = (resources.files("nnunet_xlstm.dataset_json") / "KiTS21.json").read_bytes()
    path = tmp_path / "KiTS21.json"
    for _ in range(150):
        data = bytearray(original)
        for _ in range(draw.choice([1, 5])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(bytes(data[: draw.choice([len(data), draw.randrange(len(data))])]))
        try:
            c.read_dataset(path)
        except ValueError as error:
            assert str(path) in str(error)
