"""`evaluate` on folders: files, checks, aggregation, what is written, and that nnU-Net's own file can be read."""

import csv
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.evaluation.summary import METRICS, case_name, read_scores

LABELS = {"background": 0, "one": 1, "two": 2}


def write(path, array, spacing=(1.0, 1.0, 3.0), origin=(0, 0, 0)):
    image = sitk.GetImageFromArray(np.asarray(array, dtype=np.uint8))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folders(tmp_path):
    """Three cases: perfect, shifted by a voxel, and one whose label 2 was missed."""
    reference = np.zeros((4, 8, 8), dtype=np.uint8)
    reference[1:3, 2:6, 2:5] = 1
    missed = reference.copy()
    reference[0, 0, 0] = 2
    predictions = {"a": reference, "b": np.roll(reference, 1, axis=2), "c": missed}
    for case, prediction in predictions.items():
        write(tmp_path / "ref" / f"{case}.nii.gz", reference)
        write(tmp_path / "pred" / f"{case}.nii.gz", prediction)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".nii.gz"}))
    return tmp_path


def evaluate(folder, *options):
    arguments = ["-ref", folder / "ref", "-pred", folder / "pred", "-djfile", folder / "dataset.json", *options]
    return main(["evaluate", *map(str, arguments)])


def test_summary(folders):
    assert evaluate(folders, "-o", folders / "out" / "s.json") == 0
    summary = json.loads((folders / "out" / "s.json").read_text())
    assert set(summary) == {"foreground_mean", "mean", "metric_per_case", "nnunet_xlstm"}
    ours = summary["nnunet_xlstm"]
    assert ours["classes"] == {"1": "one", "2": "two"}
    assert ours["counts"]["2"] == {"n_valid": 3, "n_empty_ref": 0, "n_missed": 1, "n_false": 0}
    rows = [case["metrics"] for case in summary["metric_per_case"]]
    dice = [[row[key]["Dice"] for key in "12"] for row in rows]
    assert dice == [[1, 1], [pytest.approx(2 / 3), 0], [1, 0]]
    assert summary["mean"]["1"]["Dice"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert summary["foreground_mean"]["Dice"] == pytest.approx(np.mean(dice))
    assert ours["std"]["1"]["Dice"] == pytest.approx(np.std([1, 2 / 3, 1], ddof=1))
    assert ours["case_mean"]["Dice"] == pytest.approx(np.mean(np.mean(dice, axis=1)))
    diagonal = math.sqrt((3 * 3) ** 2 + 7**2 + 7**2)  # spacing reaches the distances
    assert rows[2]["2"]["HD95"] == pytest.approx(diagonal)
    assert summary["metric_per_case"][2]["flags"]["2"]["HD95"] == "image diagonal: the prediction is empty"
    assert ours["definition"]["hd95"] == "max" and "one_empty" in ours["definition"]


def test_definition_states_ids_of_classes_and_what_is_ignored(folders, parse):
    assert evaluate(folders) == 0
    definition = json.loads((folders / "pred" / "summary.json").read_text())["nnunet_xlstm"]["definition"]
    assert definition["labels"] == {"one": [1], "two": [2]} and definition["ignore_label"] is None
    labels = {"background": 0, "both": [1, 2], "two": 2, "ignore": 7}
    (folders / "dataset.json").write_text(json.dumps({"labels": labels, "regions_class_order": [1, 2]}))
    assert evaluate(folders) == 0
    definition = read_scores(folders / "pred").definition
    assert definition["labels"] == {"both": [1, 2], "two": [2]} and definition["ignore_label"] == 7
    page = parse((folders / "pred" / "summary.html").read_text()).text
    assert "both: 1, 2; two: 2" in page and "{'both'" not in page


def test_csv_and_page(folders, parse):
    evaluate(folders)
    with open(folders / "pred" / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and set(METRICS) < set(rows[0])
    assert rows[1] | {"case": "a", "class": "2", "name": "two"} == rows[1]
    assert float(rows[2]["Dice"]) == pytest.approx(2 / 3)
    assert "the prediction is empty" in rows[5]["flags"]
    page = parse((folders / "pred" / "summary.html").read_text())
    assert "script" not in page.tags and "HD, HD95, ASSD: image diagonal: the prediction is empty" in page.text


def test_non_finite_numbers_are_null_with_a_flag(folders):
    empty = np.zeros((4, 8, 8))
    for side in ("ref", "pred"):
        write(folders / side / "d.nii.gz", empty)
    evaluate(folders, "--one-empty", "inf")
    summary = json.loads((folders / "pred" / "summary.json").read_text(), parse_constant=pytest.fail)
    cases = summary["metric_per_case"]
    assert cases[3]["metrics"]["1"]["Dice"] is None
    assert cases[3]["flags"]["1"]["Dice"] == "undefined: both empty"
    assert cases[2]["metrics"]["2"]["HD"] is None and cases[2]["flags"]["2"]["HD"].startswith("infinite")
    assert summary["mean"]["2"]["HD"] is None and summary["mean"]["1"]["HD"] == pytest.approx(1 / 3)
    ours = summary["nnunet_xlstm"]
    assert ours["std"]["2"]["HD"] is None and ours["flags"]["2"]["HD"].startswith("infinite")
    assert ours["flags"]["case_mean"]["HD"].startswith("infinite")
    assert summary["nnunet_xlstm"]["counts"]["1"] == {"n_valid": 3, "n_empty_ref": 1, "n_missed": 0, "n_false": 0}


def test_processes_do_not_change_the_result(folders):
    evaluate(folders, "-o", folders / "one.json")
    evaluate(folders, "-o", folders / "two.json", "-np", "2")
    assert (folders / "one.json").read_text() == (folders / "two.json").read_text()


def test_missing_and_extra_files(folders, capsys):
    (folders / "pred" / "b.nii.gz").unlink()
    assert evaluate(folders) == 1
    assert "'b.nii.gz' in" in (error := capsys.readouterr().err) and "--chill" in error
    assert not (folders / "pred" / "summary.json").exists()
    assert evaluate(folders, "--chill") == 0
    assert len(read_scores(folders / "pred").cases) == 2
    write(folders / "pred" / "z.nii.gz", np.zeros((4, 8, 8)))
    assert evaluate(folders, "--chill") == 1
    assert "z.nii.gz" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda p: write(p, np.zeros((4, 8, 7))), ["voxels, the prediction", "resample"]),
        (lambda p: write(p, np.zeros((4, 8, 8)), spacing=(1, 1, 2.9)), ["mm apart"]),
        (lambda p: write(p, np.zeros((4, 8, 8)), origin=(0, 0.2, 0)), ["0.2 mm apart"]),
        (lambda p: write(p, np.full((4, 8, 8), 5)), ["holds the label 5"]),
        (lambda p: p.write_bytes(b"not an image"), ["is not a NIfTI file"]),
    ],
    ids=["size", "spacing", "origin", "label", "damaged"],
)
def test_a_bad_prediction_is_an_error_that_names_the_case(folders, capsys, change, words):
    change(folders / "pred" / "b.nii.gz")
    assert evaluate(folders) == 1
    error = capsys.readouterr().err
    assert "1 of 3 cases" in error and "b: " in error
    for word in words:
        assert word in error
    assert read_scores(folders / "pred").cases == ["a", "c"]


def test_rounded_headers_are_one_grid(folders):
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(folders / "ref" / "a.nii.gz")))
    write(folders / "pred" / "a.nii.gz", array, spacing=(1.00001, 1, 3), origin=(1e-4, 0, 0))
    assert evaluate(folders) == 0


def test_float_label_maps(folders, capsys):
    image = sitk.ReadImage(str(folders / "pred" / "a.nii.gz"))
    sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32), str(folders / "pred" / "a.nii.gz"))
    assert evaluate(folders) == 0
    sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32) * 0.5, str(folders / "pred" / "a.nii.gz"))
    assert evaluate(folders) == 1
    assert "holds 0.5, which is no whole number" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["-np", "0"], ["-o", "table.csv"], ["--nsd-tolerance", "-1"]])
def test_wrong_options(folders, options, capsys):
    assert evaluate(folders, *options) == 1
    assert "give" in capsys.readouterr().err


def test_reads_nnunets_own_file_and_agrees_with_it(folders, monkeypatch):
    """Stock's evaluation of the same folder: the same keys and numbers, NaN included."""
    evaluation = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions")
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    for side in ("ref", "pred"):
        write(folders / side / "d.nii.gz", np.zeros((4, 8, 8)))
    evaluate(folders, "-o", folders / "ours.json")
    paths = [str(folders / name) for name in ("ref", "pred", "stock.json")]
    evaluation.compute_metrics_on_folder(*paths, SimpleITKIO(), ".nii.gz", [1, 2], None, 1)
    ours, stock = (read_scores(folders / f"{name}.json") for name in ("ours", "stock"))
    assert ours.cases == stock.cases == ["a", "b", "c", "d"]
    assert stock.classes == {"1": "1", "2": "2"} and not stock.definition
    for metric, values in stock.values.items():
        np.testing.assert_allclose(ours.values[metric], values)
    contents = [json.loads((folders / f"{name}.json").read_text()) for name in ("ours", "stock")]
    for metric, value in contents[1]["foreground_mean"].items():
        assert contents[0]["foreground_mean"][metric] == pytest.approx(value)


def test_nnunets_own_summary_is_kept(folders):
    stock = folders / "pred" / "summary.json"
    stock.write_text('{"metric_per_case": []}')
    evaluate(folders)
    evaluate(folders)
    assert (folders / "pred" / "summary_nnunet.json").read_text() == '{"metric_per_case": []}'
    assert "nnunet_xlstm" in json.loads(stock.read_text())


def test_spacing_of_a_3d_tiff_stands_beside_it(folders, capsys):
    reference = np.zeros((4, 8, 8), dtype=np.uint8)
    reference[1, 2:6, 2:6] = 1
    for side, array in (("tif_ref", reference), ("tif_pred", np.roll(reference, 1, axis=0))):
        (folders / side).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folders / side / "a.tif"))
    (folders / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".tif"}))
    arguments = [
        "-ref",
        folders / "tif_ref",
        "-pred",
        folders / "tif_pred",
        "-djfile",
        folders,
        "-o",
        folders / "s.json",
    ]
    command = ["evaluate", *map(str, arguments)]
    assert main(command) == 1
    assert "a 3D TIFF holds no spacing; write" in capsys.readouterr().err
    for side in ("tif_ref", "tif_pred"):
        (folders / side / "a.json").write_text('{"spacing": [5, 0.5, 0.5]}')
    assert main(command) == 0
    row = json.loads((folders / "s.json").read_text())["metric_per_case"][0]["metrics"]["1"]
    assert row["HD"] == 5 and row["VolumeRef"] == pytest.approx(16 * 1.25 / 1000)
    (folders / "tif_ref" / "a.json").write_text('{"spacing": [5]}')
    assert main(command) == 1


def test_a_class_that_no_case_has(folders):
    """nnU-Net's mean over classes is NaN then; ours is over the classes that have a value."""
    for side in ("ref", "pred"):
        for path in (folders / side).iterdir():
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            write(path, np.where(array == 2, 0, array))
    evaluate(folders)
    summary = json.loads((folders / "pred" / "summary.json").read_text())
    assert summary["mean"]["2"]["Dice"] is None
    assert summary["foreground_mean"]["Dice"] == summary["mean"]["1"]["Dice"]
    assert summary["nnunet_xlstm"]["flags"]["2"]["Dice"] == "undefined: no case has a value"


def test_not_a_summary(tmp_path):
    row = '{"metric_per_case": [{"prediction_file": "a.nii.gz", "metrics": %s}]}'
    damaged = [row % text for text in ('{"1": 3}', "[1]", '{"1": {"Dice": "x"}}', "{}")]
    damaged.append(row % f'{{"1": {{"Dice": 1{"0" * 400}}}}}')
    extras = (
        "[1]",
        '{"failed_cases": ["a"]}',
        '{"failed_cases": {"a": 1}}',
        '{"classes": [1]}',
        '{"classes": {"1": ["one"]}}',
        '{"classes": null}',
        '{"definition": "x"}',
    )
    damaged += [(row % '{"1": {"Dice": 1}}')[:-1] + f', "nnunet_xlstm": {text}}}' for text in extras]
    for text in ("[]", "{}", "nonsense", "[" * 100_000, '{"metric_per_case": []}', *damaged):
        (tmp_path / "summary.json").write_text(text)
        with pytest.raises(ValueError, match="summary.json.*give a summary.json|it holds no case"):
            read_scores(tmp_path)


def test_a_number_that_one_case_lacks(folders):
    """Not read as a file without this metric: a comparison would leave it out without a word."""
    evaluate(folders)
    path = folders / "pred" / "summary.json"
    content = json.loads(path.read_text())
    del content["metric_per_case"][1]["metrics"]["2"]["Dice"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="case 'b' has no Dice of class 2"):
        read_scores(path)


def test_case_name():
    assert [case_name(f"x/{n}") for n in ("a.b.nii.gz", "c.mha", "d")] == ["a.b", "c", "d"]
