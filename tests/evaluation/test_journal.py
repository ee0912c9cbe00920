"""`evaluate` loses nothing: targets tried first, each case kept, bad cases named, nothing of the user's replaced."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from support.image_files import tree

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.comparison.inputs import read_models
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.evaluation import folder as scoring
from nnunet_xlstm.evaluation.summary import read_scores
from nnunet_xlstm.io import write as files

OUTPUTS = {"summary.json", "summary.csv", "summary.html"}


def write(path, array):
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for case in "abcde":
        for side in ("ref", "pred"):
            write(tmp_path / side / f"{case}.nii.gz", rng.integers(0, 3, (4, 6, 6)).astype(np.uint8))
    write(tmp_path / "ref" / "e.nii.gz", np.zeros((4, 6, 6), np.uint8))  # values that are NaN and infinite
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "=one": 1, "two": 2}}')
    return tmp_path


def command(folder, *options):
    where = ["-ref", folder / "ref", "-pred", folder / "pred", "-djfile", folder / "dataset.json"]
    return ["evaluate", *map(str, [*where, "-o", folder / "out" / "summary.json", *options])]


@pytest.fixture
def scored(monkeypatch):
    """The cases that are scored, in this process."""
    real, cases = scoring.score_pair, []
    monkeypatch.setattr(scoring, "score_pair", lambda pair, **more: (cases.append(pair.case), real(pair, **more))[1])
    return cases


def test_bad_cases_are_named_and_the_others_kept(folders, capsys, scored, parse):
    options = ("--one-empty", "inf")
    assert main(command(folders, *options)) == 0
    whole = tree(folders / "out")
    assert set(whole) == OUTPUTS
    good = {case: (folders / "pred" / f"{case}.nii.gz").read_bytes() for case in "bd"}
    (folders / "pred" / "b.nii.gz").write_bytes(good["b"][:-20])
    write(folders / "pred" / "d.nii.gz", np.full((4, 6, 6), 9, np.uint8))
    scored.clear()
    assert main(command(folders, *options)) == 1
    said = capsys.readouterr()
    assert "2 of 5 cases could not be scored" in said.err and "it scores these alone" in said.err
    assert "b.nii.gz: is damaged or cut off" in said.err and "d: the prediction holds the label 9" in said.err
    assert "two" in said.out  # the table of the others
    flagged = read_scores(folders / "out")
    assert flagged.cases == ["a", "c", "e"] and set(flagged.failed) == {"b", "d"}
    page = parse((folders / "out" / "summary.html").read_text()).text
    assert "Incomplete: 2 of 5 cases could not be scored" in page and "holds the label 9" in page
    assert set(tree(folders / "out")) == OUTPUTS | {"summary.json.unfinished"}

    assert scored == list("abcde")
    for case, content in good.items():
        (folders / "pred" / f"{case}.nii.gz").write_bytes(content)
    assert main(command(folders, *options)) == 0
    assert scored == list("abcdebd")
    assert {name: row[0] for name, row in tree(folders / "out").items()} == {n: row[0] for n, row in whole.items()}


def test_a_comparison_refuses_an_incomplete_evaluation(folders, capsys):
    assert main(command(folders)) == 0
    whole = (folders / "out" / "summary.json").rename(folders / "whole.json")
    write(folders / "pred" / "b.nii.gz", np.full((4, 6, 6), 9, np.uint8))
    assert main(command(folders)) == 1
    sources = [("A", whole), ("B", folders / "out" / "summary.json")]
    with pytest.raises(DatasetError, match="'B': .*summary.json says that 'b' could not be scored"):
        read_models(sources)
    material = read_models(sources, common=True)
    (folders / "whole.json.unfinished").touch()  # another evaluation into it was killed
    with pytest.raises(DatasetError, match="whole.json is older than an evaluation that has not ended"):
        read_models(sources, common=True)
    assert material.cases == list("acde") and material.failed == {"B": ["b"]} and material.left_out == {"A": ["b"]}


def test_what_changed_is_scored_anew(folders, scored):
    """Another prediction, reference, tolerance or label: never the numbers of before."""
    write(folders / "pred" / "z.nii.gz", np.zeros((9, 9, 9), np.uint8))
    write(folders / "ref" / "z.nii.gz", np.zeros((4, 6, 6), np.uint8))
    assert main(command(folders)) == 1 and main(command(folders)) == 1
    assert scored == [*"abcdez", "z"]
    scored.clear()
    write(folders / "pred" / "a.nii.gz", np.zeros((4, 6, 6), np.uint8))
    os.utime(folders / "ref" / "c.nii.gz", ns=(1, 1))
    assert main(command(folders)) == 1 and scored == list("acz")
    for change in (["--nsd-tolerance", "1"], ["--one-empty", "nan"]):
        scored.clear()
        assert main(command(folders, *change)) == 1 and scored == list("abcdez")
    scored.clear()
    (folders / "dataset.json").write_text('{"labels": {"background": 0, "both": [1, 2], "two": 2}}')
    assert main(command(folders, *change)) == 1 and scored == list("abcdez")


def test_damaged_lines_of_the_journal_count_nothing(folders, scored):
    write(folders / "pred" / "z.nii.gz", np.zeros((9, 9, 9), np.uint8))
    write(folders / "ref" / "z.nii.gz", np.zeros((4, 6, 6), np.uint8))
    assert main(command(folders)) == 1
    journal = folders / "out" / "summary.json.unfinished"
    lines = journal.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[1]["metrics"]["1"] = {"Dice": 1.0}  # a: others are missing
    rows[2]["flags"] = None  # b
    rows[3]["metrics"]["2"]["Dice"] = "high"  # c
    rows[4]["key"] = rows[5]["key"]  # d: of another case
    journal.write_text("\n".join([*map(json.dumps, rows[:5]), lines[5], "[" * 10_000, "null", "{", lines[5][:-9]]))
    scored.clear()
    assert main(command(folders)) == 1 and scored == list("abcdz")


def test_no_case_can_be_scored(folders, capsys):
    for case in "abcde":
        (folders / "pred" / f"{case}.nii.gz").write_text("no image")
    assert main(command(folders)) == 1
    assert "5 of 5 cases could not be scored" in capsys.readouterr().err
    assert not (folders / "out" / "summary.json").exists()


def test_killed_while_it_writes_a_line(folders):
    """kill -9 in the middle of the third line: the rerun scores that and the rest, and ends as an unbroken run."""
    assert main(command(folders)) == 0
    whole = {name: row[0] for name, row in tree(folders / "out").items()}
    for name in OUTPUTS:
        (folders / "out" / name).unlink()
    code = """
import os, signal, sys
from nnunet_xlstm.cli.main import main
from nnunet_xlstm.evaluation.journal import Journal
real = Journal.add
def add(journal, pair, scores):
    real(journal, pair, scores)
    if pair.case == "c":
        os.truncate(journal.path, os.path.getsize(journal.path) - 40)
        os.kill(os.getpid(), signal.SIGKILL)
Journal.add = add
main(sys.argv[1:])
"""
    done = subprocess.run([sys.executable, "-c", code, *command(folders)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert set(tree(folders / "out")) == {"summary.json.unfinished"}
    text = (folders / "out" / "summary.json.unfinished").read_text()
    assert [row["case"] for row in map(json.loads, text.splitlines()[1:-1])] == ["a", "b"]
    assert main(command(folders)) == 0
    assert {name: row[0] for name, row in tree(folders / "out").items()} == whole


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "out").write_text(""), "out/summary.json: .*a file stands where a folder is needed"),
        (lambda f: (f / "out" / "summary.html").mkdir(parents=True), "out/summary.html: .*a folder of that name"),
        (lambda f: (f / "out" / "summary.csv").mkdir(parents=True), "out/summary.csv: .*a folder of that name"),
    ],
)
def test_the_target_is_tried_first(folders, spoil, words, capsys, scored):
    spoil(folders)
    before = tree(folders)
    assert main(command(folders)) == 1
    assert re.search(words, capsys.readouterr().err) and scored == [] and tree(folders) == before


def test_no_room_is_said_at_once(folders, monkeypatch, capsys, scored):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    assert main(command(folders)) == 1
    assert "summary.json: cannot be written (No space left" in capsys.readouterr().err and scored == []


def test_nothing_that_is_read_or_foreign_is_replaced(folders, capsys, scored):
    (folders / "link").symlink_to(folders / "pred")
    (folders / "pred" / "plans.json").write_text('{"configurations": {}}')
    (folders / "other.json").symlink_to(folders / "dataset.json")
    before = tree(folders)
    for out, words in (
        (folders / "dataset.json", "would replace"),
        (folders / "link" / ".." / "dataset.json", "would replace"),
        (folders / "other.json", "would replace"),
        (folders / "pred" / "plans.json", "no file that this command wrote"),
        (folders / "link" / "plans.json", "no file that this command wrote"),
    ):
        assert main([*command(folders), "-o", str(out)]) == 1
        assert words in capsys.readouterr().err
    assert tree(folders) == before and scored == []


def test_nnunets_own_summary_stays_until_ours_is_whole(folders, monkeypatch):
    stock = folders / "out" / "summary.json"
    stock.parent.mkdir()
    stock.write_bytes(b'{"metric_per_case": [], "name": "\xc3\xa9"}')
    before = tree(folders)

    real = files._flush

    def full(path):
        if ".summary.json.u" not in path.name:
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr("nnunet_xlstm.io.write._flush", full)
    assert main(command(folders)) == 1
    after = tree(folders)
    del after["out/summary.json.unfinished"]
    assert after == before
    monkeypatch.undo()
    assert main(command(folders)) == 0
    assert (folders / "out" / "summary_nnunet.json").read_bytes() == b'{"metric_per_case": [], "name": "\xc3\xa9"}'
    assert set(tree(folders / "out")) == OUTPUTS | {"summary_nnunet.json"}
    assert main(command(folders)) == 0  # ours is replaced, nnU-Net's stays
    assert (folders / "out" / "summary_nnunet.json").read_bytes().startswith(b'{"metric_per_case": []')


def test_hidden_files_are_no_cases(folders):
    """macOS leaves them beside each file that it copies."""
    for path in [*(folders / "ref").iterdir(), *(folders / "pred").iterdir()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert main(command(folders)) == 0
    assert read_scores(folders / "out").cases == list("abcde")
