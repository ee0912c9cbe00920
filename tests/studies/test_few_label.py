"""A few-label study from the command line, with commands that only pretend: subsets, resume, additions, the report."""

import csv
import json

import numpy as np
import pytest
from support.fake_study import DATASET, PLANS, TRAINER, fail

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.nnunet.loading.raw_images import RawImages
from nnunet_xlstm.studies.kinds import FEW_LABEL, draw_order
from nnunet_xlstm.studies.study import Run
from nnunet_xlstm.studies.study_json import read_study

SCRATCH, FULL = f"scratch:{TRAINER}", f"full={{}}:nnUNetTrainerXLSTMUNet@{PLANS}"


@pytest.fixture
def study(tree, fake):
    """study(*options) -> exit code."""
    checkpoint = tree / "trained.pth"
    checkpoint.write_text("weights")

    def call(*options, full=False, new=True):
        words = ["study", "few_label", "-o", str(tree / "out"), "--device", "cpu"]
        if new:
            variants = [SCRATCH, *([FULL.format(checkpoint)] if full else [])]
            words += ["-d", "321", "--subject", r"patient\d+", "--iterations", "100", "--variants", *variants]
        return main([*words, *map(str, options)])

    return call


def test_no_input_is_replaced(study, tree, capsys):
    out = tree / "out"
    out.mkdir()
    table = out / "table.csv"
    table.write_text("case,subject\n" + "".join(f"patient{p}_{e},p{p}\n" for p in range(8) for e in ("ED", "ES")))
    (out / "study").symlink_to(out)
    (out / "results.csv").write_text("{}")
    words = ["study", "few_label", "-d", "321", "--iterations", "100", "--variants", SCRATCH, "--labels", "1"]
    (tree / "test.json").write_text('["p5", "p6", "p7"]')
    for more in (
        ["--subjects", table, "--test-subjects", tree / "test.json"],
        ["--subject", r"patient\d+", "--config", out / "results.csv"],
    ):
        assert main([*words, "-o", str(out / "study"), *map(str, more)]) == 1
        assert "would replace" in capsys.readouterr().err
    assert table.read_text().startswith("case,subject") and not (out / "study.json").exists()


def test_a_run_without_all_its_scores_is_not_done(tmp_path):
    """A case could not be scored: `evaluate` then leaves the file in which it goes on."""
    run = Run(study_folder=tmp_path, id="a_s0", variant="a", trained_on="x", seed=0, parts=("test",))
    run.folder.mkdir(parents=True)
    run.summary("test").write_text("{}")
    assert run.is_done
    run.summary("test").with_name("summary.json.unfinished").touch()
    assert not run.is_done


def test_whole_study(study, tree, fake, capsys):
    assert study("--labels", 1, 4, "--seeds", 2, full=True) == 0
    out = tree / "out"
    stages = [stage for stage, _, _ in fake.seen]
    assert stages[:2] == ["adapt_full_s0", "adapt_full_s1"]  # before the first training
    assert [stages.count(s) for s in ("train", "predict", "evaluate")] == [8, 8, 8]
    for stage, command, variables in fake.seen:
        if stage == "train":
            run = variables["nnUNet_results"].split("/")[-2]
            assert ("-pretrained_weights" in command) is run.startswith("full")
            config = json.loads((out / "runs" / run / "config.json").read_text())
            assert config["num_epochs"] * config["num_iterations_per_epoch"] == 100
            assert config["seed"] == int(run[-1])
            assert command[1:4] == ["321", "3d_fullres", "0"]

    rows = list(csv.DictReader((out / "table.csv").open()))
    dice = {(row["variant"], row["labels"]): row for row in rows if row["metric"] == "Dice"}
    assert float(dice["scratch", "1"]["mean"]) < float(dice["full", "1"]["mean"]) < float(dice["full", "4"]["mean"])
    # by hand: mean over seeds of each run's mean over subjects
    runs = [json.loads((out / "runs" / f"full_n4_s{s}" / "summary.json").read_text()) for s in (0, 1)]
    assert float(dice["full", "4"]["mean"]) == pytest.approx(np.mean([r["foreground_mean"]["Dice"] for r in runs]))
    assert float(dice["full", "4"]["repeat_sd"]) == pytest.approx(
        np.std([r["foreground_mean"]["Dice"] for r in runs], ddof=1)
    )
    difference = float(dice["full", "4"]["mean"]) - float(dice["scratch", "4"]["mean"])
    assert float(dice["full", "4"]["difference"]) == pytest.approx(difference)
    assert float(dice["full", "4"]["p_holm"]) == pytest.approx(0.25)  # 3 subjects, two-sided: 2 / 2^3
    assert dice["scratch", "4"]["difference"] == ""
    assert len(list(csv.DictReader((out / "results.csv").open()))) == 8 * 3  # two classes and their mean
    for name in ("learning_curve.png", "learning_curve.svg", "report.html", "table.md"):
        assert (out / name).stat().st_size > 200
    assert "full has the highest Dice" in capsys.readouterr().out


def test_no_label_beyond_the_subset_is_named_and_the_real_folds_stay(study, tree):
    assert study("--labels", 2, "--seeds", 1) == 0
    found = read_study(tree / "out", FEW_LABEL)
    folder = tree / "out" / "runs" / "scratch_n2_s0" / "preprocessed" / DATASET
    (fold,) = json.loads((folder / "splits_final.json").read_text())
    assert len(fold["train"]) == 4 and fold["val"] == fold["train"][:1]  # two cases per subject
    assert {found.sets[0].subjects[case] for case in fold["train"]} == set(found.orders["0"][:2])
    assert (folder / "some_data").is_symlink() and not (folder / "splits_final.json").is_symlink()
    assert (tree / "preprocessed" / DATASET / "splits_final.json").read_text() == "[]"


def test_subsets_are_nested_and_without_test_subjects(study, tree):
    assert study("--labels", 1, 3, 5, "--seeds", 4) == 0
    found = read_study(tree / "out", FEW_LABEL)
    for seed in range(4):
        runs = [run for run in found.runs() if run.seed == seed]
        sets = [set(found.split(run)[0][0]["train"]) for run in runs]
        assert sets[0] < sets[1] < sets[2] and not sets[2] & set(found.sets[0].test_cases)
    assert len({tuple(order) for order in found.orders.values()}) > 1
    assert draw_order(["b", "a", "c"], 1) == draw_order({"c", "b", "a"}, 1)


def test_resume_does_only_what_is_left(study, tree, fake):
    fake.spoil = fail("predict")
    assert study("--labels", 1, 2, "--seeds", 1) == 1
    assert [stage for stage, _, _ in fake.seen] == ["train", "predict"] * 2
    fake.seen.clear()
    fake.spoil = staticmethod(lambda stage, folder: None)
    assert study(new=False) == 0
    assert [stage for stage, _, _ in fake.seen] == ["predict", "evaluate"] * 2
    fake.seen.clear()
    assert study(new=False) == 0 and fake.seen == []


def test_killed_training_continues_from_its_checkpoint(study, tree, fake):
    fold = tree / "out" / "runs" / "full_n1_s0" / "results" / DATASET
    fold = fold / f"nnUNetTrainerXLSTMUNet__{PLANS}__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    (fold / "checkpoint_latest.pth").touch()
    assert study("--labels", 1, "--seeds", 1, full=True) == 0
    (command,) = [c for s, c, v in fake.seen if s == "train" and "full_n1" in v["nnUNet_results"]]
    assert command[-1] == "--c" and "-pretrained_weights" not in command


def test_additions_keep_what_was_drawn_and_other_settings_are_refused(study, tree, fake, capsys):
    assert study("--labels", 2, "--seeds", 1) == 0
    before = read_study(tree / "out", FEW_LABEL)
    fake.seen.clear()
    assert study("--labels", 3, "--seeds", 2, full=True) == 0
    after = read_study(tree / "out", FEW_LABEL)
    assert (
        after.values == [2, 3]
        and after.seeds == 2
        and [variant.name for variant in after.variants] == ["scratch", "full"]
    )
    assert after.orders["0"] == before.orders["0"] and after.versions == before.versions
    assert [stage for stage, _, _ in fake.seen].count("train") == 7
    for options, words in (
        (["--iterations", 200], "iterations: was 100, is 200"),
        (["-c", "3d_bigger"], 'configuration: was "3d_fullres", is "3d_bigger"'),
        (["--variants", "scratch:nnUNetTrainerXLSTMUNet"], f"variant 'scratch': trainer: was \"{TRAINER}\""),
        (["--subject", r"patient\d+_E."], "subject"),
    ):
        assert study(*options, new=False) == 1
        assert words in capsys.readouterr().err
    (tree / "trained.pth").write_text("other weights")
    assert study(new=False) == 1
    assert "hashes of variant full" in capsys.readouterr().err
    assert read_study(tree / "out", FEW_LABEL) == after


def test_only_and_only_report(study, tree, fake, capsys):
    assert study("--labels", 1, 2, "--seeds", 2, "--only", "scratch_n1_*") == 0
    assert sorted(path.name for path in (tree / "out" / "runs").iterdir()) == ["scratch_n1_s0", "scratch_n1_s1"]
    assert not (tree / "out" / "report.html").exists()
    assert study("--only-report", new=False) == 0
    assert "Not finished: 2 of 4 runs (scratch_n2_s0, scratch_n2_s1)" in capsys.readouterr().out
    assert study("--only", "other", new=False) == 1
    assert "--only other: no such run; there are scratch_n1_s0" in capsys.readouterr().err


def test_variants_are_compared_on_the_same_seeds_alone(study, tree, fake, capsys):
    assert study("--labels", 1, 2, "--seeds", 2, "--only", "scratch_*", "full_n1_*", "full_n2_s1", full=True) == 0
    assert study("--only-report", new=False) == 0
    assert "where both have finished the same seeds" in capsys.readouterr().out
    rows = list(csv.DictReader((tree / "out" / "table.csv").open()))
    full = {row["labels"]: row for row in rows if row["variant"] == "full" and row["metric"] == "Dice"}
    assert full["1"]["difference"] and full["1"]["p_holm"]
    assert full["2"]["mean"] and not full["2"]["difference"] and not full["2"]["p_holm"]  # other labels were drawn


def test_dry_run_writes_nothing(study, tree, fake, capsys):
    assert study("--labels", 2, "--dry-run") == 0
    assert "scratch_n2_s2" in capsys.readouterr().out
    assert fake.seen == [] and not (tree / "out").exists()


@pytest.mark.parametrize("scheduler", ["slurm", "lsf"])
def test_emit(study, tree, fake, scheduler):
    assert study("--labels", 1, 2, "--seeds", 1, "--emit", scheduler, "--jobs", 3) == 0
    lines = (tree / "out" / "jobs" / "commands.txt").read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["scratch_n1_s0", "scratch_n2_s0"]
    tasks = {"slurm": "--array=1-2%3", "lsf": "[1-2]%3"}[scheduler]
    assert fake.seen == [] and tasks in (tree / "out" / "jobs" / "array.sh").read_text()
    words = lines[0].split()[lines[0].split().index("study") :]
    assert main(words) == 0  # what an array task runs
    assert (tree / "out" / "runs" / "scratch_n1_s0" / "summary.json").is_file()


def test_adaptation_that_fails_stops_before_any_training(study, fake, capsys):
    fake.spoil = fail("adapt_full_s0", "adapt says: topology differs")
    assert study("--labels", 1, full=True) == 1
    assert [stage for stage, _, _ in fake.seen] == ["adapt_full_s0"]
    assert "topology differs" in capsys.readouterr().err


def test_adaptation_that_fails_beside_others_is_what_is_told(study, fake, capsys):
    fake.spoil = fail("adapt_full_s1", "adapt says: topology differs")
    assert study("--labels", 1, "--jobs", 3, full=True) == 1
    assert all(stage.startswith("adapt_") for stage, _, _ in fake.seen)
    assert "topology differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--labels", 6], "labels 6: Dataset321_Balls has 5 training subjects"),
        (["--labels", 1, "--variants", "a:nnUNetTrainer"], "nnUNetTrainer does not read the iterations"),
        (["--labels", 1, "--variants", "a:nnUNetTrainerDINO"], "trains without labels"),
        (
            ["--labels", 1, "--variants", "a:nnUNetTrainerFinetuneStaged"],
            "decoder alone for 25 epochs, and a run has 2",
        ),
        (["--labels", 1, "--variants", f"a:{TRAINER}@Nonsense"], "there is no"),
        (["--labels", 1, "--variants", f"a=missing.pth:{TRAINER}"], "missing.pth; name the checkpoint"),
        (["--labels", 1, "--variants", f"a:{TRAINER}", f"A:{TRAINER}"], "several variants are named 'a'"),
        (["--labels", 1, "--variants", f"a/b:{TRAINER}"], "its name becomes a folder's"),
        (["--labels", 1, "--variants", "a"], "give NAME:TRAINER"),
        (["--labels", 1, "-c", "2d"], "has no configuration 2d; -c takes one of 3d_fullres, 3d_bigger"),
        (["--labels", 1, "--iterations", 101], "would make epochs of 1; give a multiple of 50"),
        (["--labels", 1, "--test-subjects", "nothing.json"], "there is no nothing.json"),
        (["--labels", 1, "-d", "777"], "-d 777: no data set"),
        (["--labels", 0], "each 1 or more"),
        ([], "to begin one, say: labels"),
    ],
)
def test_refused_before_anything_is_written(study, tree, fake, capsys, options, words):
    assert study(*options) == 1
    assert words in capsys.readouterr().err
    assert fake.seen == [] and not (tree / "out").exists()


def test_unprocessed_case_and_several_plans(study, tree, capsys):
    folder = tree / "preprocessed" / DATASET
    (folder / "some_data" / "patient1_ED.pkl").unlink()
    assert study("--labels", 5) == 1
    assert "'patient1_ED' not preprocessed in" in capsys.readouterr().err
    (folder / "Other.json").write_text((folder / f"{PLANS}.json").read_text())
    assert study("--labels", 5) == 1
    assert f"say which plans, scratch:{TRAINER}@PLANS" in capsys.readouterr().err


def test_config_keys(study, tree, capsys):
    keys = tree / "keys.json"
    keys.write_text('{"initial_lr": 0.002, "num_iterations_per_epoch": 25}')
    assert study("--labels", 1, "--seeds", 1, "--config", keys) == 0
    config = json.loads((tree / "out" / "runs" / "scratch_n1_s0" / "config.json").read_text())
    assert config["initial_lr"] == 0.002 and config["num_epochs"] == 4
    for text, words in (
        ('{"inital_lr": 1}', "did you mean initial_lr"),
        ('{"seed": 1}', "use --iterations and --seeds"),
    ):
        keys.write_text(text)
        assert study("--labels", 1, "-o", tree / "other", "--config", keys) == 1
        assert words in capsys.readouterr().err


def test_preset_is_read_kept_and_flags_win(study, tree):
    variants = [f"scratch:{TRAINER}", {"name": "fast", "trainer": TRAINER, "config": {"initial_lr": 0.01}}]
    content = {
        "dataset": 321,
        "labels": [1, 2],
        "seeds": 1,
        "variants": variants,
        "subject": r"patient\d+",
        "iterations": 50,
    }
    preset = tree / "preset.json"
    preset.write_text(json.dumps(content))
    assert study("--preset", preset, "--labels", 2, new=False) == 0
    found = read_study(tree / "out", FEW_LABEL)
    assert found.values == [2] and found.iterations == 50 and found.variant("fast").config == {"initial_lr": 0.01}
    assert json.loads((tree / "out" / "runs" / "fast_n2_s0" / "config.json").read_text())["initial_lr"] == 0.01
    assert json.loads((tree / "out" / "preset.json").read_text()) == content


def test_jobs_have_cores_of_their_own(study, tree, fake):
    from nnunet_xlstm.studies.execute import split_cores

    assert study("--labels", 1, 2, "--jobs", 2) == 0
    parts = [part for part in split_cores(2) if part]
    assert len({core for part in parts for core in part}) == sum(map(len, parts))


def test_links_of_test_cases(study, tree):
    assert study("--labels", 1, "--seeds", 1) == 0
    images = sorted(path.name for path in (tree / "out" / "scored" / "test" / "images").iterdir())
    assert images[0] == "patient5_ED_0000.nii.gz" and len(images) == 6
    assert RawImages.find("321").labels["patient5_ED"].resolve() == (
        (tree / "out" / "scored" / "test" / "labels" / "patient5_ED.nii.gz").resolve()
    )
