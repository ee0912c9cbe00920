"""The pre-training trainers inside nnU-Net, in this process, on the tiny tree."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xlstm.datasets.case_index import CaseRecord, PoolCases
from nnunet_xlstm.errors import UserError
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.training.pretraining import _Finished

PRESETS = ["nnUNetTrainerDINO", "nnUNetTrainerDINO_HeartSeg", "nnUNetTrainerDINO_SegSync", "nnUNetTrainerMasked"]
QUICK = {
    "num_epochs": 2,
    "num_iterations_per_epoch": 2,
    "num_val_iterations_per_epoch": 1,
    "patch_size": [16, 16, 16],
    "batch_size": 2,
    "gradient_accumulation": 2,
    "n_prototypes": 32,
    "n_prototypes_inner": 16,
    "head_hidden": 32,
    "head_bottleneck": 16,
    "queue_size": 16,
    "monitor_vectors": 64,
    "dense_points": 16,
    "mask_block": 8,
    "seed": 7,
}


@pytest.fixture
def make(make_trainer):
    """make(name, **keys) -> a trainer with the quick config, on all cases."""

    def _make(name="nnUNetTrainerDINO", plans="nnUNetXLSTMUNetTinyPlans", continuing=False, row="3d_fullres", **keys):
        return make_trainer(name, QUICK | keys, plans=plans, configuration=row, fold="all", continuing=continuing)

    return _make


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def output(trainer, name):
    return Path(trainer.output_folder) / name


@pytest.fixture
def trained(make):
    trainer = make()
    trainer.run_training()
    return trainer


@pytest.mark.parametrize("name", PRESETS)
def test_a_run_trains_the_encoder_alone_and_leaves_what_it_promises(name, make):
    trainer = make(name)
    trainer.initialize()
    before = state(trainer.network)
    trainer.run_training()
    after = state(trainer.network)
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"encoder"}
    assert output(trainer, "progress.png").stat().st_size > 10_000
    rows = [json.loads(line) for line in output(trainer, "pretraining.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [-1, 0, 1]
    assert all(math.isfinite(v) for row in rows for v in row.values() if isinstance(v, float))
    assert not list(output(trainer, "").glob("checkpoint_best*"))
    content = checkpoints.read(output(trainer, "checkpoint_final.pth"))  # weights_only
    assert content["trainer_name"] == name


def test_the_teacher_follows_and_is_what_the_checkpoint_offers(trained):
    student, teacher = trained.method.student.encoder, trained.method.teacher.encoder
    assert not equal(state(student), state(teacher))
    content = checkpoints.read(output(trained, "checkpoint_final.pth"))
    offered = {k.removeprefix("encoder."): v for k, v in content["network_weights"].items() if k.startswith("encoder.")}
    assert equal(offered, state(teacher))


def test_the_student_can_be_offered_instead(make):
    trainer = make(export_branch="student")
    trainer.run_training()
    content = checkpoints.read(output(trainer, "checkpoint_final.pth"))
    assert equal(content["network_weights"], state(trainer.network))


def test_resume_is_exact(make, tmp_path):
    whole = make(num_epochs=4)
    losses = []
    step = whole.train_step
    whole.train_step = lambda batch: losses.append(step(batch)["loss"]) or {"loss": losses[-1]}
    whole.run_training()
    expected = state(whole.method)

    first = make(num_epochs=4, save_every=2)
    first.on_epoch_end_stock = first.on_epoch_end

    def stop_after_two():
        first.on_epoch_end_stock()
        if first.current_epoch == 2:
            raise KeyboardInterrupt

    first.on_epoch_end = stop_after_two
    with pytest.raises(KeyboardInterrupt):
        first.run_training()
    second = make(num_epochs=4, continuing=True)
    second.load_checkpoint(str(output(first, "checkpoint_latest.pth")))
    again = []
    step_2 = second.train_step
    second.train_step = lambda batch: again.append(step_2(batch)["loss"]) or {"loss": again[-1]}
    second.run_training()
    assert again == losses[4:]
    assert equal(state(second.method), expected)
    assert [row["epoch"] for row in second.monitor.history] == [-1, 0, 1, 2, 3]


def test_a_run_stopped_in_its_first_epoch_keeps_its_teacher(make):
    first = make(teacher_momentum=0.9)
    first.on_train_start()
    first.on_train_epoch_start()
    first.train_step(next(first.dataloader_train))
    first.current_epoch -= 1  # as after a signal: the epoch is to run again
    first.save_checkpoint(str(output(first, "checkpoint_latest.pth")))
    second = make(teacher_momentum=0.9, continuing=True, init_checkpoint="moved_away.pth")
    second.load_checkpoint(str(output(first, "checkpoint_latest.pth")))
    second.on_train_start()
    assert second.current_epoch == 0
    assert equal(state(second.method.teacher), state(first.method.teacher))
    assert not equal(state(second.method.teacher.encoder), state(second.method.student.encoder))


def test_stock_pretrained_weights_takes_the_checkpoint(trained, make):
    from nnunet_xlstm.trainers.nnUNetTrainerXLSTMUNetShort import nnUNetTrainerXLSTMUNetShort
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    plans = dict(trained.plans_manager.plans) | {"continue_training": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("nnUNet_xlstm_config")
        target = nnUNetTrainerXLSTMUNetShort(plans, "3d_fullres", 0, trained.dataset_json, torch.device("cpu"))
    target.initialize()
    load_pretrained_weights(target.network, str(output(trained, "checkpoint_final.pth")))
    assert equal(state(target.network.encoder), state(trained.method.teacher.encoder))


def test_the_next_stage_starts_from_the_teacher_with_fresh_heads(trained, make):
    path = output(trained, "checkpoint_final.pth")
    teacher, heads = state(trained.method.teacher.encoder), state(trained.method.teacher)
    second = make(init_checkpoint=str(path), seed=8)
    second.initialize()
    assert equal(state(second.method.student.encoder), teacher) and equal(state(second.method.teacher.encoder), teacher)
    assert not equal(state(second.method.teacher), heads)
    assert equal(
        {k: v for k, v in state(second.method.student).items() if k in heads}, state(second.method.teacher)
    )  # both branches begin equal
    assert second.lineage[-1]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert second.lineage[-1]["stage"] == 1 and second.lineage[-1]["dataset"] == "Dataset901_Ellipsoids"
    kept = make(init_checkpoint=str(path), keep_heads=True, seed=8)
    kept.initialize()
    assert equal(state(kept.method.teacher), heads)


def test_a_start_that_is_missing_or_foreign_is_an_error(make, trained, tmp_path):
    with pytest.raises(UserError, match="nowhere.pth: no such file"):
        make(init_checkpoint="nowhere.pth").initialize()
    other = tmp_path / "other.pth"
    torch.save({"network_weights": {}}, other)
    with pytest.raises(ValueError, match="not a checkpoint of pre-training"):
        make(init_checkpoint=str(other)).initialize()
    with pytest.raises(ValueError, match="does not fit this network"):
        path = output(trained, "checkpoint_final.pth")
        content = checkpoints.read(path)
        method = content["nnunet_xlstm"]["method"]
        content["nnunet_xlstm"]["method"] = {k: v[..., :1] if v.ndim > 1 else v for k, v in method.items()}
        torch.save(content, other)
        make(init_checkpoint=str(other)).initialize()


def test_a_network_of_nnunet_itself_can_be_pretrained(make, nnunet_tree):
    folder = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids"
    plans = json.loads((folder / "nnUNetXLSTMUNetTinyPlans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    ours = architecture["arch_kwargs"]
    keys = (
        "n_stages features_per_stage conv_op kernel_sizes strides conv_bias norm_op norm_op_kwargs dropout_op".split()
    )
    keys += "dropout_op_kwargs nonlin nonlin_kwargs".split()
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    architecture["arch_kwargs"] = {k: ours.get(k) for k in keys} | {
        "n_conv_per_stage": [1] * ours["n_stages"],
        "n_conv_per_stage_decoder": [1] * (ours["n_stages"] - 1),
    }
    (folder / "PlainTinyPlans.json").write_text(json.dumps(plans | {"plans_name": "PlainTinyPlans"}))
    trainer = make(plans="PlainTinyPlans")
    trainer.run_training()
    content = checkpoints.read(output(trainer, "checkpoint_final.pth"))
    weights = content["network_weights"]
    teacher = state(trainer.method.teacher.encoder)
    for prefix in ("encoder.", "decoder.encoder."):  # both names of the encoder hold the teacher
        assert equal({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}, teacher)


def test_a_bad_step_changes_nothing(make):
    trainer = make()
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    before = state(trainer.method)
    batch = next(trainer.dataloader_train)
    batch["global_views"][:] = float("nan")
    trainer.train_step(batch)
    assert trainer.guard.total == 1 and equal(state(trainer.method), before)


def test_on_collapse_stop_ends_the_run_with_advice(make):
    trainer = make(on_collapse="stop", collapse_patience=1, num_epochs=5)
    trainer.initialize()
    for parameter in trainer.method.parameters():
        torch.nn.init.zeros_(parameter)  # every image gets the same features
    trainer.config = trainer.config.__class__(**{**trainer.config.__dict__, "initial_lr": 0.0})
    with pytest.raises(RuntimeError, match="on_collapse"):
        trainer.run_training()


def test_the_log_says_that_nothing_is_compiled(make, monkeypatch):
    """nnU-Net would compile the segmentation network, whose forward pass is never used."""
    monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda self: True)
    monkeypatch.setattr(torch, "compile", lambda *_: pytest.fail("compiled"))
    trainer, lines = make(), []
    trainer.print_to_log_file = lambda *text, **_: lines.append(" ".join(map(str, text)))
    trainer.initialize()
    assert "pre-training runs without torch.compile; nnUNet_compile changes nothing here" in lines
    assert not any("Using torch.compile" in line for line in lines)


def test_a_teacher_too_slow_for_the_run_is_said(make):
    def said(**keys):
        trainer, lines = make(**keys), []
        trainer.print_to_log_file = lambda *text, **_: lines.append(" ".join(map(str, text)))
        trainer.on_train_start()
        return [line for line in lines if "the weights it started with" in line]

    (warning,) = said(teacher_momentum=0.999)
    assert "100% the weights it started with" in warning
    assert not said(teacher_momentum=0.1, teacher_momentum_end=0.1)
    assert not said(teacher_momentum=0.999, export_branch="student")


def test_a_nan_is_no_lowest_loss(make):
    trainer = make(early_stop_epochs=3)
    trainer.initialize()
    trainer.monitor.history = [{"epoch": i, "val_loss": v} for i, v in enumerate([3, 2, float("nan"), 1, 0.9, 0.8])]
    trainer.on_epoch_start()  # goes on
    trainer.monitor.history += [{"epoch": i, "val_loss": float("nan")} for i in (6, 7, 8)]
    with pytest.raises(_Finished):
        trainer.on_epoch_start()


def test_the_teacher_of_masked_modelling_is_the_student(make):
    trainer = make("nnUNetTrainerMasked")
    trainer.run_training()
    assert equal(state(trainer.method.teacher.encoder), state(trainer.method.student.encoder))


def test_a_run_begun_anew_starts_its_log_anew(make):
    make(num_epochs=1).run_training()
    trainer = make(num_epochs=1)
    trainer.run_training()
    rows = [json.loads(line) for line in output(trainer, "pretraining.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [-1, 0] and rows[1]["warnings"] == []
    assert rows[0]["embedding_sd"] is None and rows[1]["embedding_sd"] > 0
    assert 0 < rows[1]["least_entropy_mean_target"] <= rows[1]["entropy_mean_target"] <= 1.0001


def test_other_objectives_on_resume_are_named(make, trained):
    other = make(continuing=True, koleo_weight=0.0)
    with pytest.raises(ValueError, match="cannot go on with these keys.*koleo_weight"):
        other.load_checkpoint(str(output(trained, "checkpoint_final.pth")))


def test_local_views_and_frames_that_cannot_be(make):
    def start(**keys):
        make(**keys).on_train_start()

    with pytest.raises(ValueError, match="give 3 numbers"):
        start(n_local_crops=1, local_patch_size=[16, 16])
    with pytest.raises(ValueError, match="one cell at the bottleneck"):
        start(n_local_crops=1, local_patch_size=[4, 4, 4])
    with pytest.raises(ValueError, match="no case of this data set has another frame"):
        start(frames="pair")


def test_local_views_train(make):
    trainer = make(n_local_crops=1, local_patch_size=[8, 8, 8], num_epochs=1)
    trainer.run_training()
    assert math.isfinite(trainer.monitor.history[-1]["train_loss"])


@pytest.mark.slow
def test_two_dimensions_train(make, nnunet_tree):
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

    preprocess_dataset(901, "nnUNetXLSTMUNetTinyPlans", ("2d",), (1,))
    trainer = make(row="2d", patch_size=[16, 16], batch_size=4, num_epochs=1)
    trainer.run_training()
    assert math.isfinite(trainer.monitor.history[-1]["train_loss"])
    first = next(v for k, v in state(trainer.network).items() if k.endswith("conv.weight"))
    assert first.ndim == 4 and output(trainer, "checkpoint_final.pth").is_file()


@pytest.fixture
def cine(nnunet_tree):
    """The six cases of the tree as the frames of two subjects."""
    rows = {
        f"case_{i}": CaseRecord("Cine", f"Cine/{i // 3}", "MR", i % 3, 3, (f"cine_{i // 3}.nii.gz",)) for i in range(6)
    }
    path = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids" / "pool_cases.json"
    path.write_text(json.dumps(PoolCases(rows).to_json()))
    yield
    path.unlink()


def test_pairs_of_frames_train(make, cine):
    trainer = make(frames="pair", dense_weight=0.0, num_epochs=1)
    trainer.run_training()
    last = trainer.monitor.history[-1]
    assert math.isfinite(last["train_loss"]) and "loss_dense" not in last
    seen = next(trainer.dataloader_train)
    assert set(seen["subjects"].tolist()) <= {0, 1}


def test_early_stop(make):
    trainer = make(
        early_stop_epochs=1, num_epochs=6, initial_lr=0.0, min_peak_lr=0.0, end_lr=0.0, weight_decay_end=None
    )
    trainer.run_training()
    assert trainer.current_epoch < 6 and output(trainer, "checkpoint_final.pth").is_file()


def test_the_plan_for_nnssl_names_what_its_commands_read(trained):
    plan = checkpoints.read(output(trained, "checkpoint_final.pth"))["nnssl_adaptation_plan"]
    assert plan["key_to_encoder"] == "encoder.stages" and plan["key_to_stem"] == "encoder.stem"
    assert plan["pretrain_num_input_channels"] == 1 and plan["recommended_downstream_patchsize"] == [16, 16, 16]
    (configuration,) = plan["pretrain_plan"]["configurations"].values()
    assert configuration["spacing"] and configuration["patch_size"] == [16, 16, 16]
    names = trained.network.state_dict().keys()
    assert all(f"{key}.weight" in names for key in plan["keys_to_in_proj"])
