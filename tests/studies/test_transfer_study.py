"""`study transfer` with commands that only pretend: checkpoints x epochs, on test subjects or folds."""

import csv
import json

import pytest
from support.fake_study import DATASET, PLANS, TRAINER

from nnunet_xlstm.cli.main import main

pytestmark = pytest.mark.usefixtures("no_drawing")


@pytest.fixture
def study(tree, fake):
    """study(*options): scratch and a checkpoint, in epochs of 10 iterations."""
    (tree / "trained.pth").write_text("weights")
    (tree / "keys.json").write_text('{"num_iterations_per_epoch": 10}')
    variants = [f"scratch:{TRAINER}@{PLANS}", f"full={tree / 'trained.pth'}:{TRAINER}@{PLANS}"]

    def call(*options, variants=variants):
        words = ["study", "transfer", "-o", str(tree / "out"), "--device", "cpu", "-d", "321", "--variants", *variants]
        words += ["--subject", r"patient\d+", "--config", str(tree / "keys.json")]
        return main([*words, *map(str, options)])

    return call


def test_checkpoints_by_epochs(study, tree, fake, capsys):
    assert study("--epochs", 2, 5) == 0
    out = tree / "out"
    assert [s for s, _, _ in fake.seen].count("adapt_full_s0") == 1  # one for all lengths
    for variant in ("scratch", "full"):
        for epochs in (2, 5):
            run = out / "runs" / f"{variant}_e{epochs}_s0"
            config = json.loads((run / "config.json").read_text())
            assert (config["num_epochs"], config["num_iterations_per_epoch"]) == (epochs, 10)
            (split,) = json.loads((run / "preprocessed" / DATASET / "splits_final.json").read_text())
            assert len(split["train"]) == 10 and not [c for c in split["train"] if c[7] in "567"]  # no test subject
    starts = {v["nnUNet_results"].split("/")[-2]: "-pretrained_weights" in c for s, c, v in fake.seen if s == "train"}
    assert starts == {"scratch_e2_s0": False, "full_e2_s0": True, "scratch_e5_s0": False, "full_e5_s0": True}
    with (out / "table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "Dice"]
    assert [(row["variant"], row["epochs"]) for row in rows] == [
        ("scratch", "2"), ("full", "2"), ("scratch", "5"), ("full", "5"),
    ]  # fmt: skip
    assert float(rows[1]["difference"]) == pytest.approx(float(rows[1]["mean"]) - float(rows[0]["mean"]))
    assert (out / "learning_curve.png").is_file() and (out / "averages" / "full_e5.json").is_file()
    text = capsys.readouterr().out
    assert "5 epochs: full has the highest Dice" in text and "No variant starts from scratch" not in text


def test_on_folds(study, tree, fake, capsys):
    cases = [[f"patient{p}_{phase}" for p in people for phase in ("ED", "ES")] for people in (range(4), range(4, 8))]
    folds = [{"train": cases[1], "val": cases[0]}, {"train": cases[0], "val": cases[1]}]
    (tree / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(folds))
    assert study("--epochs", 2, "--folds", 0, 1) == 0
    assert {p.name for p in (tree / "out" / "runs").iterdir()} == {
        f"{variant}_e2_f{fold}_s0" for variant in ("scratch", "full") for fold in (0, 1)
    }
    assert "predict" not in [s for s, _, _ in fake.seen] and "Scored subjects: 8" in capsys.readouterr().out


def test_only_checkpoints_say_nothing_of_pre_training(study, tree, capsys):
    variants = [f"{name}={tree / 'trained.pth'}:{TRAINER}@{PLANS}" for name in ("one", "two")]
    assert study("--epochs", 2, variants=variants) == 0
    assert "No variant starts from scratch, so nothing here says what pre-training brings." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "to begin one, say: epochs"),
        (["--epochs", 0], "epochs [0]: give numbers of epochs, each 1 or more"),
        (["--epochs", 2, "--iterations", 100], "'iterations' is not a setting of study transfer"),
        (["--epochs", 2, "--variants", f"a:nnUNetTrainer@{PLANS}"], "does not read the iterations, keys and seed"),
        (
            ["--epochs", 2, "--variants", f"a:nnUNetTrainerFinetuneStaged@{PLANS}"],
            "trains the decoder alone for 25 epochs",
        ),
    ],
)
def test_refused(study, tree, capsys, options, words):
    assert study(*options) == 1
    assert words in capsys.readouterr().err
    assert not (tree / "out").exists()


def test_without_test_subjects_it_asks_for_folds(study, tree, capsys):
    (tree / "raw" / DATASET / "test_subjects.json").unlink()
    assert study("--epochs", 2) == 1
    assert "say what the runs are scored on: --folds 0 1 2 3 4, or --test-subjects FILE" in capsys.readouterr().err


def test_epochs_of_different_length_are_refused(study, tree, capsys):
    (tree / "keys.json").write_text("{}")
    variants = [f"a:{TRAINER}@{PLANS}", f"b:nnUNetTrainerXLSTMUNet@{PLANS}"]
    assert study("--epochs", 2, variants=variants) == 1
    assert "give the same number for all: num_iterations_per_epoch" in capsys.readouterr().err
