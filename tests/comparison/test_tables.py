"""Numbers as text, the best in bold, and names that stay names in Markdown and LaTeX."""

import numpy as np
import pytest

from nnunet_xlstm.comparison import tables
from nnunet_xlstm.comparison.analysis import Settings, analyze
from nnunet_xlstm.comparison.inputs import ModelScores

NASTY = "a&b_50% {x} #1 \\cmd $m^2$ ~|<script>"


@pytest.fixture
def model_scores(dice):
    return ModelScores(
        [NASTY, "b", "c"], [f"case{i}" for i in range(12)], {"1": "LV", "2": "<RV>"}, {"Dice": dice}, {}, {}
    )


@pytest.fixture
def results(model_scores):
    return [analyze(model_scores, "Dice", Settings())]


def test_numbers():
    assert tables.mean_sd(0.91234, 0.0316, "Dice") == "0.912 ± 0.032"
    assert tables.mean_sd(5.678, np.nan, "HD95") == "5.68"
    assert tables.mean_sd(np.nan, np.nan, "HD95") == "–"
    assert tables.title("HD95") == "HD95 (mm)" and tables.title("Dice") == "Dice"


def test_best_is_what_reads_best():
    assert tables.best(np.array([0.91231, 0.91234, 0.9]), "Dice").tolist() == [True, True, False]
    assert tables.best(np.array([3.0, np.nan, 2.0]), "HD95").tolist() == [False, False, True]
    assert not tables.best(np.array([0.5]), "Dice").any() and not tables.best(np.full(2, np.nan), "Dice").any()


def test_markdown(model_scores, results):
    text = tables.markdown(tables.paper_tables(model_scores, results), ["a note"])
    lines = text.splitlines()
    assert lines[2] == "| Model | Dice ↑ |" and lines[4].startswith(
        r"| a\&b\_50% {x} \#1 \\cmd \$m^2\$ \~\|\<script\> |"
    )
    assert lines[4].endswith("** |") and "**" not in lines[5]
    assert r"\<RV\>" in text and text.endswith("a note\n")
    unescaped = [line.replace(r"\|", "").count("|") for line in lines if line.startswith("|")]
    assert unescaped == [3] * 5 + [5] * 5


def test_latex(model_scores, results):
    text = tables.latex(tables.paper_tables(model_scores, results), [])
    name = (
        r"a\&b\_50\% \{x\} \#1 \textbackslash{}cmd \$m\textasciicircum{}2\$ "
        r"\textasciitilde{}\textbar{}\textless{}script\textgreater{}"
    )
    assert f"{name} & \\textbf{{" in text and r"$\pm$" in text and r"Dice $\uparrow$" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert [line.replace(r"\&", "").count("&") for line in rows] == [1] * 4 + [3] * 4
    assert text.count("{") == text.count("}") and text.isascii()


def test_one_model_has_no_best(model_scores):
    alone = ModelScores(
        ["a"], model_scores.cases, model_scores.classes, {"Dice": model_scores.values["Dice"][:1]}, {}, {}
    )
    text = tables.markdown(tables.paper_tables(alone, [analyze(alone, "Dice", Settings())]), [])
    assert "**" not in text and "bold" not in text


def test_fewer_cases_are_shown_and_not_compared(dice):
    """Model b lacks LV in two cases: n stands in its cell, and no LV is bold; the failures leave no best average."""
    dice[1, :2, 0] = np.nan
    sizes = {"n_ref": np.ones_like(dice), "n_pred": np.ones_like(dice)}
    model_scores = ModelScores(
        list("abc"), [f"case{i}" for i in range(12)], {"1": "LV", "2": "RV"}, {"NSD": dice} | sizes, {}, {}
    )
    found = analyze(model_scores, "NSD", Settings())
    assert [tables.best_marks(found, c).tolist() for c in range(3)] == [[False] * 3, [True, False, False], [False] * 3]
    (caption, _, rows), (_, _, per_class) = tables.paper_tables(model_scores, [found])
    assert caption == "Average over the classes: mean ± SD over the 12 cases, or the n that have a value."
    assert [row[1][0].endswith("(n 10)") for row in rows] == [False, True, False] and "(n 10)" in per_class[1][1][0]
    assert "bold" not in tables.markdown([(caption, ["Model", "NSD"], rows)], [])
    assert "bold, where all models have" in tables.markdown(tables.paper_tables(model_scores, [found])[1:], [])


def test_rows(model_scores, results):
    header, rows = tables.table_rows(model_scores, results)
    assert len(rows) == 3 * 4 and all(len(row) == len(header) for row in rows)
    assert [row[3] for row in rows[:4]] == ["1", "2", "case average", "class mean"]
    header, rows = tables.score_rows(model_scores, results, {"subject": ["s"] * 12})
    assert header == ["case", "subject", "model", "Dice", "Dice LV", "Dice <RV>"] and len(rows) == 36
    np.testing.assert_allclose(rows[0][3], np.mean(rows[0][4:]))
    header, rows = tables.p_value_rows(model_scores, results, 0.05)
    assert len(rows) == 6 and all(len(row) == len(header) for row in rows)
    assert rows[0][:4] == ["Dice", "cases", NASTY, "b"] and rows[0][header.index("significant")]
    assert rows[0][header.index("underpowered")] is False and rows[0][header.index("difference_n")] == 12
    header, rows = tables.rank_rows(model_scores, results)
    assert [row[3] for row in rows] == [1, 2, 3] and all(len(row) == len(header) for row in rows)
