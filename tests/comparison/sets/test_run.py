"""Comparisons over several data sets: means and differences by hand, what is resampled, files, refusals."""

import csv
import json

import numpy as np
import pytest

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.comparison import run
from nnunet_xlstm.comparison.analysis import Settings, analyze
from nnunet_xlstm.comparison.inputs import read_models
from nnunet_xlstm.comparison.sets import run as sets_run
from nnunet_xlstm.comparison.sets.analysis import ModelSet, over_sets
from nnunet_xlstm.comparison.sets.run import compare_sets

RNG = np.random.default_rng(7)
ONE = RNG.uniform(0.5, 0.9, (2, 6, 1))  # (models, cases, classes)
TWO = RNG.uniform(0.5, 0.9, (2, 4, 3))


@pytest.fixture
def sets(summary, no_drawing, monkeypatch):
    """sets(change): two data sets with other cases and classes."""
    monkeypatch.setattr(sets_run, "draw", run.draw)  # no_drawing's

    def make(one=ONE, two=TWO, **options):
        made = []
        for name, values in (("ACDC", one), ("MM & WHS", two)):
            cases = [f"{name[0]}{i}" for i in range(values.shape[1])]
            files = [
                (
                    m,
                    summary(
                        f"{name[0]}_{m}", {"Dice": values[i], "HD95": 10 * (1 - values[i])}, cases=cases, **options
                    ),
                )
                for i, m in enumerate("AB")
            ]
            made.append(ModelSet(name, files))
        return made

    return make


def analyzed(sets, settings, metric="Dice", subjects=(None, None)):
    read = [read_models(one.models) for one in sets]
    results = [analyze(m, metric, settings, s) for m, s in zip(read, subjects, strict=True)]
    return over_sets(["A", "B"], [m.names for m in read], results, settings)


def test_every_set_counts_the_same(sets):
    r = analyzed(sets(), Settings(resamples=200))
    means = np.array([ONE.mean((1, 2)), TWO.mean((1, 2))])
    np.testing.assert_allclose(r.mean, means)
    np.testing.assert_allclose(r.overall, means.mean(0))
    np.testing.assert_allclose(r.difference[0, 1], means.mean(0)[0] - means.mean(0)[1])
    np.testing.assert_allclose(r.difference, -r.difference.T)
    np.testing.assert_allclose(r.difference_interval[0, 0, 1], -r.difference_interval[1, 1, 0])
    best = int(means.mean(0).argmax())
    assert r.overall_rank[best] == 1 and r.first.sum() == pytest.approx(1)
    np.testing.assert_allclose(r.mean_rank, r.rank.mean(0))


def test_subjects_are_drawn_within_each_set_and_apart_from_the_other(sets):
    """The bootstrap against a naive loop with draws of its own, and against the variance that theory gives."""
    r = analyzed(sets(), Settings(resamples=4000))
    rng = np.random.default_rng(1)
    naive = []
    for _ in range(4000):
        draws = [
            values.mean(2)[:, rng.integers(values.shape[1], size=values.shape[1])].mean(1) for values in (ONE, TWO)
        ]
        naive.append(np.mean(draws, axis=0))
    low, high = np.percentile(naive, (2.5, 97.5), axis=0)
    np.testing.assert_allclose(r.overall_interval, [low, high], atol=0.006)
    paired = [np.array(naive)[:, 0] - np.array(naive)[:, 1]]
    np.testing.assert_allclose(r.difference_interval[:, 0, 1], np.percentile(paired, (2.5, 97.5)), atol=0.008)
    # sets of the same size must not get the same draws: equal sets would then not average out
    same = analyzed(sets(ONE, ONE), Settings(resamples=4000))
    widths = np.diff(same.overall_interval, axis=0) / np.diff(same.interval[:, 0], axis=0)
    np.testing.assert_allclose(widths, np.sqrt(0.5), atol=0.05)


def test_subjects_with_several_cases(sets):
    subjects = [["x", "x", "x", "x", "y", "y"], None]
    r = analyzed(sets(), Settings(resamples=50), subjects=subjects)
    by_subject = ONE[:, :, 0][:, :4].mean(1) / 2 + ONE[:, :, 0][:, 4:].mean(1) / 2
    np.testing.assert_allclose(r.mean[0], by_subject)
    assert r.n.tolist() == [[2, 2], [4, 4]]


def test_a_failure_costs_the_rank_but_not_the_mean(sets):
    """B is better wherever it has a value; where it failed, its distance is missing and counts as the worst."""
    files = sets(np.stack([ONE[0], ONE[0] + 0.05]), np.stack([TWO[0], TWO[0] + 0.05]))
    content = json.loads(files[0].models[1][1].read_text())
    content["metric_per_case"][0]["metrics"]["1"]["HD95"] = None
    files[0].models[1][1].write_text(json.dumps(content))
    r = analyzed(files, Settings(resamples=50), "HD95")
    assert r.overall[1] < r.overall[0] and r.overall_rank.tolist() == [1, 2]


def test_files_and_page(sets, tmp_path):
    out = tmp_path / "out"
    found = compare_sets(sets(), out, Settings(resamples=100))
    assert {p.name for p in out.iterdir()} == {
        "index.html", "comparison.json", "sets.csv", "overall.csv", "differences.csv", "table.md", "table.tex",
        "figures", "sets",
    }  # fmt: skip
    assert {p.name for p in (out / "sets").iterdir()} == {"ACDC", "MM_WHS"}
    with (out / "sets.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "Dice"]
    assert [(row["data set"], row["model"], row["n"]) for row in rows] == [
        ("ACDC", "A", "6"), ("ACDC", "B", "6"), ("MM & WHS", "A", "4"), ("MM & WHS", "B", "4"),
    ]  # fmt: skip
    assert float(rows[1]["mean"]) == pytest.approx(ONE[1].mean())
    with (out / "overall.csv").open(newline="") as file:
        overall = list(csv.DictReader(file))
    assert float(overall[0]["mean over the data sets"]) == pytest.approx((ONE[0].mean() + TWO[0].mean()) / 2)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "MM &amp; WHS" in page and "data sets themselves are not resampled" in page
    assert "sets/ACDC/index.html" in page and found.conclusion.startswith("2 models on 2 data sets.")
    record = json.loads((out / "comparison.json").read_text())
    assert record["metrics"]["HD95"]["B"]["sets"]["ACDC"]["n"] == 6
    assert r"MM \& WHS" in (out / "table.tex").read_text()


def test_a_model_that_a_set_lacks_has_no_mean(sets, tmp_path):
    one, two = sets()
    found = compare_sets([one, ModelSet(two.name, two.models[:1])], tmp_path / "out", Settings(resamples=20))
    r = found.results[0]
    assert np.isnan(r.overall[1]) and np.isnan(r.overall_rank[1]) and r.overall_rank[0] == 1
    assert any("without a mean over them and a rank: 'B'" in text for text in found.notes)
    assert "| B | " in (tmp_path / "out" / "table.md").read_text()


def test_command(sets, tmp_path, capsys):
    one, two = sets()
    words = [f"{s.name}:{name}={file}" for s in (one, two) for name, file in s.models]
    out = ["-o", str(tmp_path / "out"), "--bootstrap", "50", "--metrics", "Dice"]
    assert main(["compare", *words, *out]) == 0
    first = capsys.readouterr().out
    assert "mean ± SD over the cases of each data set" in first and "2 models on 2 data sets" in first
    table = {s.name: {name: file.name for name, file in s.models} for s in (one, two)}
    (tmp_path / "sets.json").write_text(json.dumps(table))
    assert main(["compare", str(tmp_path / "sets.json"), *out]) == 0
    assert capsys.readouterr().out == first
    people = {f"A{i}": f"p{i // 2}" for i in range(6)}
    (tmp_path / "people.json").write_text(json.dumps(people))
    assert main(["compare", *words, *out, "--subjects", f"ACDC={tmp_path / 'people.json'}"]) == 0
    assert "cases or subjects of each data set" in capsys.readouterr().out


def test_refusals(sets, summary, tmp_path, capsys):
    one, two = sets()
    (a, b), (c, d) = ([f"{name}={file}" for name, file in s.models] for s in (one, two))
    (tmp_path / "bad.json").write_text('{"ACDC": ["a.json"]}')
    for words, message in (
        ([f"ACDC:{a}", b], "some models name a data set; name one for all"),
        ([f"ACDC:{a}", f"X:B={two.models[1][1]}"], "No model is in all of the data sets ACDC, X"),
        ([f"A C:{a}", f"A_C:{c}"], "become one folder"),
        ([str(tmp_path / "bad.json")], 'ACDC is ["a.json"]; give an object'),
        ([str(one.models[0][1])], "a summary.json itself is given as NAME=FILE"),
        ([str(tmp_path / "bad.json"), a], "give one JSON file alone"),
        ([f"ACDC:{a}", f"X:{c}", "--subjects", "Y=f.json"], "--subjects Y=f.json: give one file for all, or SET=FILE"),
        ([f"ACDC:{a}", f"X:{c}", "--metrics", "Surface"], "Metric 'Surface'"),
        ([f"ACDC:{a}", f"X:{c}", "--modality", "m.json"], "--modality is of one data set"),
        ([a, b, "--subjects", "x.json", "y.json"], "give one file; SET=FILE is for models SET:NAME=FILE"),
    ):
        assert main(["compare", *words, "-o", str(tmp_path / "out")]) == 1, words
        assert message in capsys.readouterr().err
    (tmp_path / "out" / "sets" / "X").mkdir(parents=True)
    kept = tmp_path / "out" / "sets" / "X" / "comparison.json"
    kept.write_bytes(two.models[0][1].read_bytes())
    assert main(["compare", f"ACDC:{a}", f"X:A={kept}", "-o", str(tmp_path / "out")]) == 1
    assert "which this command reads" in capsys.readouterr().err and "metric_per_case" in kept.read_text()
    other = [("A", summary("other", {"Dice": ONE[0]}, definition={"nsd_tolerance": 1.0, "hd95": "max"}))]
    with pytest.raises(ValueError, match="were computed in different ways"):
        compare_sets([one, ModelSet("X", other)], tmp_path / "out", Settings())
