"""The trainers inside nnU-Net, in this process, on the tiny tree."""

import errno
import inspect
import json
import math
import os
import signal

import pytest
import torch

from nnunet_xlstm import registry
from nnunet_xlstm.config import PoolConfig
from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.config.semi import SemiConfig
from nnunet_xlstm.errors import ConfigError, UserError
from nnunet_xlstm.io import write
from nnunet_xlstm.nnunet.install.registration import load_class

QUICK = {
    "num_epochs": 2,
    "num_iterations_per_epoch": 2,
    "num_val_iterations_per_epoch": 1,
    "patch_size": [16, 16, 16],
    "batch_size": 2,
    "mirroring": False,
    "seed": 7,
}


@pytest.fixture
def make(make_trainer):
    """make(name, **keys) -> a trainer with the quick config."""

    def _make(name="nnUNetTrainerXLSTMUNetShort", plans="nnUNetXLSTMUNetTinyPlans", **keys):
        return make_trainer(name, QUICK | keys, plans=plans)

    return _make


def weights(trainer):
    return {k: v.clone() for k, v in trainer.network.state_dict().items()}


def equal(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", registry.TRAINERS)
def test_every_trainer_follows_the_rules_of_nnunet(name, make):
    cls = load_class(name)
    assert list(inspect.signature(cls.__init__).parameters)[1:] == [
        "plans",
        "configuration",
        "fold",
        "dataset_json",
        "device",
    ]
    assert cls.__module__ == registry.TRAINERS[name]
    if not isinstance(cls.recipe, PretrainingConfig):  # which refuses to predict, and no more
        assert "build_network_architecture" not in {k for c in cls.__mro__[:-2] for k in c.__dict__}
    if isinstance(cls.recipe, (PoolConfig, SemiConfig)):
        return  # they train on pools alone, or need unlabelled images: test_pool.py, test_semi.py
    short = {"decoder_epochs": 1} if name.endswith("Staged") else {}
    pretraining = {"gradient_accumulation": 1, "mask_block": 8} if isinstance(cls.recipe, PretrainingConfig) else {}
    trainer = make(name, **pretraining, **short)
    trainer.initialize()
    assert trainer.num_epochs == 2 and trainer.configuration_manager.patch_size == [16, 16, 16]
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    before = weights(trainer)
    loss = trainer.train_step(next(trainer.dataloader_train))["loss"]
    assert math.isfinite(loss) and not equal(before, weights(trainer))


def test_recipes():
    tsfm = load_class("nnUNetTrainerTSFM").recipe
    assert (tsfm.optimizer, tsfm.initial_lr, tsfm.weight_decay, tsfm.num_epochs) == ("sgd", 1e-3, 1e-3, 1000)
    assert (tsfm.batch_size, tsfm.patch_size, tsfm.lr_schedule) == (2, [112, 160, 192], "poly")
    adam = load_class("nnUNetTrainerXLSTMUNetAdam").recipe
    assert (adam.optimizer, adam.initial_lr, adam.lr_schedule, adam.num_epochs) == ("adam", 1e-4, "constant", 1000)
    assert adam.augmentation == "heartseg"
    stock = load_class("nnUNetTrainerXLSTMUNet").recipe
    assert (stock.optimizer, stock.initial_lr, stock.weight_decay, stock.lr_schedule) == ("sgd", 1e-2, 3e-5, "poly")


@pytest.mark.parametrize(
    "name, rate, learns, augmentation, batch, patch",
    [
        ("nnUNetTrainerFinetuneFrozen", 1e-4, "decoder", "heartseg", None, None),
        ("nnUNetTrainerFinetune_SegSync", 1e-5, "all", "segsync", 2, [128, 128, 128]),
        ("nnUNetTrainerFinetuneBottom", 1e-5, "bottleneck", "segsync", 2, [128, 128, 128]),
    ],
)
def test_the_papers_fine_tune_for_1000_epochs_at_one_rate(name, rate, learns, augmentation, batch, patch, make):
    recipe = load_class(name).recipe
    assert (recipe.optimizer, recipe.initial_lr, recipe.weight_decay) == ("adam", rate, 0)
    assert (recipe.num_epochs, recipe.num_iterations_per_epoch, recipe.lr_schedule) == (1000, 250, "constant")
    assert (recipe.trainable, recipe.decoder_epochs, recipe.augmentation) == (learns, 0, augmentation)
    assert (recipe.batch_size, recipe.patch_size) == (batch, patch)
    trainer = make(name, num_epochs=1000)
    trainer.initialize()
    for iteration in (0, 1, 1999):  # no warm-up and no decay
        trainer.lr_scheduler.set(iteration)
        assert {group["lr"] for group in trainer.optimizer.param_groups} == {rate}


@pytest.mark.parametrize("name", ["nnUNetTrainerFinetuneFrozen", "nnUNetTrainerFinetuneBottom"])
def test_ours_take_150_epochs_with_warm_up(name):
    paper, ours = load_class(name).recipe, load_class(f"{name}_150epochs").recipe
    assert (ours.optimizer, ours.initial_lr, ours.trainable) == (paper.optimizer, paper.initial_lr, paper.trainable)
    assert (ours.num_epochs, ours.lr_schedule, ours.warmup_fraction) == (150, "warmup_poly", 0.1)
    assert ours.patch_size is None and ours.augmentation == "nnunet"


@pytest.mark.parametrize("epochs", [10, 20, 50, 100])
def test_transfer_of_tsfm_falls_to_zero_over_its_own_length(epochs):
    recipe = load_class(f"nnUNetTrainerTSFM_{epochs}epochs").recipe
    assert (recipe.num_epochs, recipe.lr_schedule, recipe.initial_lr) == (epochs, "poly", 1e-2)
    assert recipe.patch_size is None and recipe.trainable == "all"


def test_stock_recipe_equals_stock_trainer(make):
    """The same optimizer, schedule, loss weights and defaults as nnU-Net's own trainer."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    ours = make("nnUNetTrainerXLSTMUNet", num_epochs=1000)
    stock = nnUNetTrainer(
        dict(ours.plans_manager.plans) | {"continue_training": False}, "3d_fullres", 0, ours.dataset_json, ours.device
    )
    for trainer in (ours, stock):
        trainer.initialize()
    assert ours.optimizer.defaults == stock.optimizer.defaults
    assert type(ours.lr_scheduler) is type(stock.lr_scheduler)
    for name in (
        "initial_lr",
        "weight_decay",
        "num_epochs",
        "oversample_foreground_percent",
        "enable_deep_supervision",
    ):
        assert getattr(ours, name) == getattr(stock, name)
    recipe = load_class("nnUNetTrainerXLSTMUNet").recipe
    assert (recipe.num_iterations_per_epoch, recipe.num_val_iterations_per_epoch) == (250, 50)
    assert (stock.num_iterations_per_epoch, stock.num_val_iterations_per_epoch) == (250, 50)


def run_epochs(trainer):
    """nnU-Net's own loop."""
    trainer.run_training()
    return weights(trainer)


def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(make):
    first = run_epochs(make())
    assert equal(first, run_epochs(make()))
    assert not equal(first, run_epochs(make(seed=8)))


def test_resume_is_exact(make, tmp_path):
    """Stop after epoch 0, load, go on: the same weights as an unbroken run."""
    unbroken = run_epochs(make())
    trainer = make(save_every=1)
    trainer.num_epochs = 1  # as if killed after epoch 0 ...
    trainer.lr_scheduler = None
    trainer.initialize()
    trainer.lr_scheduler.total = 2 * trainer.num_iterations_per_epoch  # ... of a run of two
    trainer.on_train_end = lambda: None
    trainer.run_training()
    trainer.stops.signals.remove()
    path = os.path.join(trainer.output_folder, "checkpoint_best.pth")
    again = make()
    again.load_checkpoint(path)
    assert again.current_epoch == 1
    assert equal(unbroken, run_epochs(again))


def test_signal_writes_a_checkpoint_of_the_epoch_start_and_ends(make):
    """The epoch runs again: from the weights that it had reached, a run would take more steps than an unbroken one."""
    unbroken = run_epochs(make(num_iterations_per_epoch=4))
    trainer = make(num_iterations_per_epoch=4)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    before = weights(trainer)
    trainer.train_step(next(trainer.dataloader_train))
    assert not equal(before, weights(trainer))
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(SystemExit) as end:
        trainer.train_step(next(trainer.dataloader_train))
    assert end.value.code == 128 + signal.SIGUSR1
    path = os.path.join(trainer.output_folder, "checkpoint_latest.pth")
    header = torch.load(path, weights_only=False)
    assert header["current_epoch"] == 0 and equal(before, header["network_weights"])
    assert header["init_args"]["nnunet_xlstm"]["config"]["seed"] == 7
    again = make(num_iterations_per_epoch=4)
    again.load_checkpoint(path)
    assert equal(unbroken, run_epochs(again))


def test_the_start_of_an_epoch_is_kept_in_memory_only_where_the_disk_holds_an_older_one(make):
    trainer = make(num_epochs=3, save_every=2)
    sizes, start = [], trainer.on_epoch_start

    def look():
        start()
        sizes.append(trainer.checkpoints.kept)

    trainer.on_epoch_start = look
    trainer.run_training()
    assert sizes == [True, True, False]


def test_a_run_killed_between_its_latest_and_best_checkpoint_loses_neither(make):
    """nnU-Net writes the best one last, and its score is then missing in the latest one."""
    trainer = make(save_every=1)
    save = trainer.save_checkpoint

    def killed(filename):
        save(filename)
        if filename.endswith("checkpoint_latest.pth"):
            raise KeyboardInterrupt

    trainer.save_checkpoint = killed
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    latest, best = (
        torch.load(os.path.join(trainer.output_folder, f"checkpoint_{name}.pth"), weights_only=False)
        for name in ("latest", "best")
    )
    assert latest["current_epoch"] == best["current_epoch"] == 1
    assert latest["_best_ema"] == best["_best_ema"] == latest["logging"]["ema_fg_dice"][0]


def test_a_full_disk_ends_a_run_and_leaves_its_last_checkpoint(make, monkeypatch):
    trainer = make(num_epochs=3, save_every=1)
    flush = write._flush

    def full(path):
        if trainer.current_epoch == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(path)

    monkeypatch.setattr(write, "_flush", full)
    with pytest.raises(UserError, match="make room on that disk"):
        trainer.run_training()
    folder = os.listdir(trainer.output_folder)
    assert not [name for name in folder if name.endswith(".tmp")]
    path = os.path.join(trainer.output_folder, "checkpoint_latest.pth")
    assert torch.load(path, weights_only=False)["current_epoch"] == 1


def test_nan_in_a_batch_is_skipped_and_counted(make):
    trainer = make(max_nonfinite_steps=2)
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    before = weights(trainer)
    batch = next(trainer.dataloader_train)
    batch["data"][0, 0, 0, 0, 0] = math.nan
    trainer.train_step(batch)
    assert trainer.guard.total == 1 and equal(before, weights(trainer))
    with pytest.raises(RuntimeError, match="NaN or infinite in 2 steps in a row"):
        trainer.train_step(batch)


def test_truncated_checkpoint_falls_back_to_the_newest_readable(make):
    trainer = make(save_every=1)
    run_epochs(trainer)
    final, best = (os.path.join(trainer.output_folder, f"checkpoint_{n}.pth") for n in ("final", "best"))
    with open(final, "rb+") as file:
        file.truncate(10_000)
    with pytest.raises(UserError, match="truncated or not a checkpoint; continue"):
        make().load_checkpoint(final)
    again = make()
    again.continuing = True
    again.load_checkpoint(final)
    assert again.current_epoch == torch.load(best, weights_only=False)["current_epoch"]
    os.remove(best)
    again = make()
    again.continuing = True
    with pytest.raises(UserError, match="no other checkpoint"):
        again.load_checkpoint(final)


def test_signal_after_the_last_step_ends_before_validation(make):
    trainer = make(num_epochs=1)
    trainer.on_epoch_end = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        trainer.run_training()
    assert end.value.code == 128 + signal.SIGTERM
    assert os.path.exists(os.path.join(trainer.output_folder, "checkpoint_final.pth"))


def test_signal_in_validation_writes_a_checkpoint(make):
    trainer = make()
    original = trainer.on_validation_epoch_start
    trainer.on_validation_epoch_start = lambda: (original(), os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(SystemExit):
        trainer.run_training()
    assert os.path.exists(os.path.join(trainer.output_folder, "checkpoint_latest.pth"))


def test_mirroring_off_reaches_prediction(make):
    trainer = make()
    run_epochs(trainer)
    path = os.path.join(trainer.output_folder, "checkpoint_final.pth")
    assert torch.load(path, weights_only=False)["inference_allowed_mirroring_axes"] is None


def test_stored_plans_have_the_overridden_patch(make):
    trainer = make()
    trainer.on_train_start()
    with open(os.path.join(trainer.output_folder_base, "plans.json")) as file:
        stored = json.load(file)["configurations"]["3d_fullres"]
    assert stored["patch_size"] == [16, 16, 16] and stored["batch_size"] == 2


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"patch_size": [16, 15, 16]}, r"patch size \(16, 15, 16\): axis 1 is not divisible by \d+"),
        ({"patch_size": [16, 16]}, "2 axes for configuration '3d_fullres' with 3"),
        ({"learning_rate": 1}, 'key "learning_rate" is unknown'),
    ],
)
def test_wrong_config_stops_before_anything_is_written(make, tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        make(**keys)
    assert not (tmp_path / "results").exists()


def test_cuda_without_a_gpu(make, monkeypatch):
    trainer = make()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="-device cuda: torch finds no CUDA GPU here; use -device cpu"):
        type(trainer)(trainer.plans_manager.plans, "3d_fullres", 0, trainer.dataset_json, torch.device("cuda"))
