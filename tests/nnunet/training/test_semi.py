"""Semi-supervised trainers inside nnU-Net, on the tiny tree and a data set of unlabelled images beside it."""

import json
import math
import multiprocessing.dummy
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from support.ranks import start
from torch import distributed as dist

from nnunet_xlstm.datasets.case_index import NAME, CaseRecord, PoolCases
from nnunet_xlstm.errors import ConfigError, DatasetError

PLANS = "nnUNetXLSTMUNetTinyPlans"
LABELLED, UNLABELLED = "Dataset901_Ellipsoids", "Dataset907_Unlabelled"
QUICK = {
    "num_epochs": 2,
    "num_iterations_per_epoch": 2,
    "num_val_iterations_per_epoch": 1,
    "patch_size": [16, 16, 16],
    "batch_size": 2,
    "mirroring": False,
    "seed": 7,
    "oversample_foreground_percent": 1.0,  # else an ignore label asks for annotated places, which the tree lacks
    "unlabelled": "907",
    "pretrain_fraction": 0.0,
    "ramp_fraction": 0.0,
}


def preprocess(number, configuration):
    """What nnUNetv2_preprocess does, in threads: a process of its own would import torch first."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

    with (
        mock.patch.object(multiprocessing, "get_context", lambda method: multiprocessing.dummy),
        mock.patch("nnunetv2.utilities.utils.Pool", multiprocessing.dummy.Pool),
    ):
        preprocess_dataset(number, PLANS, (configuration,), num_processes=[1])


@pytest.fixture(scope="session")
def unlabelled(nnunet_tree):
    """Three images with body masks, preprocessed as docs/how-to/semi-supervised.md says it."""
    from nnunetv2.experiment_planning.plans_for_pretraining.move_plans_between_datasets import (
        move_plans_between_datasets,
    )

    from nnunet_xlstm.cli.main import main

    images = nnunet_tree / "scans"
    images.mkdir()
    rng = np.random.default_rng(5)
    for i in range(3):
        image = rng.normal(0, 0.3, (20, 24, 28)).astype(np.float32)
        image[5:15, 6:18, 8:20] += 1
        sitk.WriteImage(sitk.GetImageFromArray(image), str(images / f"scan{i}.nii.gz"))
    assert main(["unlabelled", "-i", str(images), "--modality", "MR", "-d", "907"]) == 0
    with mock.patch("nnunetv2.utilities.utils.Pool", multiprocessing.dummy.Pool):
        move_plans_between_datasets(901, 907, PLANS, PLANS)
    preprocess(907, "3d_fullres")
    return nnunet_tree / "preprocessed" / UNLABELLED


@pytest.fixture
def make(make_trainer, unlabelled):
    """make(name, **keys) -> a trainer with the quick config."""

    def _make(name="nnUNetTrainerSemi", edit=lambda plans, description: None, **keys):
        trainer = make_trainer(name, QUICK | keys, edit=edit)
        trainer.logger.plot_progress_png = lambda *_: None  # pictures would take most of the time
        return trainer

    return _make


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def begin(trainer):
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def step(trainer):
    return float(trainer.train_step(next(trainer.dataloader_train))["loss"])


def run(trainer):
    trainer.perform_actual_validation = lambda *_: None
    trainer.run_training()
    return weights(trainer.network)


def as_regions(plans, description):
    description["labels"] = {"background": 0, "whole": [1, 2], "core": [2]}
    description["regions_class_order"] = [1, 2]


def with_ignore(plans, description):
    description["labels"] = {"background": 0, "shell": 1, "core": 2, "ignore": 3}


KEYS = [
    {},
    {"confidence": 0.6, "largest_component": True, "strong_intensity": 0.2, "unlabelled_batch_size": 3},
    {"copy_paste": "labelled_only"},
    {"copy_paste": "none", "consistency": "kl"},
    {"consistency": "mse"},
]


@pytest.mark.parametrize("edit", [lambda *_: None, as_regions, with_ignore])
@pytest.mark.parametrize("keys", KEYS)
def test_a_step_changes_the_network_and_the_teacher_follows(make, edit, keys):
    trainer = begin(make(edit=edit, teacher_momentum=0.5, teacher_momentum_end=0.5, **keys))
    seen = []
    trainer.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    assert equal(weights(trainer.teacher), weights(trainer.network))
    assert math.isfinite(step(trainer))
    assert equal(weights(trainer.teacher), weights(trainer.network))  # the first step copies
    before = {k: v.clone() for k, v in trainer.teacher.named_parameters()}
    assert math.isfinite(step(trainer))
    after = dict(trainer.teacher.named_parameters())
    for name, student in trainer.network.named_parameters():
        torch.testing.assert_close(after[name], (before[name] + student) / 2)
    assert seen == [trainer.images_per_step] * 2


def test_mean_teacher(make):
    trainer = begin(make("nnUNetTrainerMeanTeacher"))
    assert math.isfinite(step(trainer)) and math.isfinite(step(trainer))


def test_2d(make_trainer, unlabelled):
    for number in (901, 907):
        preprocess(number, "2d")
    trainer = begin(make_trainer("nnUNetTrainerSemi", QUICK | {"patch_size": [16, 16]}, configuration="2d"))
    assert math.isfinite(step(trainer))


@pytest.mark.parametrize("edit", [lambda *_: None, as_regions, with_ignore])
def test_the_loss_of_mixed_images_is_that_of_nnunet_over_their_sure_voxels(make, edit):
    """Against loops: Dice over the batch and cross-entropy, voxel by voxel, of the voxels that count."""
    trainer = begin(make(edit=edit))
    regions, ignored = trainer.coding.regions, trainer.coding.ignored
    torch.manual_seed(1)
    logits = torch.randn(3, 2 if regions else 3, 4, 5, 6)
    sure = torch.rand(3, 1, 4, 5, 6) > 0.3
    labels = torch.rand(3, 2, 4, 5, 6) > 0.5 if regions else torch.randint(0, 3, (3, 1, 4, 5, 6))
    target = trainer.coding.encode(labels, sure)
    assert regions or ((target == ignored) == ~sure).all()
    inner = trainer.ignoring_loss.loss
    found = inner(logits, target)
    p = logits.sigmoid() if regions else logits.softmax(1)
    y = labels.float() if regions else torch.nn.functional.one_hot(labels[:, 0], 3).movedim(-1, 1).float()
    keep = sure.float()
    if regions:
        entropy = -(y * p.log() + (1 - y) * (1 - p).log()).sum(1, keepdim=True)
    else:
        entropy = -(y * p.log()).sum(1, keepdim=True)
    entropy = (entropy * keep).sum() / keep.sum()
    axes = (0, 2, 3, 4) if inner.dc.batch_dice else (2, 3, 4)
    both, total = (p * y * keep).sum(axes), ((p + y) * keep).sum(axes)
    dice = (2 * both + 1e-5) / (total + 1e-5)
    dice = dice if regions else dice[..., 1:]
    torch.testing.assert_close(found, entropy - dice.mean(), rtol=1e-4, atol=1e-4)


def test_without_ignored_voxels_both_losses_are_one(make):
    trainer = begin(make())
    batch = next(trainer.dataloader_train)
    with torch.no_grad():
        output = trainer.network(batch["data"])
    torch.testing.assert_close(trainer.ignoring_loss(output, batch["target"]), trainer.loss(output, batch["target"]))


def test_nothing_of_an_unlabelled_cases_label_is_read(make, unlabelled, tmp_path):
    """Other labels, and other places of foreground, in the preprocessed files: the same run."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    clean = run(make())
    shutil.rmtree(tmp_path / "results")
    folder = unlabelled / "nnUNetPlans_3d_fullres"
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    try:
        dataset = nnUNetDatasetBlosc2(str(folder))
        for case in dataset.identifiers:
            data, labels, _, properties = dataset.load_case(case)
            image, planted = data[:], np.full_like(labels[:], 2)
            properties["class_locations"] = {1: np.zeros((5, 4), int), 2: np.ones((5, 4), int)}
            layout = {"chunks": data.chunks, "blocks": data.blocks}
            for path in folder.glob(f"{case}*"):
                path.unlink()
            dataset.save_case(image, planted, properties, str(folder / case), **layout)
            assert dataset.load_case(case)[1][:].min() == 2
        assert equal(clean, run(make()))
    finally:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)


@pytest.mark.parametrize("branch", ["student", "teacher"])
def test_resume_is_exact(make, branch, tmp_path):
    """Stop after epoch 0, load, go on: the same student and teacher as of an unbroken run."""
    keys = {"export_branch": branch, "save_every": 1, "num_epochs": 3, "ramp_fraction": 0.5}
    unbroken = make(**keys)
    first = run(unbroken)
    trainer = make(**keys)

    class Killed(Exception):
        pass

    def kill():
        if trainer.current_epoch == 1:
            raise Killed

    trainer.on_train_epoch_start, original = lambda: (kill(), original()), trainer.on_train_epoch_start
    with pytest.raises(Killed):
        trainer.run_training()
    again = make(**keys)
    again.load_checkpoint(f"{trainer.output_folder}/checkpoint_latest.pth")
    assert again.current_epoch == 1
    assert equal(first, run(again)) and equal(weights(unbroken.teacher), weights(again.teacher))


@pytest.mark.parametrize("branch", ["student", "teacher"])
def test_the_exported_branch_is_what_a_checkpoint_holds_for_prediction(make, branch):
    trainer = make(export_branch=branch, num_epochs=1)
    student = run(trainer)
    path = f"{trainer.output_folder}/checkpoint_final.pth"
    stored = torch.load(path, weights_only=False)
    wanted = student if branch == "student" else weights(trainer.teacher)
    assert equal(stored["network_weights"], wanted) and not equal(student, weights(trainer.teacher))
    again = make(export_branch=branch)
    again.load_checkpoint(path)
    assert equal(weights(again.network), student) and equal(weights(again.teacher), weights(trainer.teacher))


def test_the_exported_branch_is_validated(make):
    trainer = begin(make(export_branch="teacher"))
    step(trainer), step(trainer)
    student, teacher = weights(trainer.network), weights(trainer.teacher)
    trainer.on_validation_epoch_start()
    assert equal(weights(trainer.network), teacher)
    trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
    assert equal(weights(trainer.network), student) and equal(weights(trainer.teacher), teacher)


def test_the_teacher_stays_where_a_step_is_skipped(make):
    trainer = begin(make())
    step(trainer), step(trainer)
    before = weights(trainer.teacher)
    batch = next(trainer.dataloader_train)
    trainer.train_step(batch | {"data": batch["data"] * math.nan})
    assert equal(before, weights(trainer.teacher))


def test_labelled_images_alone_until_the_start(make):
    trainer = begin(make(pretrain_fraction=0.5))
    taken = []
    trainer.dataloader_unlabelled = iter(lambda: taken.append(1) or {"data": torch.zeros(2, 1, 16, 16, 16)}, None)
    step(trainer), step(trainer)
    assert not taken and equal(weights(trainer.teacher), weights(trainer.network))
    trainer.current_epoch = 1
    trainer.on_train_epoch_start()
    step(trainer)
    assert taken


def test_pretrained_weights_reach_the_teacher(make):
    trainer = make()
    trainer.initialize()
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(1)
    trainer.on_train_start()
    assert equal(weights(trainer.network), weights(trainer.teacher))


def test_a_collapse_is_in_the_log(make):
    trainer = begin(make())
    with torch.no_grad():
        for layer in trainer.teacher.modules():
            if isinstance(layer, torch.nn.Conv3d) and layer.out_channels == 3:
                layer.bias.copy_(torch.tensor([1e4, 0, 0]))
    step(trainer)
    lines = []
    trainer.print_to_log_file = lambda *text: lines.append(" ".join(map(str, text)))
    trainer.on_train_epoch_end([{"loss": np.float32(1)}])
    assert any(line.startswith("WARNING: pseudo-labels") and "(collapse)" in line for line in lines)


def rank_main(rank: int, folder: str) -> None:
    """Three steps, the second of which is skipped on both ranks because one sees NaN."""
    trainer = start("nnUNetTrainerSemi", rank, folder)
    trainer.on_train_epoch_start()
    moved = []
    for k in range(3):
        batch = next(trainer.dataloader_train)
        before = weights(trainer.teacher)
        trainer.train_step(batch | {"data": batch["data"] * (math.nan if k == rank == 1 else 1)})
        moved.append(not equal(before, weights(trainer.teacher)))
    branches = (trainer.bare_network(), trainer.teacher)
    norms = [sum(p.double().abs().sum().item() for p in branch.parameters()) for branch in branches]
    Path(folder, f"rank_{rank}.json").write_text(json.dumps({"moved": moved, "norms": norms}))
    dist.destroy_process_group()


@pytest.mark.slow
def test_teachers_of_two_ranks_agree(unlabelled, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(QUICK))
    monkeypatch.setenv("nnUNet_xlstm_config", str(tmp_path / "config.json"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    torch.multiprocessing.start_processes(rank_main, (str(tmp_path),), nprocs=2, start_method="spawn")
    one, two = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2))
    assert one == two and one["moved"] == [True, False, True] and one["norms"][0] != one["norms"][1]


# ---- which cases


def test_null_takes_the_cases_that_the_fold_does_not_name(make, unlabelled, monkeypatch):
    trainer = make(unlabelled=None)
    monkeypatch.setattr(trainer, "do_split", lambda: (["case_0", "case_1"], ["case_2"]))
    begin(trainer)
    cases = trainer.dataloader_unlabelled.augmenter.data_loader.indices
    assert list(cases) == ["case_3", "case_4", "case_5"]


def test_null_without_a_case_left(make):
    with pytest.raises(DatasetError, match="unlabelled = null: .* holds no case beside those that the fold"):
        begin(make(unlabelled=None))


def test_an_unknown_data_set(make):
    with pytest.raises(ConfigError, match="unlabelled = 999: no data set of this id or name"):
        begin(make(unlabelled="999"))


def test_other_plans_are_refused_with_the_commands(make, unlabelled):
    path = unlabelled / f"{PLANS}.json"
    text = path.read_text()
    changed = json.loads(text)
    changed["foreground_intensity_properties_per_channel"]["0"]["mean"] += 1
    try:
        path.write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match="foreground_intensity_properties_per_channel in .* differs.*move_plans"):
            begin(make())
        path.unlink()
        with pytest.raises(ConfigError, match="is missing; run `nnUNetv2_move_plans_between_datasets -s Dataset901"):
            begin(make())
    finally:
        path.write_text(text)


@pytest.fixture
def subjects(nnunet_tree, unlabelled):
    """subjects(labelled, unlabelled): write pool_cases.json into both folders; taken away afterwards."""
    written = []

    def _write(*tables):
        for name, table in zip((LABELLED, UNLABELLED), tables, strict=True):
            path = nnunet_tree / "preprocessed" / name / NAME
            before = path.read_text() if path.is_file() else None
            written.append((path, before))
            cases = {case: CaseRecord("A", subject, "MR") for case, subject in table.items()}
            path.write_text(json.dumps(PoolCases(cases).to_json()))

    yield _write
    for path, before in reversed(written):
        path.unlink() if before is None else path.write_text(before)


def test_a_subject_on_both_sides_is_refused(make, subjects, monkeypatch, unlabelled):
    names = sorted(path.stem for path in (unlabelled / "nnUNetPlans_3d_fullres").glob("*.pkl"))
    subjects({f"case_{i}": f"p{i}" for i in range(6)}, dict(zip(names, ("p2", "q", "r"), strict=True)))
    trainer = make()
    monkeypatch.setattr(trainer, "do_split", lambda: (["case_0", "case_1"], ["case_2"]))
    with pytest.raises(DatasetError, match=f"subjects that the fold validates on .* such as {names[0]};"):
        begin(trainer)


def test_a_test_subject_is_refused(make, nnunet_tree, monkeypatch):
    path = nnunet_tree / "raw" / LABELLED / "test_subjects.json"
    trainer = make(unlabelled=None)
    monkeypatch.setattr(trainer, "do_split", lambda: (["case_0", "case_1"], ["case_2"]))
    try:
        path.write_text(json.dumps(["case_4"]))
        with pytest.raises(DatasetError, match=r"test_subjects.json keeps for the test, such as case_4;"):
            begin(trainer)
    finally:
        path.unlink()


def test_pools_with_labels_are_refused(make, nnunet_tree, subjects):
    subjects({"case_0": "p"}, {})
    path = nnunet_tree / "preprocessed" / LABELLED / NAME
    content = json.loads(path.read_text())
    content["cases"]["case_0"]["valid"] = ["shell"]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="is a pool with labels, and nnUNetTrainerSemi takes"):
        make()


def test_a_batch_of_one_cannot_be_pasted(make):
    with pytest.raises(ConfigError, match="batch_size 1 per GPU: copy-paste among the labelled images needs two"):
        make(batch_size=1).initialize()
