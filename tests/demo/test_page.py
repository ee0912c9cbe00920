"""index.html: safe with any name, complete in itself, well formed."""

import re
from html.parser import HTMLParser

import pytest

from nnunet_xlstm.demo.page import build_page, format_dice

EVIL = "<script>alert('x')</script>&\"quoted\""
VOID = {"meta", "img", "br", "link"}
# Smallest valid PNG: one pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0000003010100"
    "18dd8db00000000049454e44ae426082"
)


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


class Checker(HTMLParser):
    """Collects tags, attribute values and text; fails on tags that do not close."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.values, self.text = [], [], [], ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    return path


def test_names_are_escaped(picture):
    page = build_page(
        make_summary(
            dataset=EVIL,
            dice={EVIL: 0.5},
            commands=[{"stage": EVIL, "command": ["nnUNetv2_train", EVIL], "seconds": 1}],
            trainer=EVIL,
            environment={"nnUNet_raw": EVIL},
            versions={EVIL: EVIL},
            device=EVIL,
        ),
        [(EVIL, picture)],
    )
    checker = Checker(page)
    assert "script" not in checker.tags
    assert not any(name.startswith("on") for name in re.findall(r"<[^>]*?\s(\w+)=", page))
    assert checker.text.count(EVIL) >= 4
    assert EVIL in checker.values  # the picture's alternative text


def test_nothing_is_fetched(picture):
    page = build_page(make_summary(), [("case", picture)])
    checker = Checker(page)
    assert not {"script", "link", "iframe", "object"} & set(checker.tags)
    assert not re.search(r"https?:|//\w|@import|url\(", page)
    assert checker.tags.count("img") == 1
    assert [value[:22] for value in checker.values if value.startswith("data:")] == ["data:image/png;base64,"]


def test_content(picture):
    page = build_page(make_summary(), [("case one", picture)])
    text = Checker(page).text
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
    for rule in ("prefers-color-scheme: dark", "@media print"):
        assert rule in page
    assert 'name="viewport"' in page


def test_without_baseline_and_pictures():
    text = Checker(build_page(make_summary(intensity_baseline=None, mean_dice=None), [])).text
    assert "intensity" not in text and "Pictures" not in text


def test_format_dice():
    assert [format_dice(v) for v in (None, 1, 0.87654)] == ["–", "1.000", "0.877"]
