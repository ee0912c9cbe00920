"""pool_cases.json: written, read, refused."""

import json

import pytest

from nnunet_xlstm.datasets.case_index import CaseRow, PoolCases, read_pool_cases


def sequence():
    cases = {f"p_t{t:02d}": CaseRow("a", "a/p", "MR", t, 16, ("p.nii.gz",)) for t in range(16)}
    return cases | {"still": CaseRow("a", "a/p", "MR")}


def test_write_and_read_agree(tmp_path):
    pool = PoolCases(sequence(), "modality", {"key": {"stamp": "x"}})
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
        ({"cases": {}}, "format None"),
        ({"format": 1, "cases": {"../c": GOOD}}, "'../c' cannot be the name of a file"),
        ({"format": 1, "cases": {"c": GOOD | {"images": None}}}, "images must be a list of paths"),
        ({"format": 1, "cases": {"c": GOOD | {"frame": True, "frames": 2}}}, "a number below frames"),
        ({"format": 1, "cases": {}, "inputs": []}, "inputs must be a table"),
        ({"format": 2, "cases": {}}, "format 2; this version reads format 1"),
        ({"format": 1}, "format 1"),
        ({"format": 1, "cases": {}, "sampling": "x"}, "use one of sqrt"),
        ({"format": 1, "cases": {"c": GOOD | {"colour": 1}}}, "case 'c' has other keys"),
        ({"format": 1, "cases": {"c": GOOD | {"modality": "US"}}}, "modality one of CT, MR, PET"),
        ({"format": 1, "cases": {"c": GOOD | {"subject": ""}}}, "must be texts"),
        ({"format": 1, "cases": {"c": GOOD | {"frame": 3, "frames": 3}}}, "a number below frames"),
        ({"format": 1, "cases": {"c": GOOD | {"frame": 3}}}, "a number below frames"),
    ],
)
def test_wrong_files(tmp_path, content, words):
    path = tmp_path / "pool_cases.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=words):
        read_pool_cases(path)
