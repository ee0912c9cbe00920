"""`study cross_validation` with commands that only pretend: folds, joining, resume, partial results, refusals."""

import csv
import json

import numpy as np
import pytest
from support.fake_study import DATASET, PLANS, TRAINER, fail

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.studies.kinds import CROSS_VALIDATION
from nnunet_xlstm.studies.study_json import read_study

pytestmark = pytest.mark.usefixtures("no_drawing")
BASE, FULL = f"base:{TRAINER}", f"full:nnUNetTrainer@{PLANS}"  # ours, and nnU-Net's own
PEOPLE = [f"patient{p}" for p in range(8)]


def fold(*tested):
    cases = {side: [] for side in ("train", "val")}
    for p in PEOPLE:
        cases["val" if int(p[-1]) in tested else "train"] += [f"{p}_ED", f"{p}_ES"]
    return cases


@pytest.fixture
def folds(tree):
    """Three folds of 3, 3 and 2 patients."""
    path = tree / "preprocessed" / DATASET / "splits_final.json"
    path.write_text(json.dumps([fold(0, 1, 2), fold(3, 4, 5), fold(6, 7)]))
    return path


@pytest.fixture
def study(tree, fake, folds):
    def call(*options, variants=(BASE, FULL), new=True):
        words = ["study", "cross_validation", "-o", str(tree / "out"), "--device", "cpu"]
        words += ["-d", "321", "--subject", r"patient\d+", "--variants", *variants] if new else []
        return main([*words, *map(str, options)])

    return call


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_subject_is_scored_once(study, tree, fake, folds, capsys):
    assert study() == 0
    out = tree / "out"
    trained = [(c[3], v["nnUNet_results"].split("/")[-2]) for s, c, v in fake.seen if s == "train"]
    assert trained == [(f, f"{variant}_f{f}_s0") for f in "012" for variant in ("base", "full")]  # fold by fold
    assert not [s for s, _, _ in fake.seen if s in ("predict", "validate")]  # nnU-Net's validation is what is scored
    run = out / "runs" / "base_f1_s0"
    assert json.loads((run / "preprocessed" / DATASET / "splits_final.json").read_text()) == json.loads(
        folds.read_text()
    )
    assert json.loads((run / "config.json").read_text()) == {"seed": 0}  # the recipe's own length
    assert json.loads((out / "runs" / "full_f1_s0" / "config.json").read_text()) == {}

    # by hand: mean of the subjects' means, each from the fold that scored it
    dice = {}
    for f in range(3):
        for row in json.loads((out / "runs" / f"full_f{f}_s0" / "summary.json").read_text())["metric_per_case"]:
            subject = row["prediction_file"].split("/")[-1][:8]
            dice.setdefault(subject, []).append(np.mean([m["Dice"] for m in row["metrics"].values()]))
    assert sorted(dice) == PEOPLE and all(len(values) == 2 for values in dice.values())
    table = {row["variant"]: row for row in rows_of(out / "table.csv") if row["metric"] == "Dice"}
    assert float(table["full"]["mean"]) == pytest.approx(np.mean([np.mean(v) for v in dice.values()]))
    assert table["full"]["subjects"] == "8" and table["full"]["runs"] == "3"
    assert float(table["full"]["low"]) < float(table["full"]["mean"]) < float(table["full"]["high"])
    per_fold = [np.mean([np.mean(dice[p]) for p in PEOPLE if int(p[-1]) in t]) for t in ((0, 1, 2), (3, 4, 5), (6, 7))]
    assert float(table["full"]["repeat_sd"]) == pytest.approx(np.std(per_fold, ddof=1))

    content = json.loads((out / "compare" / "comparison.json").read_text())
    assert content["metrics"]["Dice"]["models"]["full"]["mean"] == pytest.approx(float(table["full"]["mean"]))
    assert len(set(content["subjects"].values())) == 8
    assert (out / "compare" / "index.html").is_file()
    (model,) = (out / "models" / "full" / DATASET).iterdir()  # as stock commands find it
    assert sorted(p.name for p in model.iterdir()) == ["fold_0", "fold_1", "fold_2"]
    assert (model / "fold_2" / "checkpoint_final.pth").is_file()
    text = capsys.readouterr().out
    assert "full has the highest Dice" in text and "SD of folds" in text and "share most of their training" in text


def test_killed_validation_is_repeated_alone(study, tree, fake):
    fake.spoil = fail("validation")
    assert study("--folds", 0) == 1
    fake.seen.clear()
    fake.spoil = staticmethod(lambda stage, folder: None)
    assert study(new=False) == 0
    assert [s for s, _, _ in fake.seen] == ["validate", "evaluate"] * 2
    assert all(c[-1] == "--val" and "--c" not in c for s, c, _ in fake.seen if s == "validate")
    fake.seen.clear()
    assert study(new=False) == 0 and fake.seen == []


def test_folds_and_variants_are_added(study, tree, fake):
    assert study("--folds", 0, variants=[BASE]) == 0
    assert not (tree / "out" / "compare").exists()  # one variant
    fake.seen.clear()
    assert study("--folds", 1, "--variants", FULL, new=False) == 0
    assert sorted({run.id for run in read_study(tree / "out", CROSS_VALIDATION).runs()}) == [
        "base_f0_s0", "base_f1_s0", "full_f0_s0", "full_f1_s0",
    ]  # fmt: skip
    assert [s for s, _, _ in fake.seen].count("train") == 3


def test_variants_are_compared_on_the_same_folds_alone(study, tree, capsys):
    assert study("--only", "base_f*", "full_f0_*") == 0
    assert study("--only-report", new=False) == 0
    assert "both have finished the same seeds and folds" in capsys.readouterr().out
    table = {row["variant"]: row for row in rows_of(tree / "out" / "table.csv") if row["metric"] == "Dice"}
    assert (table["full"]["subjects"], table["full"]["difference"]) == ("3", "")
    assert not (tree / "out" / "compare").exists()


def test_equal_iterations_where_asked(study, tree):
    assert study("--iterations", 100, "--folds", 0, variants=[BASE]) == 0
    config = json.loads((tree / "out" / "runs" / "base_f0_s0" / "config.json").read_text())
    assert config["num_epochs"] * config["num_iterations_per_epoch"] == 100


def test_changed_folds_are_refused(study, folds, capsys):
    assert study("--folds", 0) == 0
    folds.write_text(json.dumps([fold(0, 1), fold(3, 4, 5), fold(6, 7)]))
    assert study(new=False) == 1
    assert "folds: was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, [], "make folds that keep subjects together: nnunet_xlstm split -d Dataset321_Balls --folds 5"),
        ([{"train": ["patient0_ED"], "val": ["patient0_ES"]}], [], "subject 'patient0' is in the training and the"),
        ([{"train": ["patient0_ED"], "val": ["who"]}], [], "'who' has no label map"),
        ([{"train": ["patient0_ED"], "val": "x"}], [], 'folds[0].val is "x"; give a list'),
        ([fold(0), fold(0, 1)], [], "is a validation case of the folds 0 and 1"),
        ([fold(0)], ["--folds", 1], "--folds 1: "),
        ([fold(0)], ["--labels", 1], "'labels' is not a setting of study cross_validation"),
        ([fold(0)], ["--iterations", 100], "nnUNetTrainer does not read the iterations"),
        ([fold(0)], ["--variants", f"a:nnUNetTrianer@{PLANS}"], "neither this package nor nnU-Net has a trainer"),
        ([fold(0)], ["--variants", f"a:nnUNetTrainerMasked@{PLANS}"], "trains without labels"),
    ],
)
def test_refused_before_anything_is_written(study, tree, fake, folds, capsys, content, options, words):
    folds.unlink() if content is None else folds.write_text(json.dumps(content))
    assert study(*options) == 1
    assert words in capsys.readouterr().err
    assert fake.seen == [] and not (tree / "out").exists()


def test_dry_run_and_job_array(study, tree, fake, capsys):
    assert study("--dry-run") == 0
    text = capsys.readouterr().out
    assert "full_f2_s0" in text and "recipe" in text and "6 runs; scored subjects: Dataset321_Balls 8" in text
    assert study("--emit", "slurm", "--jobs", 2) == 0
    lines = (tree / "out" / "jobs" / "commands.txt").read_text().splitlines()
    assert len(lines) == 6 and fake.seen == []
    assert main(lines[0].split()[lines[0].split().index("study") :]) == 0
    assert (tree / "out" / "runs" / "base_f0_s0" / "summary.json").is_file()
