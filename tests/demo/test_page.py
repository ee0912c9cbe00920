"""The demo's page: what it says. That pages are safe and well formed is tested in tests/report."""

from nnunet_xlstm.demo.page import build_page, format_dice


def make_summary(**changes) -> dict:
    return {
        "dataset": "Dataset900_HeartPhantom",
        "scored_on": "test cases",
        "n_scored": 8,
        "mean_dice": 0.9,
        "dice": {"LV": 0.95, "RV": None},
        "intensity_baseline": {
            "mean": 0.2,
            "per_structure": {"LV": 0.3, "RV": None},
            "rule": "best bins per structure",
        },
        "seconds": {"plan": 12.0, "train": 100.4},
        "total_seconds": 150.0,
        "device": "cpu",
        "seed": 0,
        "trainer": "T",
        "plans": "P",
        "config": {"num_epochs": 6},
        "environment": {"nnUNet_raw": "/tmp/my demo/nnUNet_raw"},
        "commands": [{"stage": "plan", "command": ["nnUNetv2_plan_and_preprocess", "-d", "900"], "seconds": 12.0}],
        "versions": {"torch": "2"},
        "finished": "2026-01-01T00:00:00+00:00",
    } | changes


def test_content(picture, parse):
    text = parse(build_page(make_summary(), [("case one", picture)]).html()).text
    for expected in (
        "0.950",
        "0.900",
        "0.300",
        "–",
        "case one",
        "nnUNetv2_plan_and_preprocess -d 900",
        "2.5 minutes",
        "export nnUNet_raw='/tmp",
    ):
        assert expected in text, expected


def test_without_baseline_and_pictures(parse):
    text = parse(build_page(make_summary(intensity_baseline=None, mean_dice=None), []).html()).text
    assert "intensity" not in text and "Pictures" not in text


def test_format_dice():
    assert [format_dice(v) for v in (None, 1, 0.87654)] == ["–", "1.000", "0.877"]
