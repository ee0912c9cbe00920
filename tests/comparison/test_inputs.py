"""Summaries that fit together, and those that do not."""

import json

import numpy as np
import pytest

from nnunet_xlstm.comparison.inputs import read_costs, read_models
from nnunet_xlstm.datasets.case_table import read_case_table
from nnunet_xlstm.io.tables import write_csv

HUGE = f'[{{"name": "b", "gmac": 1{"0" * 400}}}]'
VALUES = {"Dice": [[0.9, 0.8], [0.7, 0.6]]}


def test_reads_ours_and_stock(summary):
    ours = read_models([("a", summary("a", VALUES)), ("b", summary("b", VALUES))])
    assert ours.names == ["a", "b"] and ours.cases == ["case_000", "case_001"]
    assert ours.classes == {"1": "LV", "2": "RV"} and ours.definition["hd95"] == "max"
    stock = read_models([("a", summary("c", {"Dice": [[0.9, np.nan]]}, stock=True))])
    assert stock.classes == {"1": "1", "2": "2"} and stock.definition == {}
    np.testing.assert_array_equal(stock.values["Dice"], [[[0.9, np.nan]]])
    np.testing.assert_array_equal(stock.both_empty(), [[[False, True]]])


def test_cases_and_classes_in_another_order(summary):
    one = summary("a", VALUES)
    flipped = {"Dice": np.array(VALUES["Dice"])[::-1, ::-1]}
    classes = {"2": "RV", "1": "LV"}
    other = summary("b", flipped, cases=["case_001", "case_000"], classes=classes)
    model_scores = read_models([("a", one), ("b", other)])
    np.testing.assert_array_equal(model_scores.values["Dice"][0], model_scores.values["Dice"][1])


def test_only_shared_metrics(summary):
    more = VALUES | {"HD95": np.ones((2, 2))}
    assert "HD95" not in read_models([("a", summary("a", more)), ("b", summary("b", VALUES))]).values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cases": ["case_000", "other"]}, "only some models have 'other' of 'b'"),
        ({"cases": ["x", "y"]}, "no case in common"),
        ({"classes": {"1": "LV", "3": "RV"}}, "'a' has the classes .* 'b' has"),
        ({"classes": {"1": "LV", "2": "LA"}}, "Class 2 is 'RV' in 'a' and 'LA' in 'b'"),
        ({"definition": {"nsd_tolerance": 1.0, "hd95": "max"}}, "nsd_tolerance: 2.0 and 1.0"),
        ({"definition": {"hd95": "max"}}, "nsd_tolerance: 2.0 and 'absent'"),
        ({"stock": True}, "'a' says how its metrics were computed, 'b' does not"),
        ({"n_ref": 999}, "different references: case 'case_000' has 1000 and 999 voxels of class 1 .2 cases"),
    ],
)
def test_what_does_not_fit(summary, change, message):
    with pytest.raises(ValueError, match=message):
        read_models([("a", summary("a", VALUES)), ("b", summary("b", VALUES, **change))])


def test_common(summary):
    sources = [("a", summary("a", VALUES)), ("b", summary("b", VALUES, cases=["case_001", "case_007"]))]
    with pytest.raises(ValueError, match="--common to compare on the 1 that"):
        read_models(sources)
    model_scores = read_models(sources, common=True)
    assert model_scores.cases == ["case_001"]
    assert model_scores.left_out == {"a": ["case_000"], "b": ["case_007"]}
    assert model_scores.values["Dice"][:, 0, 0].tolist() == [0.7, 0.9]


def test_names(summary):
    path = summary("a", VALUES)
    for sources in ([("a", path), ("a", path)], [(" ", path)]):
        with pytest.raises(ValueError, match="a name of its own"):
            read_models(sources)
    with pytest.raises(ValueError, match="No model"):
        read_models([])


def test_case_tables(tmp_path):
    as_json, as_csv = tmp_path / "s.json", tmp_path / "s.csv"
    as_json.write_text(json.dumps({"a": "p1", "b": 2, "c": "unused"}))
    as_csv.write_text(
        "\ufeffcase,site,subject\na,x,p1 \nb,y,2\n,,\n,,\n", encoding="utf-8"
    )  # as a spreadsheet saves it
    for path in (as_json, as_csv):
        assert read_case_table(path, "subject", ["b", "a"]) == ["2", "p1"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.json", "[1]", r"it is \[1\]; give JSON"),
        ("s.json", "{", "not valid JSON.*give JSON"),
        ("s.csv", "case;subject\na;p1\n", "its columns are"),
        ("s.csv", "", "its columns are"),
        ("s.csv", "case,subject\nb,1\n", "no subject for 'a'"),
        ("s.csv", "case,subject\na\n", "no subject for 'a'"),
        ("s.csv", "case,subject\na, \n", "no subject for 'a'"),
        ("s.json", '{"a": ""}', "no subject for 'a'"),
        ("s.json", '{"a": null}', "a is null; give a text"),
        ("s.csv", "case,subject\na,1\na,2\n", "'a' twice"),
        ("s.csv", "case,subject\na,1\na,1\n", "'a' twice"),
        ("s.json", '{"a": "1", "a": "2"}', "'a' twice"),
    ],
)
def test_broken_case_tables(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_case_table(tmp_path / name, "subject", ["a"])


def test_costs(tmp_path):
    path = tmp_path / "cost.json"
    path.write_text(json.dumps([{"name": "a", "gmac": 600, "params_m": 30.9, "activation_mb": None}, {"name": "z"}]))
    costs = read_costs(path, ["a", "b"])
    np.testing.assert_array_equal(costs["gmac"], [600, np.nan])
    assert np.isnan(costs["activation_mb"]).all()
    with pytest.raises(ValueError, match="costs of 'a', 'z', the models are 'b'"):
        read_costs(path, ["b"])
    for text in ('{"a": 1}', "[1]", "[{}]", '[{"name": "b", "gmac": "x"}]', "{", HUGE):
        path.write_text(text)
        with pytest.raises(ValueError, match="give the output of `nnunet_xlstm cost"):
            read_costs(path, ["b"])
    path.write_text('[{"name": "b", "gmac": null}, {"name": "z", "gmac": 3}]')
    with pytest.raises(ValueError, match="no cost of 'b' is known"):
        read_costs(path, ["b"])
    path.write_text('[{"name": "b", "gmac": 1}, {"name": "b", "gmac": 2}]')
    with pytest.raises(ValueError, match="'b' twice"):
        read_costs(path, ["b"])


def test_only_settings_must_agree(summary):
    """What a setting means is prose, and may be worded anew by a later version."""
    texts = [{"nsd_tolerance": 2.0, "hd95": "max", "ASSD": text} for text in ("mean of both", "average of both")]
    read_models([(text["ASSD"], summary(text["ASSD"], VALUES, definition=text)) for text in texts])


def test_a_table_of_ours_is_a_table_of_subjects(tmp_path):
    """Names that a spreadsheet would run come back as they were."""
    write_csv(tmp_path / "s.csv", ["case", "subject"], [["=a", "@p"], ["-b", "'q"]])
    assert read_case_table(tmp_path / "s.csv", "subject", ["=a", "-b"]) == ["@p", "'q"]
