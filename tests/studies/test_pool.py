"""`study pool` with commands that only pretend: a pool of two sources against each source alone."""

import csv
import json
import shutil

import numpy as np
import pytest
from support.fake_study import DATASET, PLANS, TRAINER, ball, write

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.pools.build import build_pool

pytestmark = pytest.mark.usefixtures("no_drawing")
OTHER = "Dataset322_Halves"
TARGETS = [{"name": "upper"}, {"name": "lower"}]


@pytest.fixture
def pool(tree):
    """The patients of `tree` without their test subjects, and eight others, of whom the last two are for testing.

    The second source has a label 3 that the pool does not make.
    """
    raw = tree / "raw"
    for p in range(8):
        labels = ball(4 + 0.1 * p)
        labels[0, 0, 0] = 3
        write(raw / OTHER / "imagesTr" / f"p{p}_0000.nii.gz", labels.astype(np.float32))
        write(raw / OTHER / "labelsTr" / f"p{p}.nii.gz", labels)
    content = json.loads((raw / DATASET / "dataset.json").read_text())
    content["labels"]["corner"] = 3
    (raw / OTHER / "dataset.json").write_text(json.dumps(content | {"numTraining": 8}))
    (raw / OTHER / "test_subjects.json").write_text('["p6", "p7"]')
    source = {"modality": "MR", "targets": {"upper": [1], "lower": [2]}, "exclude": "test_subjects.json"}
    sources = [
        {"dataset": DATASET, "name": "Balls", "subjects": {"pattern": r"patient\d+"}, **source},
        {"dataset": OTHER, "name": "Halves", **source},
    ]
    path = tree / "POOL.json"
    path.write_text(json.dumps({"name": "Both", "targets": TARGETS, "sources": sources}))
    dataset, _ = build_pool(path, 420)
    cases = {
        dataset.folder.name: json.loads((dataset.folder / "dataset.json").read_text())["dataset"],
        OTHER: [f"p{p}" for p in range(8)],
    }
    for name, names in cases.items():
        folder = tree / "preprocessed" / name
        (folder / "some_data").mkdir(parents=True)
        for case in names:
            (folder / "some_data" / f"{case}.pkl").touch()
        shutil.copy(tree / "preprocessed" / DATASET / f"{PLANS}.json", folder)
        shutil.copy(raw / name / "dataset.json", folder)
    return path


@pytest.fixture
def study(tree, fake, pool):
    def call(*options, variants=(f"single:{TRAINER}", "full:nnUNetTrainerPool"), new=True):
        words = ["study", "pool", "-o", str(tree / "out"), "--device", "cpu"]
        words += ["-d", "420", "--pool", str(pool), "--iterations", "100", "--variants", *variants] if new else []
        return main([*words, *map(str, options)])

    return call


def test_pool_against_single_sets(study, tree, fake, capsys):
    assert study() == 0
    out = tree / "out"
    seen = [(s, v["nnUNet_results"].split("/")[-2]) for s, _, v in fake.seen]
    assert seen == [
        ("train", "single@Balls_s0"), ("predict", "single@Balls_s0"), ("evaluate", "single@Balls_s0"),
        ("train", "single@Halves_s0"), ("predict", "single@Halves_s0"), ("evaluate", "single@Halves_s0"),
        ("train", "full_s0"),
        *((f"{s}_{name}", "full_s0") for name in ("Balls", "Halves") for s in ("predict", "restrict", "evaluate")),
    ]  # fmt: skip
    trained = {v["nnUNet_results"].split("/")[-2]: c[1] for s, c, v in fake.seen if s == "train"}
    assert trained == {"single@Balls_s0": "321", "single@Halves_s0": "322", "full_s0": "420"}
    predict = next(c for s, c, _ in fake.seen if s == "predict_Balls")
    assert "--save_probabilities" in predict and predict[predict.index("-i") + 1].endswith("scored/Balls/images_pooled")
    (split,) = json.loads(
        next((out / "runs" / "single@Balls_s0" / "preprocessed").rglob("splits_final.json")).read_text()
    )
    assert len(split["train"]) == 10 and not [case for case in split["train"] if case[7] in "567"]
    (split,) = json.loads(next((out / "runs" / "full_s0" / "preprocessed").rglob("splits_final.json")).read_text())
    assert len(split["train"]) == 16  # ten of the one, six of the other
    lengths = {json.loads(p.read_text())["num_epochs"] for p in (out / "runs").glob("*/config.json")}
    assert len(lengths) == 1

    with (out / "table.csv").open(newline="") as file:
        rows = {(r["data set"], r["variant"]): r for r in csv.DictReader(file) if r["metric"] == "Dice"}
    assert [key for key in rows] == [("Balls", "single"), ("Balls", "full"), ("Halves", "single"), ("Halves", "full")]
    assert rows["Balls", "full"]["subjects"] == "3" and rows["Halves", "full"]["subjects"] == "2"
    scores = json.loads((out / "runs" / "full_s0" / "scored" / "Halves" / "summary.json").read_text())
    expected = np.mean([[case["metrics"][key]["Dice"] for key in ("1", "2")] for case in scores["metric_per_case"]])
    assert float(rows["Halves", "full"]["mean"]) == pytest.approx(expected)  # without the class that the pool lacks
    overall = json.loads((out / "compare" / "comparison.json").read_text())["metrics"]["Dice"]["full"]
    assert overall["mean"] == pytest.approx(np.mean([float(rows[s, "full"]["mean"]) for s in ("Balls", "Halves")]))
    text = capsys.readouterr().out
    assert "Halves: the classes 3 are not scored for any variant" in text
    assert "Balls: full has the highest Dice" in text and "Scored subjects: Balls 3, Halves 2" in text
    fake.seen.clear()
    assert study(new=False) == 0 and fake.seen == []


def test_a_killed_pool_run_goes_on_with_the_source_that_is_left(study, fake, tree):
    def spoil(stage, folder):
        if stage == "restrict_Halves":
            raise KeyboardInterrupt

    fake.spoil = staticmethod(spoil)
    assert study("--only", "full_s0") == 130
    fake.seen.clear()
    fake.spoil = staticmethod(lambda stage, folder: None)
    assert study("--only", "full_s0", new=False) == 0
    assert [s for s, _, _ in fake.seen] == ["predict_Halves", "restrict_Halves", "evaluate_Halves"]


def test_what_is_refused(study, tree, fake, pool, capsys):
    def refused(words, *options, **variants):
        assert study(*options, **variants) == 1
        assert words in capsys.readouterr().err

    refused("none trains on the pool", variants=[f"single:{TRAINER}"])
    refused("none trains on single data sets", variants=["full:nnUNetTrainerPool"])
    refused("'folds' is not a setting of study pool", "--folds", 0)
    content = json.loads(pool.read_text())
    (tree / "raw" / OTHER / "test_subjects.json").write_text('["p5", "p6"]')
    refused("source Halves: the pool trains on the test subjects 'p5'")
    (tree / "raw" / OTHER / "test_subjects.json").write_text('["p6"]')
    pool.write_text(json.dumps(content | {"sources": content["sources"][:1]}))
    refused("names the sources 'Balls', Dataset420_Both was built from 'Balls', 'Halves'")
    (tree / "raw" / OTHER / "test_subjects.json").unlink()
    del content["sources"][1]["exclude"]
    pool.write_text(json.dumps(content))
    refused("source Halves: no labelled case is held out")
    assert fake.seen == []
