"""Folds and held-out parts by subject, and the command that writes them."""

import json
from collections import Counter

import numpy as np
import pytest
from support.image_files import write

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.datasets.raw_dataset import read_folds
from nnunet_xlstm.datasets.splits import check_folds, fold_without, held_out, make_folds

SUBJECTS = {f"a{i:02d}_{t}": f"a{i:02d}" for i in range(10) for t in range(3)} | {f"b{i}": f"b{i}" for i in range(6)}
GROUPS = {case: case[0] for case in SUBJECTS}


@pytest.mark.parametrize("n", [2, 3, 5, 16])
def test_folds_keep_subjects_together_and_groups_even(n):
    folds = make_folds(SUBJECTS, GROUPS, n, seed=1)
    check_folds(folds, SUBJECTS, "here")
    assert len(folds) == n and sorted(case for fold in folds for case in fold["val"]) == sorted(SUBJECTS)
    for group, size in (("a", 10), ("b", 6)):
        counts = [len({SUBJECTS[c] for c in fold["val"] if c[0] == group}) for fold in folds]
        assert max(counts) - min(counts) <= 1 and sum(counts) == size
    assert all(sorted(fold["train"] + fold["val"]) == sorted(SUBJECTS) for fold in folds)


def test_the_seed_decides():
    made = [make_folds(SUBJECTS, GROUPS, 5, seed) for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]
    drawn = [held_out(SUBJECTS, GROUPS, 0.25, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    backwards = dict(reversed(SUBJECTS.items()))
    assert make_folds(backwards, GROUPS, 5, 0) == made[0] and held_out(backwards, GROUPS, 0.25, 0) == drawn[0]


@pytest.mark.parametrize(("share", "of_a", "of_b"), [(0.2, 2, 1), (0.5, 5, 3), (0.01, 1, 0), (0.99, 9, 6)])
def test_held_out_share_by_group(share, of_a, of_b):
    """16 subjects, 10 and 6: as many as the share says, the remainders where they are largest."""
    drawn = held_out(SUBJECTS, GROUPS, share, seed=3)
    counts = Counter(subject[0] for subject in drawn)
    assert (counts["a"], counts["b"]) == (of_a, of_b)
    fold = fold_without(SUBJECTS, drawn)
    assert {SUBJECTS[case] for case in fold["val"]} == set(drawn) and not {*fold["val"]} & {*fold["train"]}


def test_every_subject_is_drawn_sometimes():
    assert {s for seed in range(60) for s in held_out(SUBJECTS, GROUPS, 0.25, seed)} == set(SUBJECTS.values())


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Dataset007_Mice: five mice with two scans each, planned."""
    raw = tmp_path / "raw" / "Dataset007_Mice"
    array = np.zeros((2, 4, 4), np.uint8)
    for i in range(5):
        for day in range(2):
            write(raw / "imagesTr" / f"m{i}_{day}_0000.nii.gz", array.astype(np.float32))
            write(raw / "labelsTr" / f"m{i}_{day}.nii.gz", array)
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "heart": 1}, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(content))
    (tmp_path / "preprocessed" / raw.name).mkdir(parents=True)
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return raw


def split(*options):
    return main(["split", "-d", "7", "--subject", r"m\d+", *map(str, options)])


def test_folds_are_written_where_nnunet_looks(dataset, tmp_path, capsys):
    assert split("--folds", 5) == 0
    files = [dataset / "splits_final.json", tmp_path / "preprocessed" / dataset.name / "splits_final.json"]
    folds = read_folds(files[0])
    assert files[0].read_text() == files[1].read_text() and len(folds) == 5
    assert all(len(fold["val"]) == 2 and len({case[:2] for case in fold["val"]}) == 1 for fold in folds)
    assert "written" in capsys.readouterr().out
    assert split("--folds", 5) == 0  # the same again
    assert split("--folds", 5, "--seed", 1) == 1
    assert "--overwrite replaces them" in capsys.readouterr().err and read_folds(files[1]) == folds
    assert split("--folds", 5, "--seed", 1, "--overwrite") == 0 and read_folds(files[0]) != folds


def test_one_strange_file_stops_both(dataset, tmp_path, capsys):
    (tmp_path / "preprocessed" / dataset.name / "splits_final.json").write_text('[{"train": ["x"], "val": ["y"]}]')
    assert split("--holdout", 0.2) == 1
    assert "holds other folds" in capsys.readouterr().err and not (dataset / "splits_final.json").exists()


def test_test_subjects_are_drawn_and_stay_out_of_folds(dataset, capsys):
    assert split("--test", 0.4) == 0
    tested = set(json.loads((dataset / "test_subjects.json").read_text())["test_subjects"])
    assert len(tested) == 2
    assert split("--holdout", 0.3) == 0
    (fold,) = read_folds(dataset / "splits_final.json")
    assert not {case[:2] for case in fold["train"] + fold["val"]} & tested and len(fold["val"]) == 2
    assert "2 test subjects of" in capsys.readouterr().out
    assert split("--test", 0.2) == 1 and "--overwrite" in capsys.readouterr().err
    assert split("--test", 0.4, "--seed", 5, "--overwrite") == 0
    assert "still has test subjects in its folds" in capsys.readouterr().out


def test_sources_of_a_pool_are_spread(dataset, capsys):
    rows = {
        f"m{i}_{d}": {"source": "AB"[i > 2], "subject": f"m{i}", "modality": "MR"} for i in range(5) for d in range(2)
    }
    content = {"format": 1, "sampling": "sqrt", "cases": rows, "inputs": {}}
    (dataset / "pool_cases.json").write_text(json.dumps(content))
    assert main(["split", "-d", "7", "--folds", "2"]) == 0  # subjects as the pool has them
    counts = [Counter(rows[c]["source"] for c in fold["val"]) for fold in read_folds(dataset / "splits_final.json")]
    assert [sorted(count.values()) for count in counts] == [[2, 2], [2, 4]] or [[2, 4], [2, 2]]
    assert "of A" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--folds", 6], "--folds 6: give 2 or more, and at most as many as there are subjects (5)"),
        (["--folds", 1], "--folds 1"),
        (["--holdout", 1], "share 1 of 5 subjects"),
        (["--test", 0], "share 0 of 5 subjects"),
    ],
)
def test_refused(dataset, capsys, options, words):
    assert split(*options) == 1
    assert words in capsys.readouterr().err and not (dataset / "splits_final.json").exists()
