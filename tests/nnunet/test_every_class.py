"""A sample of the table of every trainer and planner (docs/reference/every-class.md); all of it is run by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import every_class

from nnunet_xlstm.registry import PLANNERS, TRAINERS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "every-class.md"


def test_the_table_names_every_class_and_nothing_is_red():
    text = PAGE.read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted([*TRAINERS, *PLANNERS])
    assert "**red**" not in text and "|  |" not in text


def test_a_refusal_is_a_number_and_its_sentence_stands_below():
    cells = {"nnUNetTrainerDINO": dict.fromkeys(every_class.SETTINGS, every_class.GREEN)}
    cells["nnUNetTrainerDINO"]["2D"] = "give\n3D images"
    cells["nnUNetTrainerDINO"]["3D"] = "RED: KeyError: x"
    text = every_class.page(cells)
    assert "| `nnUNetTrainerDINO` | refused (1) | **red** | green |" in text
    assert "1. give 3D images" in text


SAMPLE = {
    "nnUNetTrainerFinetune_SegSync:cascade": "green",
    "nnUNetPlannerSegSyncBi:thick slices": "green",
    "nnUNetTrainerDINO_SegSync:2D": "green",
    "nnUNetTrainerPool:regions, ignore": "make it with `nnunet_xlstm pool build`",
}


@pytest.mark.slow
def test_a_sample(tmp_path):
    command = [sys.executable, every_class.__file__, "--work", str(tmp_path), "--only", *SAMPLE]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    cells = json.loads((tmp_path / "cells.json").read_text())
    for cell, answer in SAMPLE.items():
        name, setting = cell.split(":")
        assert answer in cells[name][setting]
