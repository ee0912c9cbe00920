"""`--c` and `--val` through nnU-Net's own functions: which config they use, and what a finished run does."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_xlstm.errors import ConfigError

PLANS = "nnUNetXLSTMUNetTinyPlans"
QUICK = {"num_epochs": 1, "num_iterations_per_epoch": 1, "num_val_iterations_per_epoch": 1, "batch_size": 2, "seed": 7}
QUICK |= {"patch_size": [16, 16, 16]}
PRETRAINING = {
    "gradient_accumulation": 1,
    "n_prototypes": 16,
    "n_prototypes_inner": 8,
    "head_hidden": 16,
    "head_bottleneck": 8,
}
PRETRAINING |= {"queue_size": 8, "monitor_vectors": 16, "dense_points": 8}
TRAINERS = {
    "nnUNetTrainerXLSTMUNetShort": ("Dataset901_Ellipsoids", {}),
    "nnUNetTrainerPool": ("Dataset905_Two", {"out_of_scope_targets": "absent"}),
    "nnUNetTrainerDINO": ("Dataset901_Ellipsoids", PRETRAINING),
}


@pytest.fixture
def make(make_trainer, pool):
    """make(name, keys, continuing) -> a trainer on all cases of its data set."""

    def _make(name, keys, continuing=False):
        return make_trainer(name, keys, dataset=TRAINERS[name][0], fold="all", continuing=continuing)

    return _make


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.suffix in (".json", ".pth")}


@pytest.mark.parametrize("name", TRAINERS)
def test_the_config_of_the_checkpoint_is_the_default(make, name):
    own = QUICK | TRAINERS[name][1]
    first = make(name, own)
    first.run_training()
    before = stamps(first.output_folder_base)

    again = make(name, None, continuing=True)  # nnUNetv2_train ... --c
    assert again.num_epochs > 1  # the recipe's
    maybe_load_checkpoint(again, True, False)
    assert again.config == first.config and again.configuration_manager.patch_size == [16, 16, 16]
    assert again.num_epochs == 1 == again.current_epoch and again.batch_size == 2
    again.run_training()
    assert again.current_epoch == 1 and stamps(first.output_folder_base) == before

    scored = make(name, None)  # nnUNetv2_train ... --val
    maybe_load_checkpoint(scored, False, True)
    assert scored.config == first.config and scored.configuration_manager.patch_size == [16, 16, 16]
    if name == "nnUNetTrainerPool":
        assert set(scored.absent) == {"Both", "Whole"}

    for continuing in (True, False):
        other = make(name, own | {"patch_size": [16, 16, 20]}, continuing)
        with pytest.raises(ConfigError, match=r"patch_size \[16, 16, 16\], this run has \[16, 16, 20\]"):
            maybe_load_checkpoint(other, continuing, not continuing)
        assert not other.was_initialized


def test_a_recipe_that_does_not_fit_the_plans_gives_way_to_the_checkpoint(make, monkeypatch):
    """The trainer's own patch cannot be divided by the strides; the run was made with another one."""
    name = "nnUNetTrainerXLSTMUNetShort"
    first = make(name, QUICK)
    first.run_training()
    monkeypatch.setattr(type(first), "recipe", dataclasses.replace(first.recipe, patch_size=[15, 16, 16]))
    again = make(name, None, continuing=True)
    maybe_load_checkpoint(again, True, False)
    assert again.configuration_manager.patch_size == [16, 16, 16]
    with pytest.raises(ConfigError, match="axis 0 is not divisible"):
        make(name, None).initialize()


def test_a_finished_run_may_be_made_longer(make):
    first = make("nnUNetTrainerXLSTMUNetShort", QUICK)
    first.run_training()
    longer = make("nnUNetTrainerXLSTMUNetShort", QUICK | {"num_epochs": 2}, continuing=True)
    maybe_load_checkpoint(longer, True, False)
    longer.run_training()
    final = torch.load(os.path.join(longer.output_folder, "checkpoint_final.pth"), weights_only=False)
    assert final["current_epoch"] == 2


@pytest.mark.parametrize("damage", ["absent", "cut off"])
def test_a_run_killed_after_its_last_epoch_writes_its_final_checkpoint(make, damage):
    first = make("nnUNetTrainerXLSTMUNetShort", QUICK)
    first.run_training()
    final = Path(first.output_folder, "checkpoint_final.pth")  # the best one is of the last epoch, too
    whole = final.read_bytes()
    if damage == "absent":
        final.unlink()
    else:
        final.write_bytes(whole[:1000])
    again = make("nnUNetTrainerXLSTMUNetShort", None, continuing=True)
    maybe_load_checkpoint(again, True, False)
    again.run_training()
    assert again.current_epoch == 1 and torch.load(final, weights_only=False)["current_epoch"] == 1


def test_a_run_killed_between_its_last_two_steps_leaves_no_latest_checkpoint(make):
    """nnU-Net deletes it when the final one is written."""
    first = make("nnUNetTrainerXLSTMUNetShort", QUICK)
    first.run_training()
    final, latest = (Path(first.output_folder, f"checkpoint_{name}.pth") for name in ("final", "latest"))
    latest.write_bytes(final.read_bytes())
    again = make("nnUNetTrainerXLSTMUNetShort", None, continuing=True)
    maybe_load_checkpoint(again, True, False)
    again.run_training()
    assert final.is_file() and not latest.exists()


def test_keys_of_another_version_are_named(make):
    first = make("nnUNetTrainerXLSTMUNetShort", QUICK)
    first.run_training()
    path = Path(first.output_folder, "checkpoint_final.pth")
    content = torch.load(path, weights_only=False)
    content["init_args"]["nnunet_xlstm"]["config"]["forgotten"] = 1
    torch.save(content, path)
    again = make("nnUNetTrainerXLSTMUNetShort", None, continuing=True)
    lines = []
    again.print_to_log_file = lambda *text, **_: lines.append(" ".join(map(str, text)))
    maybe_load_checkpoint(again, True, False)
    assert again.num_epochs == 1 and any("['forgotten']" in line for line in lines)


@pytest.mark.parametrize("name", ["nnUNetTrainerXLSTMUNetShort", "nnUNetTrainerDINO"])
def test_too_few_cases_for_folds(make, nnunet_tree, name):
    """Four cases and five folds: a sentence comes before sklearn's error."""
    trainer = make(name, QUICK)
    trainer.fold = 0
    trainer.initialize()
    identifiers = trainer.dataset_class.get_identifiers(trainer.preprocessed_dataset_folder)
    trainer.dataset_class = type("Few", (trainer.dataset_class,), {"get_identifiers": lambda folder: identifiers[:4]})
    splits = Path(trainer.preprocessed_dataset_folder_base) / "splits_final.json"
    text = splits.read_text() if splits.is_file() else None
    try:
        splits.unlink(missing_ok=True)
        with pytest.raises(ValueError, match="4 preprocessed cases, too few for 5 folds; train on fold `all`"):
            trainer.do_split()
        assert not splits.is_file()
    finally:
        if text is not None:
            splits.write_text(text)


def test_pretraining_on_a_cascade_is_refused(make, nnunet_tree, tmp_path, monkeypatch):
    from nnunet_xlstm.trainers.nnUNetTrainerDINO import nnUNetTrainerDINO

    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    folder = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids"
    plans = json.loads((folder / f"{PLANS}.json").read_text()) | {"continue_training": False}
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    facts = json.loads((folder / "dataset.json").read_text())
    with pytest.raises(ConfigError, match="also takes the segmentation of 3d_lowres.*use 3d_fullres"):
        nnUNetTrainerDINO(plans, "3d_cascade_fullres", "all", facts, torch.device("cpu"))
    assert not (tmp_path / "results").exists()
