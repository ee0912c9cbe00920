"""`cardiac`: hand-computed volumes, fractions and masses; names of labels; pairing; references; flags; errors."""

import csv
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.datasets.dataset_json import scored_labels
from nnunet_xlstm.evaluation.cardiac.folder import pairs_by_suffix, pairs_by_table, read_bsa
from nnunet_xlstm.evaluation.cardiac.measures import (
    find_structures,
    flags,
    measure,
    measure_phase,
    quantities,
)

LABELS = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
STRUCTURES = {"LV": (3,), "RV": (1,), "MYO": (2,)}
SPACING = (2.0, 2.0, 10.0)  # 0.04 mL a voxel


def heart(lv: int, rv: int, myo: int, shape=(5, 10, 20)) -> np.ndarray:
    """So many voxels of each, away from the first and the last slice."""
    inner = np.zeros((shape[0] - 2) * shape[1] * shape[2], np.uint8)
    inner[: lv + rv + myo] = np.repeat([3, 1, 2], (lv, rv, myo))
    return np.pad(inner.reshape(shape[0] - 2, *shape[1:]), ((1, 1), (0, 0), (0, 0)))


def write(path, array, spacing=SPACING):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[: image.GetDimension()])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def folder(tmp_path):
    """Two subjects with dataset.json above, as in a raw data set, and references of which one differs."""
    for part, shift in (("pred", 0), ("ref", 25)):
        write(tmp_path / part / "a_ED.nii.gz", heart(200, 150, 100))
        write(tmp_path / part / "a_ES.nii.gz", heart(100, 90, 110))
        write(tmp_path / part / "b_ED.nii.gz", heart(300 + shift, 100, 50))
        write(tmp_path / part / "b_ES.nii.gz", heart(150, 50, 60))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": LABELS}))
    return tmp_path


def cardiac(folder, *options) -> int:
    return main(["cardiac", "-i", str(folder / "pred"), "-o", str(folder / "out.json"), *map(str, options)])


def result(folder) -> tuple[dict, list[dict]]:
    with open(folder / "out.csv", encoding="utf-8") as file:
        return json.loads((folder / "out.json").read_text()), list(csv.DictReader(file))


def test_hand_computed(folder, capsys):
    """LV 200 and 100 voxels of 0.04 mL: 8 and 4 mL, EF 50 %; 100 voxels of myocardium: 4 mL x 1.05 g/mL."""
    assert cardiac(folder) == 0
    content, rows = result(folder)
    expected = {
        "LVEDV": 8, "LVESV": 4, "LVSV": 4, "LVEF": 50,
        "RVEDV": 6, "RVESV": 3.6, "RVSV": 2.4, "RVEF": 40, "LVM": 4.2,
    }  # fmt: skip
    assert content["subjects"][0]["measures"] == pytest.approx(expected)
    assert content["density_g_per_mL"] == 1.05 and content["labels"]["LV"] == [3]
    assert content["quantities"]["LVM"]["what"].endswith("times 1.05 g/mL")
    assert content["mean"]["LVEDV"] == pytest.approx(10) and content["sd"]["LVEDV"] == pytest.approx(math.sqrt(8))
    assert content["subjects"][0]["flags"] == [] and content["agreement"] == {}
    assert [row["subject"] for row in rows] == ["a", "b"]
    assert float(rows[0]["LVEF_percent"]) == pytest.approx(50) and float(rows[0]["LVM_g"]) == pytest.approx(4.2)
    assert rows[0]["density_g_per_mL"] == "1.05" and rows[0]["ed"] == "a_ED.nii.gz"
    assert "LVEF" in capsys.readouterr().out


def test_spacing_counts_and_each_phase_has_its_own(tmp_path):
    ed = measure_phase(write(tmp_path / "a.nrrd", heart(100, 0, 10), (1.0, 1.0, 2.0)), STRUCTURES, None)
    es = measure_phase(write(tmp_path / "b.nrrd", heart(100, 0, 10), (1.0, 1.0, 1.0)), STRUCTURES, None)
    assert ed.volumes["LV"] == pytest.approx(0.2) and es.volumes["LV"] == pytest.approx(0.1)
    values = measure(ed, es, density=2.0, bsa=2.0)
    assert values["LVEF"] == pytest.approx(50)
    assert values["LVM"] == pytest.approx(0.04) and values["LVMi"] == pytest.approx(0.02)
    assert math.isnan(values["RVEDV"]) and math.isnan(values["RVEF"])
    assert set(values) == set(quantities(STRUCTURES, 2.0, indexed=True))


def test_body_surface_area_and_density(folder):
    (folder / "bsa.csv").write_text("\ufeffBSA,Subject,note\n2.0, a ,x\n1.6,b,\n0.9,not in the folder,\n", "utf-8")
    assert cardiac(folder, "--bsa", folder / "bsa.csv", "--density", "1") == 0
    content, rows = result(folder)
    first = content["subjects"][0]["measures"]
    assert first["LVEDVi"] == pytest.approx(4) and first["LVMi"] == pytest.approx(2) and "LVEFi" not in first
    assert content["quantities"]["LVEDVi"]["unit"] == "mL/m2"
    assert float(rows[1]["LVEDVi_mL_per_m2"]) == pytest.approx(12 / 1.6) and rows[1]["bsa_m2"] == "1.6"


def test_references(folder, capsys):
    """Subject b has 25 voxels, 1 mL, less at ED than its reference: LVEDV -1, EF 50 against 53.846 %."""
    assert cardiac(folder, "-ref", folder / "ref") == 0
    content, rows = result(folder)
    assert content["subjects"][1]["difference"]["LVEDV"] == pytest.approx(-1)
    assert content["subjects"][1]["reference"]["LVEF"] == pytest.approx(100 * 7 / 13)
    row = content["agreement"]["LVEDV"]
    sd = math.sqrt(0.5)  # of the differences 0 and -1
    assert row["n"] == 2 and row["bias"] == pytest.approx(-0.5) and row["sd"] == pytest.approx(sd)
    assert row["loa_low"] == pytest.approx(-0.5 - 1.96 * sd) and row["loa_high"] == pytest.approx(-0.5 + 1.96 * sd)
    assert row["r"] is None  # two points always lie on a line
    assert float(rows[1]["LVEDV_mL_diff"]) == pytest.approx(-1) and float(rows[1]["LVEDV_mL_ref"]) == pytest.approx(13)
    assert "limits of agreement" in capsys.readouterr().out


def test_flags(tmp_path):
    ed, es = heart(50, 40, 0), heart(60, 0, 10)
    ed[0, 0, 0], es[-1, 0, 0] = 3, 3
    phases = [measure_phase(write(tmp_path / f"{i}.mha", a), STRUCTURES, None) for i, a in enumerate((ed, es))]
    assert flags(*phases) == [
        "MYO missing at ED",
        "RV missing at ES",
        "LV larger at ES than at ED",
        "LV on the first slice at ED: may be cut off",
        "LV on the last slice at ES: may be cut off",
    ]


def test_slices_are_along_the_largest_spacing(tmp_path):
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[:, 2, 0] = 3  # all along z, on the first plane of x
    ends = [
        measure_phase(write(tmp_path / f"{i}.mha", labels, spacing), STRUCTURES, None).ends["LV"]
        for i, spacing in enumerate([(8.0, 1.0, 1.0), (1.0, 8.0, 1.0), (1.0, 1.0, 8.0), (1.0, 1.0, 1.0)])
    ]
    assert ends == [("first",), (), ("first", "last"), ("first", "last")]


def test_missing_structure_is_null(folder, capsys):
    write(folder / "pred" / "c_ED.nii.gz", heart(100, 0, 0))
    write(folder / "pred" / "c_ES.nii.gz", heart(0, 0, 0))
    assert cardiac(folder) == 0
    content, rows = result(folder)
    assert content["subjects"][2]["measures"] == dict.fromkeys(content["quantities"]) | {"LVEDV": pytest.approx(4)}
    assert rows[2]["LVEF_percent"] == "" and "RV missing at ED" in rows[2]["flags"]
    assert content["mean"]["LVEF"] == pytest.approx(50)
    assert content["n"]["LVEF"] == 2 and content["n"]["LVEDV"] == 3
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["LVEF", "%", "2"] in [line[:3] for line in lines]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"RV": 1, "MLV": 2, "LVC": 3}, {"LV": (3,), "RV": (1,), "MYO": (2,)}),
        ({"RV cavity": 1, "myocardium": 2, "LV cavity": 3}, {"LV": (3,), "RV": (1,), "MYO": (2,)}),
        (
            {
                "left ventricle blood cavity": 500,
                "right ventricle blood cavity": 600,
                "myocardium of the left ventricle": 205,
                "left atrium blood cavity": 420,
            },
            {"LV": (500,), "RV": (600,), "MYO": (205,)},
        ),
        (
            {"LV myocardium": 1, "LV blood pool": 2, "RV blood pool": 3, "left atrium": 4},
            {"LV": (2,), "RV": (3,), "MYO": (1,)},
        ),
        (
            {"heart_myocardium": 1, "heart_ventricle_left": 3, "heart_ventricle_right": 5},
            {"LV": (3,), "RV": (5,), "MYO": (1,)},
        ),
        ({"left ventricle": [3, 4], "whole heart": [1, 2, 3, 4]}, {"LV": (3, 4)}),
    ],
    ids=["ACDC", "cavities", "MM-WHS", "phantom", "TotalSegmentator", "region"],
)
def test_structures_by_name(labels, expected):
    found = find_structures(scored_labels({"background": 0, **labels}), {})
    assert {name: tuple(ids) for name, ids in found.items()} == expected


def test_structures_as_chosen():
    classes = scored_labels({"background": 0, "pool": 4, "wall": 5, "RV": 6})
    assert find_structures(classes, {"LV": "pool", "MYO": "5"}) == {"LV": (4,), "RV": (6,), "MYO": (5,)}
    assert find_structures(None, {"RV": "2,3", "LV": None}) == {"RV": (2, 3)}
    for chosen, message in (
        ({"LV": "7"}, "no label 7"),
        ({"LV": "0"}, "no label 0"),
        ({"LV": "atrium"}, "'atrium' is not the name of one label"),
    ):
        with pytest.raises(ValueError, match=message):
            find_structures(classes, chosen)
    with pytest.raises(ValueError, match="no ventricle among the labels .*--lv and --rv"):
        find_structures(scored_labels({"background": 0, "liver": 1}), {})
    # In training with regions the left ventricle may hold its wall: its volume would not be that of the cavity.
    regions = scored_labels({"background": 0, "LV": [2, 3], "MYO": 2, "RV": 1})
    with pytest.raises(ValueError, match=r"LV = \[2, 3\] and MYO = \[2\] both hold the label 2.*--lv and --myo"):
        find_structures(regions, {})
    assert find_structures(regions, {"LV": "3"}) == {"LV": (3,), "RV": (1,), "MYO": (2,)}
    with pytest.raises(ValueError, match="LV and LVC could both .* choose with --lv"):
        find_structures(scored_labels({"background": 0, "LV": 1, "LVC": 2}), {})


def test_pairs(folder):
    assert [s.name for s in pairs_by_suffix(folder / "pred")] == ["a", "b"]
    (folder / "pairs.csv").write_text("subject,ed,es\nB,b_ED,b_ES.nii.gz\nA,a_ED.nii.gz,a_ES\n")
    subjects = pairs_by_table(folder / "pairs.csv", folder / "pred")
    assert [(s.name, s.ed.name, s.es.name) for s in subjects] == [
        ("A", "a_ED.nii.gz", "a_ES.nii.gz"),
        ("B", "b_ED.nii.gz", "b_ES.nii.gz"),
    ]
    assert cardiac(folder, "--pairs", folder / "pairs.csv", "-ref", folder / "ref") == 0
    assert result(folder)[0]["subjects"][0]["subject"] == "A"


def test_other_suffixes(tmp_path):
    for phase in ("phase000", "phase050"):
        write(tmp_path / "pred" / f"x_{phase}.mha", heart(10, 10, 10))
    options = ["--ed-suffix", "_phase000", "--es-suffix", "_phase050", "--lv", "3"]
    assert cardiac(tmp_path, *options) == 0
    content, _ = result(tmp_path)
    assert content["subjects"][0]["subject"] == "x" and set(content["labels"]) == {"LV"}
    assert content["subjects"][0]["measures"]["LVEF"] == 0


def test_missing_partner_names_the_file(folder, capsys):
    (folder / "pred" / "a_ES.nii.gz").unlink()
    assert cardiac(folder) == 1
    assert "a_ED.nii.gz: there is no a_ES beside it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: write(f / "pred" / "odd.nii.gz", heart(1, 1, 1)), [], "odd.nii.gz: its name ends neither"),
        (lambda f: write(f / "pred" / "a_ED.nii.gz", heart(1, 1, 1) * 5), [], "label 5, which dataset.json"),
        (lambda f: write(f / "pred" / "a_ED.nii.gz", heart(9, 1, 1)[1]), [], "2 dimensions"),
        (lambda f: (f / "ref" / "b_ES.nii.gz").unlink(), ["-ref", "ref"], "no reference b_ES"),
        (lambda f: write(f / "ref" / "c_ED.nii.gz", heart(9, 1, 1)), ["-ref", "ref"], "no segmentation of that name"),
        (lambda f: write(f / "ref" / "a_ED.nii.gz", heart(9, 1, 1), (2, 2, 9)), ["-ref", "ref"], "mm apart"),
        (lambda f: None, ["-ref", "nowhere"], "no such file or folder"),
        (lambda f: None, ["--density", "0"], "density 0"),
        (lambda f: None, ["--ed-suffix", "_ES"], "two different texts"),
        (lambda f: None, ["-djfile", "none.json"], "none.json: cannot be read"),
        (lambda f: (f / "t.csv").write_text("subject,bsa\na,2\n"), ["--bsa", "t.csv"], "no body surface area of b"),
        (lambda f: (f / "t.csv").write_text("subject,bsa\na,180\n"), ["--bsa", "t.csv"], "line 2: bsa '180'; give m2"),
        (lambda f: (f / "t.csv").write_text("who,bsa\na,2\n"), ["--bsa", "t.csv"], "no column subject"),
        (lambda f: (f / "t.csv").write_text("subject,bsa\n"), ["--bsa", "t.csv"], "no line after the first"),
        (lambda f: (f / "t.csv").write_text("subject,ed,es\na,a_ED\n"), ["--pairs", "t.csv"], "line 2: es is empty"),
        (lambda f: (f / "t.csv").write_text("subject,ed,es\na,a_ED,x\n"), ["--pairs", "t.csv"], "no label map 'x'"),
        (
            lambda f: (f / "t.csv").write_text("subject,ed,es\na,a_ED,a_ES\na,b_ED,b_ES\n"),
            ["--pairs", "t.csv"],
            "line 3: subject 'a' stands in line 2 too",
        ),
        (
            lambda f: (f / "t.csv").write_text("subject,ed,es\na,a_ED,a_ES\nb,a_ED.nii.gz,b_ES\n"),
            ["--pairs", "t.csv"],
            "line 3: 'a_ED.nii.gz' stands in line 2 too",
        ),
        (
            lambda f: (f / "t.csv").write_text("subject,bsa\na,2\nb,2\na,1\n"),
            ["--bsa", "t.csv"],
            "line 4: subject 'a' stands in line 2 too",
        ),
        (lambda f: (f / "t.csv").write_text("subject;bsa\na;2\n"), ["--bsa", "t.csv"], "subject,bsa with commas"),
        (lambda f: (f / "t.csv").write_bytes(b"\xff\xfe"), ["--bsa", "t.csv"], "is not text in UTF-8"),
        (lambda f: None, ["--rv", "3"], "LV = [3] and RV = [3] both hold the label 3"),
        (
            lambda f: (f / "t.csv").write_text("subject,ed,es\na,a_ED,a_ED\n"),
            ["--pairs", "t.csv"],
            "'a_ED' stands in line 2 too",
        ),
    ],
)
def test_errors(folder, monkeypatch, capsys, change, options, message):
    monkeypatch.chdir(folder)
    change(folder)
    assert cardiac(folder, *options) == 1
    assert message in capsys.readouterr().err


def test_all_bad_subjects_are_named(folder, capsys):
    for name in ("a_ED", "b_ES"):
        (folder / "pred" / f"{name}.nii.gz").write_bytes(b"no image")
    assert cardiac(folder) == 1
    error = capsys.readouterr().err
    assert "2 of 2 subjects could not be measured" in error and "a_ED.nii.gz" in error and "b_ES.nii.gz" in error
    assert not (folder / "out.json").exists()


def test_output_must_be_json(folder, capsys):
    assert main(["cardiac", "-i", str(folder / "pred"), "-o", "x.csv"]) == 1
    assert "give the name of a .json file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--pairs", "--bsa", "-djfile"])
def test_an_input_is_not_replaced(folder, capsys, option):
    name = "out.json" if option == "-djfile" else "out.csv"
    (folder / name).write_text("precious")
    assert cardiac(folder, option, folder / name) == 1
    assert "would replace" in capsys.readouterr().err and (folder / name).read_text() == "precious"


def test_bsa_reader(folder):
    (folder / "bsa.csv").write_text("subject,bsa\na,1.9\nb,2.1\n")
    assert read_bsa(folder / "bsa.csv", pairs_by_suffix(folder / "pred")) == {"a": 1.9, "b": 2.1}
