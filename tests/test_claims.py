"""docs/claims.yaml: complete rows, verdicts that follow, and the numbers of the scores below docs/results."""

import re
from pathlib import Path

import pytest
from support.doc_tools import DOCS, claims
from support.markdown import anchors

ROOT = Path(__file__).parents[1]
TOPICS, QUESTIONS = claims.load()
CLAIMS = [claim for rows in TOPICS.values() for claim in rows]
STUDIES = sorted((DOCS / "results").glob("*.md"))
HEADINGS = ["Question", "Setup", "Table", "Figure", "Limits", "Command"]


def claim(**changes):
    row = {"id": "a", "claim": "b", "effect": 0.1, "interval": (0.05, 0.15), "subjects": 8, "seeds": 1}
    return claims.Claim(**{**row, "verdict": "supported", "result": "c.md#d", "command": "e.py", **changes})


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "supported"),
        ({"interval": (-0.15, -0.05)}, "not supported"),
        ({"interval": (-0.05, 0.15)}, "inconclusive"),
        ({"interval": (0.0, 0.15)}, "inconclusive"),
        ({"needs": 0.02}, "supported"),
        ({"needs": 0.1}, "inconclusive"),
        ({"needs": 0.2}, "not supported"),
        ({"subjects": 5}, "inconclusive"),
        ({"interval": None}, "inconclusive"),
    ],
)
def test_verdict_follows_from_the_interval(changes, verdict):
    assert claim(**changes).verdict_by_rule == verdict


def test_effect_and_interval_as_text():
    assert claim(effect=0.0035, digits=4, interval=(-0.0, 0.0043)).effect_text == "+0.0035"
    assert claim(effect=0.0035, digits=4, interval=(-0.0, 0.0043)).interval_text == "-0.0000 to +0.0043"
    assert claim(interval=None).interval_text == "–"


def test_every_row_has_an_id_of_its_own():
    assert len({c.id for c in CLAIMS}) == len(CLAIMS)


@pytest.mark.parametrize("c", CLAIMS, ids=lambda c: c.id)
def test_row(c):
    assert c.verdict in claims.VERDICTS
    assert c.verdict == c.verdict_by_rule or c.why, f"by its interval it is {c.verdict_by_rule}: change it, or say why"
    assert c.claim and c.seeds >= 1
    assert c.interval is None or c.interval[0] <= c.effect <= c.interval[1]
    page, _, anchor = c.result.partition("#")
    assert anchor in anchors((DOCS / "results" / page).read_text(encoding="utf-8"))
    script, *arguments = c.command.split()
    source = "".join((ROOT / "benchmarks" / name).read_text(encoding="utf-8") for name in (script, "bench.py"))
    assert all(f'"{flag}"' in source for flag in arguments if flag.startswith("--")), c.command


@pytest.mark.parametrize("c", [c for c in CLAIMS if c.source], ids=lambda c: c.id)
def test_numbers_are_those_of_the_scores(c):
    """To the last printed digit; probe.csv is itself rounded to 1e-4."""
    effect, low, high = claims.look_up(c.source)
    tolerance = 0.5 * 10**-c.digits + 1e-4
    assert c.effect == pytest.approx(effect, abs=tolerance)
    if low is not None:
        assert c.interval == pytest.approx((low, high), abs=tolerance)


def test_only_these_claims_have_no_scores_in_the_repository():
    assert {c.id for c in CLAIMS if not c.source} == {
        *("pool-samples-hippocampus", "pool-samples-acdc", "pool-samples-head-neck-ct"),  # runs beside the table
        "restrict",  # counted
    }


def test_recomputed_intervals_are_paired_over_subjects(tmp_path, monkeypatch):
    """Two classes and two phases of a patient: one value for each patient."""
    rows = ["variant,data set,class,case,Dice"]
    for variant, gain in (("a", 0.1), ("b", 0.0)):
        for patient in range(3):
            for phase in ("ED", "ES"):
                rows += [f"{variant},D,{k},patient{patient}_{phase},{0.2 * patient + 0.1 * k + gain}" for k in (1, 2)]
    (tmp_path / "scores.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(claims, "RESULTS", tmp_path)
    assert list(claims.by_subject(["scores.csv"], "b", "D")) == ["patient0", "patient1", "patient2"]
    found = claims.look_up({"scores": ["scores.csv"], "dataset": "D", "minus": ["a", "b"]})
    assert found == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.parametrize("q", QUESTIONS, ids=lambda q: q.page)
def test_question_of_the_index(q):
    """Its effect is a claim's of its page, or numbers that stand on it."""
    text = (DOCS / "results" / q.page).read_text(encoding="utf-8")
    if q.claim:
        (c,) = [c for c in CLAIMS if c.id == q.claim]
        assert c.result.partition("#")[0] == q.page and c.effect_text in text
    else:
        assert set(re.findall(r"\d[\d,.]*\d|\d", q.measured)) <= set(re.findall(r"\d[\d,.]*\d|\d", text))


def test_the_readme_has_five_rows():
    assert sum(q.readme for q in QUESTIONS) == 5


@pytest.mark.parametrize("page", STUDIES, ids=lambda p: p.name)
def test_every_study_has_the_same_headings(page):
    assert re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE) == HEADINGS


def test_every_study_is_in_the_index_or_still_empty():
    listed = {q.page for q in QUESTIONS}
    for page in STUDIES:
        assert page.name in listed or "## Table\n\n##" in page.read_text(encoding="utf-8"), page.name
