"""How often cases are drawn, by hand; and partners of frames."""

import pickle
from collections import Counter

import numpy as np
import pytest

from nnunet_xlstm.datasets.case_index import SAMPLING, CaseRecord
from nnunet_xlstm.datasets.sampling import FramePartner, near_frames, sampling_probabilities


def rows():
    """Source a (MR): 4 subjects, s0 with 3 cases; b (CT): 1 subject with 2 cases."""
    cases = {f"a0_{i}": CaseRecord("a", "a/0", "MR") for i in range(3)}
    cases |= {f"a{i}": CaseRecord("a", f"a/{i}", "MR") for i in (1, 2, 3)}
    return cases | {f"b0_{i}": CaseRecord("b", "b/0", "CT") for i in range(2)}


def test_sqrt_by_hand():
    # sources: sqrt(4) : sqrt(1) = 2/3 : 1/3; a subject of a: 1/6; a case of its three: 1/18; a case of b: 1/6
    p = sampling_probabilities(rows(), list(rows()), "sqrt")
    np.testing.assert_allclose(p, [1 / 18] * 3 + [1 / 6] * 3 + [1 / 6] * 2)


def test_modality_and_uniform_by_hand():
    cases = rows() | {"c": CaseRecord("c", "c/0", "MR")}
    p = dict(zip(cases, sampling_probabilities(cases, list(cases), "modality"), strict=True))
    # CT 1/2: its two cases 1/4 each. MR 1/2: a has 2/3 of it, c 1/3
    assert p["b0_0"] == pytest.approx(1 / 4) and p["c"] == pytest.approx(1 / 6)
    assert p["a1"] == pytest.approx(1 / 2 * 2 / 3 / 4) and p["a0_2"] == pytest.approx(p["a1"] / 3)
    np.testing.assert_allclose(sampling_probabilities(cases, list(cases), "uniform"), 1 / 9)


def test_one_source_of_two_modalities_is_split_only_by_modality():
    cases = {f"{m}{i}": CaseRecord("x", f"x/{i}", m) for m, n in (("CT", 1), ("MR", 3)) for i in range(n)}
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
    cases = {f"p_t{t:02d}": CaseRecord("a", "a/p", "MR", t, 16, ("p.nii.gz",)) for t in range(16)}
    cases |= {f"q_t{t:02d}": CaseRecord("a", "a/p", "MR", t, 16, ("q.nii.gz",)) for t in range(16)}  # same subject
    return cases | {"still": CaseRecord("a", "a/p", "MR")}


def test_frame_partner():
    np.random.seed(0)
    keys = [case for case in sequences() if case != "p_t01"]
    partner = pickle.loads(pickle.dumps(FramePartner(sequences(), keys)))
    drawn = Counter(partner("p_t00") for _ in range(300))
    assert set(drawn) == {"p_t02", "p_t14", "p_t15"} and min(drawn.values()) > 60  # p_t01 is not among the keys
    assert partner("still") == "still" and partner("p_t01") == "p_t01"
    lonely = FramePartner(sequences(), ["p_t00", "p_t08"])
    assert lonely("p_t00") == "p_t00"
