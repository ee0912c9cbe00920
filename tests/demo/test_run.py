"""The demo: refusals before anything is written, child processes, and the whole run at its smallest."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from support.raw_datasets import change

from nnunet_xlstm.demo import inputs, run
from nnunet_xlstm.demo.page import text_lines
from nnunet_xlstm.demo.progress import EpochBar, Stages, epoch_loss
from nnunet_xlstm.nnunet.install import registration


def make_raw(folder: Path, n: int = 5, size=(6, 6, 6), **facts) -> Path:
    """A raw dataset of n empty cases."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for i in range(n):
        sitk.WriteImage(sitk.Image(size, sitk.sitkFloat32), str(folder / "imagesTr" / f"c{i}_0000.nii.gz"))
        sitk.WriteImage(sitk.Image(size, sitk.sitkUInt8), str(folder / "labelsTr" / f"c{i}.nii.gz"))
    facts = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "a": 1},
        "numTraining": n,
        "file_ending": ".nii.gz",
    } | facts
    (folder / "dataset.json").write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))
    return folder


# Input --------------------------------------------------------------------------------------------------------------


def test_read_dataset(tmp_path):
    raw = make_raw(tmp_path / "Dataset012_A_b", labels={"background": 0, "all": [1, 2], "core": 2, "ignore": 3})
    dataset = inputs.read_dataset(raw)
    assert (dataset.number, dataset.configuration()) == ("012", "3d_fullres")
    assert dataset.classes.names == {"(1, 2)": "all", "2": "core"}
    assert not dataset.has_plain_labels()
    assert list(dataset.files("Tr")) == [f"c{i}" for i in range(5)] and dataset.files("Ts") == {}


def test_flat_images_are_trained_in_2d(tmp_path):
    assert inputs.read_dataset(make_raw(tmp_path / "Dataset001_Flat", size=(6, 6, 1))).configuration() == "2d"


def test_images_elsewhere(tmp_path):
    raw = make_raw(tmp_path / "Dataset001_A")
    where = {f"x{i}": {"images": [f"imagesTr/c{i}_0000.nii.gz"], "label": f"labelsTr/c{i}.nii.gz"} for i in range(5)}
    moved = make_raw(tmp_path / "Dataset002_B", n=0, dataset={
        name: {"images": [f"../{raw.name}/{row['images'][0]}"], "label": f"../{raw.name}/{row['label']}"}
        for name, row in where.items()
    })  # fmt: skip
    dataset = inputs.read_dataset(moved)
    assert list(dataset.files("Tr")) == sorted(where)
    assert all(Path(file).is_file() for file in (*dataset.files("Tr")["x1"].images, dataset.files("Tr")["x1"].label))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda raw: shutil.rmtree(raw), "no such folder"),
        (lambda raw: (raw / "dataset.json").unlink(), "no dataset.json"),
        (lambda raw: (raw / "dataset.json").write_text("{"), "not valid JSON"),
        (lambda raw: (raw / "dataset.json").write_text("{}"), "without channel_names, labels"),
        (lambda raw: (raw / "labelsTr" / "c0.nii.gz").unlink(), "4 labelled training cases"),
        (lambda raw: (raw / "imagesTr" / "c3_0000.nii.gz").unlink(), "case 'c3' has a label but no image"),
        (
            lambda raw: change(raw, dataset={"../x": {"images": ["a"], "label": "b"}}),
            'has the key "../x"; give the name of a',
        ),
        (lambda raw: change(raw, dataset={"x": {"images": [], "label": "b"}}), "dataset.x.images is"),
    ],
)
def test_unusable_data_is_refused_and_nothing_written(tmp_path, spoil, message):
    raw = make_raw(tmp_path / "Dataset001_A")
    spoil(raw)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run.run_demo(tmp_path / "out", raw)
    assert not (tmp_path / "out").exists()


def test_wrong_folder_name(tmp_path):
    with pytest.raises(ValueError, match="Rename it, for example to Dataset123_heart"):
        run.run_demo(tmp_path / "out", make_raw(tmp_path / "heart"))


def test_wrong_numbers(tmp_path):
    with pytest.raises(ValueError, match="need 10 or more"):
        run.run_demo(tmp_path / "out", cases=9)
    with pytest.raises(ValueError, match="give one of them"):
        run.run_demo(tmp_path / "out", tmp_path, cases=10)


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "demo.json").write_text('{"made_by": "me"}')
    with pytest.raises(ValueError, match="left alone"):
        run.run_demo(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.json", "thesis.tex"]
    with pytest.raises(ValueError, match="is a file"):
        run.run_demo(tmp_path / "thesis.tex")


def test_data_inside_out_is_left_alone(tmp_path):
    inputs.prepare_out(tmp_path)
    raw = make_raw(tmp_path / "nnUNet_raw" / "Dataset001_A")
    with pytest.raises(ValueError, match="lies inside"):
        run.run_demo(tmp_path, raw)
    assert (raw / "dataset.json").is_file()


def test_earlier_demo_is_replaced_but_linked_data_and_own_files_stay(tmp_path):
    raw, out = make_raw(tmp_path / "Dataset001_A"), tmp_path / "out"
    inputs.check_out(out, raw)
    inputs.prepare_out(out)
    placed = inputs.place_dataset(inputs.read_dataset(raw), out / "nnUNet_raw")
    assert placed.folder.is_relative_to(out) and Path(placed.files("Tr")["c0"].images[0]).is_file()
    (out / "summary.json").write_text("{}")
    (out / "notes.txt").write_text("mine")
    inputs.check_out(out, raw)
    inputs.prepare_out(out)
    assert not (out / "summary.json").exists() and not any((out / "nnUNet_raw").iterdir())
    assert (out / "notes.txt").is_file() and len(list((raw / "imagesTr").iterdir())) == 5


# Parts --------------------------------------------------------------------------------------------------------------


def test_epochs_are_read_from_the_log(capsys):
    assert epoch_loss("2026-11-22 14:41:23.115235: train_loss -0.2061 \n") == -0.2061
    assert epoch_loss("2026-11-22 14:41:23.115235: val_loss 1.6 \n") is None
    with EpochBar(2, progress=True) as bar:
        for i in range(2):
            bar.update_from(f"2026-11-22: Epoch {i} \n")
            bar.update_from("2026-11-22: train_loss 0.5 \n")
    assert "2/2" in capsys.readouterr().err


def test_stages_time_themselves():
    stages = Stages(progress=False)
    with stages("data"):
        pass
    with pytest.raises(KeyError), stages("plan"):
        raise KeyError
    assert list(stages.seconds) == ["data"]


@pytest.mark.parametrize(
    ("patch", "batch", "limit", "expected"),
    [
        ([40, 40, 48], 2, 64_000, {"patch_size": [40, 40, 40], "batch_size": 2}),
        ([40, 40, 48], 2, 52_000, {"patch_size": [32, 40, 40], "batch_size": 2}),
        ([32, 32, 32], 4, 52_000, {"patch_size": [32, 32, 32], "batch_size": 4}),
        ([8, 8, 8], 900, 1, {"patch_size": [8, 8, 8], "batch_size": 390}),
    ],
)
def test_cpu_sizes(patch, batch, limit, expected):
    strides = [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    plan = {"patch_size": patch, "batch_size": batch, "architecture": {"arch_kwargs": {"strides": strides}}}
    assert run.cpu_sizes(plan, limit) == expected


def test_table():
    lines = text_lines(
        {
            "dataset": "D", "n_scored": 2, "scored_on": "test cases", "mean_dice": 0.91,
            "dice": {"LV": 0.91, "RV": None},
            "intensity_baseline": {"mean": 0.2, "per_structure": {"LV": 0.2, "RV": None}},
            "seconds": {"plan": 10.2, "train": 99.6}, "total_seconds": 110.0, "device": "cpu",
        }
    )  # fmt: skip
    assert [line.split() for line in lines if line.startswith(("LV", "RV", "mean"))] == [
        ["LV", "0.910", "0.200"], ["RV", "–", "–"], ["mean", "0.910", "0.200"],
    ]  # fmt: skip
    assert lines[-1] == "110 s on cpu: plan 10, train 100"


# The whole ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_demo_on_phantoms_then_on_their_data(tmp_path, monkeypatch):
    """Two iterations: the path, not the quality."""
    monkeypatch.setitem(run.TRAINING, "num_iterations_per_epoch", 2)
    monkeypatch.setattr(run, "PHANTOM_PATCH_VOXELS", 16**3)
    monkeypatch.setattr(run, "DATA_PATCH_VOXELS", 16**3)
    monkeypatch.setattr(run, "TEST_CASES", 2)
    summary = run.run_demo(tmp_path / "first", epochs=1, cases=10, progress=False)
    check_report(tmp_path / "first", summary, scored_on="test cases", n_scored=2)
    assert list(summary["seconds"]) == list(Stages.names)

    raw = tmp_path / "Dataset123_Mine"
    shutil.copytree(tmp_path / "first" / "nnUNet_raw" / run.PHANTOMS, raw, ignore=shutil.ignore_patterns("*Ts"))
    monkeypatch.setattr(registration, "shim_state", lambda path: "missing")  # the fallbacks do as well
    summary = run.run_demo(tmp_path / "second", raw, epochs=1, progress=False)
    check_report(tmp_path / "second", summary, scored_on="validation cases of fold 0", n_scored=2)
    assert summary["commands"][0]["command"][:4] == [sys.executable, "-m", "nnunet_xlstm", "plan_and_preprocess"]


def check_report(out: Path, summary: dict, scored_on: str, n_scored: int) -> None:
    assert json.loads((out / "summary.json").read_text()) == summary
    assert (summary["scored_on"], summary["n_scored"]) == (scored_on, n_scored)
    assert len(summary["dice"]) == 7 and 0 <= summary["mean_dice"] <= 1
    assert summary["intensity_baseline"]["mean"] < 0.6
    assert len(summary["pictures"]) == n_scored and all(
        (out / name).stat().st_size > 5000 for name in summary["pictures"]
    )
    assert (out / "index.html").read_text().count("<img") == n_scored
    for row in summary["commands"]:
        assert (out / "logs" / f"{row['stage']}.log").stat().st_size > 0
