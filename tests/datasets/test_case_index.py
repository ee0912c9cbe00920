"""The side-car: reading, sampling by hand, partners of frames."""

import json
import pickle
from collections import Counter

import numpy as np
import pytest

from nnunet_xlstm.datasets.case_index import (
    SAMPLING,
    CaseRow,
    PoolCases,
    near_frames,
    read_pool_cases,
    sampling_probabilities,
)


def rows():
    """Source a (MR): 4 subjects, s0 with 3 cases; b (CT): 1 subject with 2 cases."""
    cases = {f"a0_{i}": CaseRow("a", "a/0", "MR") for i in range(3)}
    cases |= {f"a{i}": CaseRow("a", f"a/{i}", "MR") for i in (1, 2, 3)}
    return cases | {f"b0_{i}": CaseRow("b", "b/0", "CT") for i in range(2)}


def test_sqrt_by_hand():
    # sources: sqrt(4) : sqrt(1) = 2/3 : 1/3; a subject of a: 1/6; a case of its three: 1/18; a case of b: 1/6
    p = sampling_probabilities(rows(), list(rows()), "sqrt")
    np.testing.assert_allclose(p, [1 / 18] * 3 + [1 / 6] * 3 + [1 / 6] * 2)


def test_modality_and_uniform_by_hand():
    cases = rows() | {"c": CaseRow("c", "c/0", "MR")}
    p = dict(zip(cases, sampling_probabilities(cases, list(cases), "modality"), strict=True))
    # CT 1/2: its two cases 1/4 each. MR 1/2: a has 2/3 of it, c 1/3
    assert p["b0_0"] == pytest.approx(1 / 4) and p["c"] == pytest.approx(1 / 6)
    assert p["a1"] == pytest.approx(1 / 2 * 2 / 3 / 4) and p["a0_2"] == pytest.approx(p["a1"] / 3)
    np.testing.assert_allclose(sampling_probabilities(cases, list(cases), "uniform"), 1 / 9)


def test_one_source_of_two_modalities_is_split_only_by_modality():
    cases = {f"{m}{i}": CaseRow("x", f"x/{i}", m) for m, n in (("CT", 1), ("MR", 3)) for i in range(n)}
    p = sampling_probabilities(cases, list(cases), "modality")
    np.testing.assert_allclose(p, [1 / 2] + [1 / 6] * 3)


@pytest.mark.parametrize("scheme", SAMPLING)
def test_only_the_keys_count_in_their_order(scheme):
    keys = ["b0_1", "a3", "a0_0"]
    p = sampling_probabilities(rows(), keys, scheme)
    assert p.sum() == pytest.approx(1) and p.shape == (3,)
    np.testing.assert_allclose(sampling_probabilities(rows(), keys[::-1], scheme), p[::-1])
    if scheme == "sqrt":  # two subjects of a, one of b
        np.testing.assert_allclose(p, np.array([1, 2**0.5 / 2, 2**0.5 / 2]) / (1 + 2**0.5))


def test_errors_of_sampling():
    with pytest.raises(ValueError, match="no row of case 'z' .1 missing."):
        sampling_probabilities(rows(), ["a1", "z"])
    with pytest.raises(ValueError, match="no case to draw"):
        sampling_probabilities(rows(), [])
    with pytest.raises(ValueError, match="use one of sqrt, modality, uniform"):
        sampling_probabilities(rows(), ["a1"], "best")


def test_near_frames_are_circular():
    assert near_frames(0, 20) == [1, 2, 18, 19]
    assert near_frames(2, 3) == [0, 1]
    assert near_frames(0, 2) == [1] and near_frames(0, 1) == []


def sequences():
    cases = {f"p_t{t:02d}": CaseRow("a", "a/p", "MR", t, 16, ("p.nii.gz",)) for t in range(16)}
    cases |= {f"q_t{t:02d}": CaseRow("a", "a/p", "MR", t, 16, ("q.nii.gz",)) for t in range(16)}  # same subject
    return cases | {"still": CaseRow("a", "a/p", "MR")}


def test_frame_partner():
    np.random.seed(0)
    keys = [case for case in sequences() if case != "p_t01"]
    partner = pickle.loads(pickle.dumps(PoolCases(sequences()).frame_partner(keys)))
    drawn = Counter(partner("p_t00") for _ in range(300))
    assert set(drawn) == {"p_t02", "p_t14", "p_t15"} and min(drawn.values()) > 60  # p_t01 is not among the keys
    assert partner("still") == "still" and partner("p_t01") == "p_t01"
    lonely = PoolCases(sequences()).frame_partner(["p_t00", "p_t08"])
    assert lonely("p_t00") == "p_t00"


def test_write_and_read_agree(tmp_path):
    pool = PoolCases(sequences(), "modality", {"key": {"stamp": "x"}})
    path = tmp_path / "pool_cases.json"
    path.write_text(json.dumps(pool.to_json()))
    assert read_pool_cases(path) == pool
    assert read_pool_cases(path).column("source") == dict.fromkeys(sequences(), "a")


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
