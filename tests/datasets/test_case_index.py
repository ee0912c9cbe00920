"""pool_cases.json: written, read, refused."""

import json

import pytest

from nnunet_xlstm.datasets.case_index import CaseRecord, PoolCases, read_pool_cases


def sequence():
    cases = {f"p_t{t:02d}": CaseRecord("a", "a/p", "MR", t, 16, ("p.nii.gz",)) for t in range(16)}
    return cases | {"still": CaseRecord("a", "a/p", "MR")}


def test_write_and_read_agree(tmp_path):
    pool = PoolCases(sequence(), "modality", {"key": {"fingerprint": "x"}})
    path = tmp_path / "pool_cases.json"
    path.write_text(json.dumps(pool.to_json()))
    assert read_pool_cases(path) == pool
    assert read_pool_cases(path).column("source") == dict.fromkeys(sequence(), "a")


GOOD = {"source": "a", "subject": "p", "modality": "MR", "frame": None, "frames": None, "images": []}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ([], "holds a list; it must hold an object"),
        ("[" * 100_000, "nested too deeply"),
        ({"cases": {}}, 'key "format" is missing; give 1, which this version reads'),
        ({"format": 1, "cases": {"../c": GOOD}}, 'cases has the key "../c"; give the name of a file'),
        ({"format": 1, "cases": {"c": GOOD | {"images": None}}}, "cases.c.images is null; give a list"),
        (
            {"format": 1, "cases": {"c": GOOD | {"frame": True, "frames": 2}}},
            "c.frame is true; give null, or a whole number",
        ),
        ({"format": 1, "cases": {}, "inputs": []}, r"inputs is \[\]; give an object"),
        ({"format": 2, "cases": {}}, "format is 2; give 1, which this version reads; run the command that made it"),
        ({"format": 1}, 'key "cases" is missing'),
        ({"format": 1, "cases": {}, "sampling": "x"}, 'sampling is "x"; give one of sqrt'),
        ({"format": 1, "cases": {"c": GOOD | {"colour": 1}}}, 'cases.c: key "colour" is unknown; use source, subject'),
        ({"format": 1, "cases": {"c": GOOD | {"modality": "US"}}}, 'cases.c.modality is "US"; give one of CT, MR, PET'),
        ({"format": 1, "cases": {"c": GOOD | {"subject": ""}}}, 'cases.c.subject is ""; give text'),
        (
            {"format": 1, "cases": {"c": GOOD | {"frame": 3, "frames": 3}}},
            "cases.c has frame 3 of 3; give one below",
        ),
        (
            {"format": 1, "cases": {"c": GOOD | {"frame": 3}}},
            "frame 3 of null; give one below, or null for both",
        ),
    ],
)
def test_wrong_files(tmp_path, content, words):
    path = tmp_path / "pool_cases.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=words):
        read_pool_cases(path)
