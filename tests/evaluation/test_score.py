"""Scores of one case: by hand, empty masks, regions and the ignore label, parity with nnU-Net."""

import json
import math

import numpy as np
import pytest

from nnunet_xlstm.datasets.dataset_json import DatasetFile, scored_labels
from nnunet_xlstm.evaluation.score import Settings, score_case
from nnunet_xlstm.evaluation.summary import METRICS

PLAIN = scored_labels({"background": 0, "one": 1, "two": 2})


def maps(*rows):
    """Label maps of one row of voxels."""
    return [np.array(row, dtype=np.uint8).reshape(1, 1, -1) for row in rows]


def test_by_hand():
    reference, prediction = maps([1, 1, 1, 0, 2, 0], [1, 1, 0, 0, 2, 2])
    metrics, flags = score_case(reference, prediction, PLAIN, (1, 1, 2))
    one, two = metrics["1"], metrics["2"]
    assert list(one) == list(METRICS)
    assert (one["TP"], one["FP"], one["FN"], one["TN"]) == (2, 0, 1, 3)
    assert one["Dice"] == 4 / 5 and one["IoU"] == 2 / 3
    # a row: the borders are its ends, at 0 and 4 mm, and at 0 and 2 mm
    assert one["HD"] == 2 and one["ASSD"] == (0 + 2 + 0 + 2) / 4
    assert one["NSD"] == 1  # 2 mm is within the tolerance
    assert one["VolumeRef"] == pytest.approx(0.006) and one["VolumePred"] == pytest.approx(0.004)
    assert one["SVD"] == pytest.approx(-0.002) and one["AVD"] == pytest.approx(0.002)
    assert one["RVE"] == pytest.approx(1 / 3)
    assert two["SVD"] == pytest.approx(0.002) and two["RVE"] == 1
    assert flags == {"1": {}, "2": {}}


def test_settings_change_what_they_say():
    reference, prediction = maps([1, 1, 1, 1, 0], [1, 0, 0, 0, 0])
    both = [score_case(reference, prediction, PLAIN, (1, 1, 1), Settings(hd95=h))[0]["1"] for h in ("max", "pooled")]
    assert both[0]["HD95"] == pytest.approx(2.85)  # of 0 and 3
    assert both[1]["HD95"] == pytest.approx(np.percentile([0, 3, 0], 95))
    strict = score_case(reference, prediction, PLAIN, (1, 1, 1), Settings(nsd_tolerance=0))[0]["1"]
    assert strict["NSD"] == 2 / 3


@pytest.mark.parametrize("policy, value", [("diagonal", math.hypot(2, 3)), ("inf", math.inf), ("nan", math.nan)])
@pytest.mark.parametrize("missing", ["prediction", "reference"])
def test_one_empty(policy, value, missing):
    full, empty = np.zeros((2, 1, 3, 4), dtype=np.uint8)
    full[0, 1, 1] = 1
    pair = (full, empty) if missing == "prediction" else (empty, full)
    metrics, flags = score_case(*pair, PLAIN, (1, 1, 1), Settings(one_empty=policy))
    row = metrics["1"]
    assert row["Dice"] == row["IoU"] == row["NSD"] == 0
    assert [row[m] for m in ("HD", "HD95", "ASSD")] == pytest.approx([value] * 3, nan_ok=True)
    assert f"the {missing} is empty" in flags["1"]["HD95"]
    assert row["RVE"] == pytest.approx(1.0 if missing == "prediction" else math.nan, nan_ok=True)
    assert ("RVE" in flags["1"]) == (missing == "reference")
    diagonal = score_case(*pair, PLAIN, (1, 1, 1))[0]["1"]["HD"]
    assert diagonal == pytest.approx(math.hypot(2, 3))  # between corner voxels of 1 x 3 x 4


@pytest.mark.parametrize("policy", ["nan", "perfect"])
def test_both_empty(policy):
    empty = np.zeros((3, 3, 3), dtype=np.uint8)
    metrics, flags = score_case(empty, empty, PLAIN, (1, 1, 1), Settings(both_empty=policy))
    expected = {"nan": [math.nan] * 7, "perfect": [1, 1, 1, 0, 0, 0, 0]}[policy]
    row = [metrics["1"][m] for m in ("Dice", "IoU", "NSD", "HD", "HD95", "ASSD", "RVE")]
    assert row == pytest.approx(expected, nan_ok=True)
    assert metrics["1"]["AVD"] == 0 and metrics["1"]["TN"] == 27
    assert "both empty" in flags["1"]["Dice"]


def test_regions_are_unions():
    classes = scored_labels({"background": 0, "whole": [1, 2], "core": [2]})
    assert list(classes.scored) == ["(1, 2)", "(2,)"] and list(classes.names.values()) == ["whole", "core"]
    reference, prediction = maps([1, 2, 2, 0], [1, 1, 2, 2])
    metrics, _ = score_case(reference, prediction, classes, (1, 1, 1))
    assert (metrics["(1, 2)"]["TP"], metrics["(1, 2)"]["FP"]) == (3, 1)
    assert (metrics["(2,)"]["TP"], metrics["(2,)"]["FP"], metrics["(2,)"]["FN"]) == (1, 1, 1)
    assert metrics["(1, 2)"]["HD"] == 1


def test_ignored_voxels_count_nowhere():
    classes = scored_labels({"background": 0, "one": 1, "ignore": 2})
    reference, prediction = maps([1, 1, 0, 2, 2, 0], [1, 1, 0, 1, 1, 0])
    row = score_case(reference, prediction, classes, (1, 1, 1))[0]["1"]
    assert (row["TP"], row["FP"], row["FN"], row["TN"]) == (2, 0, 0, 2)
    assert row["Dice"] == 1 and row["HD"] == 0 and row["n_pred"] == 2
    only_ignored = maps([0, 0, 0, 2, 2, 0], [0, 0, 0, 1, 1, 0])
    row = score_case(*only_ignored, classes, (1, 1, 1))[0]["1"]
    assert math.isnan(row["Dice"]) and row["n_pred"] == 0
    with pytest.raises(ValueError, match="the prediction holds the label 2"):
        score_case(*maps([1, 0], [1, 2]), classes, (1, 1, 1))


def test_unknown_label_and_shape():
    with pytest.raises(ValueError, match=r"the reference holds the label 3, .* \(it has \[0, 1, 2\]\)"):
        score_case(*maps([1, 3], [1, 1]), PLAIN, (1, 1, 1))
    with pytest.raises(ValueError, match="they must be 0 to 65535"):
        score_case(np.array([[-1, 1]]), np.array([[0, 1]]), PLAIN, (1, 1))
    with pytest.raises(ValueError, match="has shape"):
        score_case(*maps([1, 0], [1, 0, 0]), PLAIN, (1, 1, 1))


def test_a_single_slice_is_scored_like_a_2d_image():
    y, x = np.ogrid[:40, :40]
    a, b = ((np.hypot(y - 20, x - c) < 9).astype(np.uint8) for c in (18, 22))
    flat, _ = score_case(a, b, PLAIN, (1, 1))
    slab, flags = score_case(a[None], b[None], PLAIN, (5, 1, 1))
    for metric in ("Dice", "HD", "HD95", "ASSD", "NSD", "RVE", "TN"):
        assert slab["1"][metric] == flat["1"][metric]
    assert slab["1"]["VolumeRef"] == pytest.approx(5 * a.sum() / 1000) and not flags["1"]
    stack = [np.stack([0 * m, m, 0 * m]) for m in (a, b)]  # one slice of several: both its faces are border
    assert score_case(*stack, PLAIN, (5, 1, 1))[0]["1"]["ASSD"] < slab["1"]["ASSD"]


def test_a_2d_image_has_no_volume():
    metrics, flags = score_case(*(m[0] for m in maps([1, 1, 0], [1, 0, 0])), PLAIN, (1, 1))
    assert math.isnan(metrics["1"]["VolumeRef"]) and metrics["1"]["RVE"] == 0.5
    assert flags["1"]["AVD"] == "undefined: a 2D image has no volume"


def test_swapping_the_maps_mirrors_the_scores():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, (2, 6, 7, 8)).astype(np.uint8)
    one, two = (score_case(*pair, PLAIN, (2, 1, 1))[0]["1"] for pair in ((a, b), (b, a)))
    for same in ("Dice", "IoU", "HD", "HD95", "ASSD", "NSD", "AVD", "TP", "TN"):
        assert one[same] == pytest.approx(two[same])
    assert one["FP"] == two["FN"] and one["SVD"] == pytest.approx(-two["SVD"])


def test_overlap_equals_nnunet():
    metrics = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions")
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 4, (2, 5, 6, 7)).astype(np.uint8)
    classes = scored_labels({"background": 0, "one": 1, "both": [1, 2], "ignore": 3})
    b[b == 3] = 0
    ours, _ = score_case(a, b, classes, (1, 1, 1))
    for key, members in classes.scored.items():
        ref, pred = (metrics.region_or_label_to_mask(x, members if len(members) > 1 else members[0]) for x in (a, b))
        tp, fp, fn, tn = metrics.compute_tp_fp_fn_tn(ref, pred, a == 3)
        assert [ours[key][m] for m in ("TP", "FP", "FN", "TN")] == [tp, fp, fn, tn]


@pytest.mark.parametrize(
    "labels, message",
    [
        (None, "labels is null; give an object name -> id"),
        ({"background": 0}, "the background only"),
        ({"background": 0, "a": "1"}, 'labels.a is "1"; give a whole number'),
        ({"background": 0, "a": []}, r"labels.a is \[\]"),
        ({"background": 0, "a": True}, "labels.a is true"),
        ({"background": 0, "a": 1, "b": 1}, 'labels "a" and "b" are both 1; give each its own'),
        ({"background": 0, "a": [1, 1]}, r"labels.a is \[1, 1\]; give a list of at least 1 different entries"),
        ({"background": 0, "a": [0, 1]}, r"labels.a is \[0, 1\], which holds the background"),
        ({"background": 0, "a": 1, "ignore": 1}, "holds the ignore label, 1"),
        ({"background": 0, "a": 1, "ignore": [2, 3]}, r"labels.ignore is \[2, 3\]; give one id"),
    ],
)
def test_wrong_labels(labels, message, tmp_path):
    (tmp_path / "dataset.json").write_text("{}" if labels is None else json.dumps({"labels": labels}))
    with pytest.raises(ValueError, match=message):
        DatasetFile.read(tmp_path).scored_labels()


@pytest.mark.parametrize("text", ["[1, 2]", '{"labels": {"a": null}}', "nonsense"])
def test_damaged_dataset_json(text, tmp_path):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match="dataset.json"):
        DatasetFile.read(tmp_path).scored_labels()


def test_keys_are_nnunets():
    """A list of one id is a label where there are no regions, and a region beside others."""
    assert list(scored_labels({"a": [1], "b": 2}).scored) == ["1", "2"]
    assert list(scored_labels({"a": [1], "b": 2, "c": [1, 2]}).scored) == ["(1,)", "2", "(1, 2)"]


def test_wrong_settings():
    with pytest.raises(ValueError, match="hd95 'mean' is unknown; use max or pooled"):
        Settings(hd95="mean")
    with pytest.raises(ValueError, match="nsd_tolerance -1"):
        Settings(nsd_tolerance=-1)
