"""From summary.json files to the files of a comparison, also the awkward ones."""

import csv
import json

import numpy as np
import pytest

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.comparison.analysis import Settings
from nnunet_xlstm.comparison.page import short_names
from nnunet_xlstm.comparison.plots import outer_classes, remove_earlier
from nnunet_xlstm.comparison.run import compare

FILES = {"comparison.json", "scores.csv", "table.csv", "p_values.csv", "ranks.csv", "table.md", "table.tex"}
FILES |= {"index.html", "figures"}
NASTY = ['<script>alert("1")</script>', "a_b & 50% of $x^2$", "x" * 300]


def strict(path):
    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


KINDS = ("boxes", "ranks", "significance", "radar", "cost", "bubbles")


@pytest.mark.slow
def test_everything(summary, dice, tmp_path):
    """Three models, two metrics, subjects, two modalities, costs: all tables and all kinds of figures."""
    distance = 20 * (1 - dice)
    sources = [
        (name, summary(f"m{i}", {"Dice": dice[i], "HD95": distance[i]}))
        for i, name in enumerate(["one", "two", NASTY[0]])
    ]
    cases = [f"case_{i:03d}" for i in range(12)]
    subjects, modality, cost = (tmp_path / name for name in ("s.csv", "m.json", "c.json"))
    subjects.write_text("case,subject\n" + "".join(f"{case},p{i // 2}\n" for i, case in enumerate(cases)))
    modality.write_text(json.dumps({case: ["CT", "MR"][i // 2 % 2] for i, case in enumerate(cases)}))
    costs = [
        {"name": name, "gmac": g, "params_m": 30, "activation_mb": 5 * g} for name, g in (("one", 600), ("two", 9000))
    ]
    cost.write_text(json.dumps(costs))
    out = tmp_path / "out"
    found = compare(sources, out, Settings(), subjects, modality, cost)

    assert {path.name for path in out.iterdir()} == FILES
    kinds = {"scores", "volumes_1", "volumes_2", "volumes_3"}
    kinds |= {f"{k}_{m}" for k in KINDS for m in ("Dice", "HD95")}
    assert {path.name for path in (out / "figures").iterdir()} == {f"{k}.{e}" for k in kinds for e in ("png", "svg")}
    content = strict(out / "comparison.json")
    dice_record = content["metrics"]["Dice"]
    assert dice_record["test"]["units"] == 6 and dice_record["test"]["underpowered"]  # 6 pairs of models, 2^-6
    assert dice_record["models"]["one"]["mean"] == pytest.approx(dice[0].mean())
    assert dice_record["models"]["one"]["ranks"]["mean, then rank"] == 1
    assert set(dice_record["models"]["one"]["modality"]) == {"CT", "MR"}
    assert content["subjects"]["case_003"] == "p1"
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page and page.count("<img") == len(kinds)
    assert "6 subjects" in page and found.conclusion in page.replace("&quot;", '"')


def test_scores_survive_the_trip(summary, dice, tmp_path, no_drawing):
    compare([("a", summary("a", {"Dice": dice[0]})), ("b", summary("b", {"Dice": dice[1]}))], tmp_path / "out")
    with open(tmp_path / "out" / "scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    np.testing.assert_array_equal([float(row["Dice LV"]) for row in rows if row["model"] == "b"], dice[1][:, 0])


def test_stock_files_with_nan(summary, dice, tmp_path, no_drawing):
    """nnU-Net's own files: NaN literals, no definition, volumes in voxels."""
    dice[:, 3, 1] = np.nan
    found = compare([(n, summary(n, {"Dice": dice[i]}, stock=True)) for i, n in enumerate("ab")], tmp_path / "out")
    content = strict(tmp_path / "out" / "comparison.json")
    assert content["volumes"]["unit"] == "voxels" and list(content["metrics"]) == ["Dice"]
    assert content["metrics"]["Dice"]["models"]["a"]["classes"]["2"]["n"] == 11
    assert any("nnU-Net's own" in text for text in found.notes)
    assert "a has the highest mean Dice" in found.conclusion and "significantly better than b." in found.conclusion


def test_one_model(summary, dice, tmp_path, no_drawing):
    found = compare([("only", summary("a", {"Dice": dice[0]}))], tmp_path / "out")
    assert found.conclusion.startswith("1 model on 12 cases. Mean Dice: 0.")
    content = strict(tmp_path / "out" / "comparison.json")["metrics"]["Dice"]
    assert content["test"]["pairs"] == [] and content["test"]["underpowered"] is False
    assert content["models"]["only"]["ranks"]["test, then rank"] == 1
    assert {path.stem for path in (tmp_path / "out" / "figures").iterdir()} == {"scores", "boxes_Dice", "volumes_1"}


def test_two_cases_are_underpowered(summary, dice, tmp_path, no_drawing):
    found = compare([(n, summary(n, {"Dice": dice[i][:2]})) for i, n in enumerate("ab")], tmp_path / "out")
    assert "2 pairs are too few" in found.conclusion
    test = strict(tmp_path / "out" / "comparison.json")["metrics"]["Dice"]["test"]
    assert test["underpowered"] and test["smallest_p"] == 0.25 and test["smallest_p_holm"] == 0.5
    assert "6 pairs are needed" in test["text"]
    assert "Underpowered" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    with open(tmp_path / "out" / "p_values.csv", newline="", encoding="utf-8") as file:
        assert [row["underpowered"] for row in csv.DictReader(file)] == ["True", "True"]


def test_one_case(summary, tmp_path, no_drawing):
    compare([(n, summary(n, {"Dice": [[0.5 + i / 10]]})) for i, n in enumerate("ab")], tmp_path / "out")
    model = strict(tmp_path / "out" / "comparison.json")["metrics"]["Dice"]["models"]["b"]
    assert model["sd"] is None and model["interval"] == [None, None] and model["mean"] == 0.6


def test_identical_models(summary, dice, tmp_path, no_drawing):
    found = compare([(n, summary(n, {"Dice": dice[0]})) for n in "ab"], tmp_path / "out")
    assert "a, b share the highest mean Dice" in found.conclusion
    pairs = strict(tmp_path / "out" / "comparison.json")["metrics"]["Dice"]["test"]["pairs"]
    assert [pair["p_holm"] for pair in pairs] == [1, 1] and pairs[0]["method"] == "identical"


def test_failures_are_told(summary, dice, tmp_path, no_drawing):
    distance = 20 * (1 - dice)
    distance[1, 4, 0] = np.nan
    sources = [(n, summary(n, {"Dice": dice[i], "HD95": distance[i]})) for i, n in enumerate("ab")]
    found = compare(sources, tmp_path / "out")
    (text,) = found.notes
    assert text.startswith("HD95 has values that are missing (b 1): tests and rankings count them as the worst value.")
    assert strict(tmp_path / "out" / "comparison.json")["metrics"]["HD95"]["models"]["b"]["failed"] == 1


def test_earlier_figures_go_and_others_stay(tmp_path):
    theirs = {"scores-final.png", "scores_final.png", "costly.png", "boxes_HD95.pdf", "cost_2025.svg", "volumes_a.png"}
    for name in ("scores.png", "boxes_HD95.svg", "volumes_7.png", "cost_Dice.png", "modality_NSD.svg", *theirs):
        (tmp_path / name).write_text("x")
    remove_earlier(tmp_path, {"cost_Dice.png"})
    assert {path.name for path in tmp_path.iterdir()} == theirs | {"cost_Dice.png"}
    remove_earlier(tmp_path / "none", set())


def missing_class(summary):
    """A misses class 2 in 9 of 10 cases and is better at class 1; B finds all."""
    distance = np.broadcast_to(np.array([[2.0, 20.0], [2.5, 20.0]])[:, None], (2, 10, 2)).copy()
    distance[0, 1:, 1] = np.nan
    dice = np.where(np.isnan(distance), 0.0, 0.9)
    return [(n, summary(n, {"Dice": dice[i], "HD95": distance[i]})) for i, n in enumerate("AB")]


def test_who_misses_a_class_is_not_the_best(summary, tmp_path, no_drawing):
    sources = missing_class(summary)
    found = compare(sources, tmp_path / "worst", Settings(("HD95",)))
    assert found.conclusion == (
        "2 models on 10 cases. B ranks first by HD95 (missing values count as the worst) "
        "and is significantly better than A."
    )
    table = (tmp_path / "worst" / "table.md").read_text(encoding="utf-8")
    assert "| A | 11.00 (n 1) |" in table and "**11" not in table and "| A | **2.00 ± 0.00** | 20.00 (n 1) |" in table
    assert "or the n that have a value" in table
    found = compare(sources, tmp_path / "drop", Settings(("HD95",), na="drop"))
    assert "A has the lowest mean HD95 (2.90, values that a model lacks left out)" in found.conclusion
    assert "9 values (a class of a case) that not all models have" in found.notes[0] and "A 9" in found.notes[0]


def test_the_answer_says_where_other_metrics_rank_otherwise(summary, tmp_path, no_drawing):
    base = np.linspace(0.8, 0.9, 12)[:, None]
    more, less = base + 0.05, base + 0.01 * np.resize([-1, 0.9], 12)[:, None]  # the second: less, by little, on average
    sources = [
        ("A", summary("A", {"Dice": more, "NSD": more, "HD95": more, "ASSD": base, "RVE": base})),
        ("B", summary("B", {"Dice": base, "NSD": base, "HD95": base, "ASSD": less, "RVE": more})),
    ]

    def conclusion(*metrics):
        found = compare(sources, tmp_path / "out", Settings(metrics)).conclusion
        return found.removeprefix("2 models on 12 cases. A has the highest mean Dice (0.900) and is significantly ")

    assert conclusion("Dice", "NSD", "RVE") == "better than B."
    assert conclusion("Dice", "NSD", "HD95") == "better than B; however, by HD95 B ranks first, significantly."
    assert conclusion("Dice", "RVE", "ASSD") == "better than B; however, by ASSD B ranks first."
    assert conclusion("Dice", "HD95", "ASSD") == (
        "better than B; however, by HD95 and ASSD B ranks first, by HD95 significantly."
    )


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        ((0.2, 0.1, 0), "better than both others."),
        ((0.2, 0.2005, 0), "better than 1 of the 2 others."),
        ((0.3, 0.2, 0.1, 0), "better than all 3 others."),
        ((0.2, 0.2004, 0.2002), "better than none of the 2 others."),
    ],
)
def test_who_is_better_than_whom_in_words(summary, tmp_path, no_drawing, shift, words):
    rng = np.random.default_rng(0)
    sources = [
        (f"m{i}", summary(f"m{i}", {"Dice": 0.5 + s + rng.uniform(0, 0.01, (20, 1))})) for i, s in enumerate(shift)
    ]
    assert compare(sources, tmp_path / "out", Settings(("Dice",))).conclusion.endswith(words)


def test_one_pair(summary, tmp_path, no_drawing):
    sources = [(n, summary(n, {"Dice": [[value]]})) for n, value in (("A", 0.9), ("B", 0.8))]
    found = compare(sources, tmp_path / "out")
    assert "; 1 pair is too few to show" in found.conclusion
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "of 1 pair (" in page and "with 1 pair no corrected" in page and "1 pairs" not in page


def test_what_fails_leaves_the_earlier_result(summary, dice, tmp_path, no_drawing, monkeypatch):
    sources, out = [("a", summary("a", {"Dice": dice[0]}))], tmp_path / "out"
    compare(sources, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    costs = tmp_path / "cost.json"
    costs.write_text('[{"name": "a", "gmac": null, "params_m": null, "activation_mb": null}]')
    with pytest.raises(ValueError, match="no cost of 'a' is known"):
        compare(sources, out, cost_file=costs)

    def fails(*_):
        raise OSError("disk full")

    for step in ("build_page", "draw"):
        monkeypatch.setattr(f"nnunet_xlstm.comparison.run.{step}", fails)
        with pytest.raises(OSError, match="disk full"):
            compare(sources, out, Settings(alpha=0.01))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_every_metric_and_number_of_models_has_its_figures(summary, dice, tmp_path, no_drawing):
    """Two models have dots instead of a radar; cost figures are of all chosen metrics."""
    modality, costs = tmp_path / "m.json", tmp_path / "c.json"
    modality.write_text(json.dumps({f"case_{i:03d}": "CT" if i < 3 else "MR" for i in range(12)}))
    costs.write_text('[{"name": "a", "gmac": 3}]')
    sources = [(n, summary(n, {"IoU": dice[i]})) for i, n in enumerate("ab")]
    compare(sources, tmp_path / "out", Settings(("IoU",)), modality_file=modality, cost_file=costs)
    assert {"modality_IoU.png", "cost_IoU.png"} <= {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "mean IoU ↑ per modality (a radar needs 3 models or more)" in page


def test_subjects_are_the_unit_of_everything(summary, tmp_path, no_drawing):
    """Three cases of subject p, one of q: the mean of p, q is .7 and .8, that of the cases .8 and .8."""
    values = {"a": [[0.9], [0.9], [0.9], [0.5]], "b": [[0.8]] * 4}
    cases = [f"case_{i:03d}" for i in range(4)]
    subjects, modality = tmp_path / "s.json", tmp_path / "m.json"
    subjects.write_text(json.dumps(dict(zip(cases, "pppq", strict=True))))
    modality.write_text(json.dumps(dict.fromkeys(cases, "CT")))
    sources = [(n, summary(n, {"Dice": v})) for n, v in values.items()]
    found = compare(sources, tmp_path / "out", Settings(), subjects, modality)
    assert "b has the highest mean Dice (0.800)" in found.conclusion and "4 cases of 2 subjects" in found.conclusion
    assert any("here: 2 subjects" in text for text in found.notes)
    content = strict(tmp_path / "out" / "comparison.json")["metrics"]["Dice"]
    a = content["models"]["a"]
    assert (a["n"], a["over"]) == (2, "subjects")
    assert a["mean"] == pytest.approx(0.7) and a["modality"]["CT"] == pytest.approx(0.7)
    assert content["test"]["pairs"][0]["difference"] == pytest.approx(-0.1)
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "Average over the classes and the cases of a subject: mean ± SD over the 2 subjects" in table
    for name in ("table", "p_values", "ranks"):
        with open(tmp_path / "out" / f"{name}.csv", newline="", encoding="utf-8") as file:
            assert {row["over"] for row in csv.DictReader(file)} == {"subjects"}
    assert strict(tmp_path / "out" / "comparison.json")["volumes"]["models"]["a"]["n"] == 2
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "bootstrap over the subjects" in page and "per class, every subject" in page and "every case" not in page
    assert "volume of LV, every subject" in page and "↑ of the subjects per modality" in page
    assert "subjects, each the mean over its cases" in page and "not corrected for the number of pairs" in page


@pytest.mark.slow
@pytest.mark.parametrize(("models", "cases"), [(1, 1), (2, 1), (3, 2)])
def test_extremes_are_drawn(summary, tmp_path, models, cases):
    """One model, one case; nnU-Net's own files with NaN; classes that nobody has; means that are unknown."""
    names = [f"case_{i:03d}" for i in range(cases)]
    files = [tmp_path / name for name in ("s.json", "m.json", "c.json")]
    files[0].write_text(json.dumps(dict.fromkeys(names, "p")))
    files[1].write_text(json.dumps(dict.fromkeys(names, "CT")))
    files[2].write_text('[{"name": "0", "gmac": 0, "params_m": 5}]')
    dice = np.full((cases, 3), 0.8)
    dice[0, 1:] = np.nan
    sources = [(str(i), summary(str(i), {"Dice": dice}, stock=True)) for i in range(models)]
    compare(sources, tmp_path / "stock", Settings(resamples=20), *files)
    distance = np.where(np.arange(models)[:, None, None] == 0, np.full((models, cases, 1), np.nan), 3.0)
    values = [{"Dice": np.full((cases, 1), 0.8), "HD95": d} for d in distance]
    sources = [(str(i), summary(f"ours{i}", v)) for i, v in enumerate(values)]
    compare(sources, tmp_path / "ours", Settings(resamples=20), *files)
    assert all((tmp_path / kind / "figures" / "scores.svg").is_file() for kind in ("stock", "ours"))


def test_short_names():
    names = ["a", "x" * 36, f"{'x' * 40}1{'y' * 40}", f"{'x' * 40}2{'y' * 40}"]
    short = short_names(names)
    assert short[:2] == names[:2] and len(set(short)) == 4 and max(map(len, short)) <= 40


def test_volumes_that_add_up():
    assert outer_classes(["1", "2", "3"]) == ["1", "2", "3"]
    assert outer_classes(["(1, 2, 3)", "(2, 3)", "(3,)"]) == ["(1, 2, 3)"]
    assert outer_classes(["(1, 2)", "(2, 3)"]) is None


def test_command(summary, dice, tmp_path, no_drawing, capsys):
    paths = [summary(f"m{i}", {"Dice": dice[i]}) for i in range(3)]
    models = [f"{name}={path}" for name, path in zip(NASTY, paths, strict=True)]
    models[1] = f"b=c={paths[1]}"  # the name ends at the first "="
    with pytest.raises(SystemExit):
        main(["compare", "nameless", "-o", str(tmp_path / "out")])
    assert "is not NAME=summary.json" in capsys.readouterr().err
    assert main(["compare", *models, "-o", str(tmp_path / "out")]) == 1
    assert "c=" in capsys.readouterr().err
    models[1] = f"{NASTY[1]}={paths[1]}"
    assert main(["compare", *models, "-o", str(tmp_path / "out"), "--metrics", "Dice", "--na", "drop"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("model") and "has the highest mean Dice" in text and "index.html" in text
    assert strict(tmp_path / "out" / "comparison.json")["settings"]["na"] == "drop"
    (tmp_path / "file").write_text("x")
    assert main(["compare", *models, "-o", str(tmp_path / "file")]) == 1
    assert "give a folder" in capsys.readouterr().err
