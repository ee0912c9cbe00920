"""The fine-tuning trainers: what learns, what stays bit for bit, and how fast."""

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.config import OptimizerKeys
from nnunet_xlstm.nnunet.training.optim import StagedSchedule

QUICK = {
    "num_epochs": 2,
    "num_iterations_per_epoch": 2,
    "num_val_iterations_per_epoch": 1,
    "patch_size": [16, 16, 16],
    "batch_size": 2,
    "weight_decay": 0.1,
    "initial_lr": 0.01,
    "seed": 7,
}
PLANS = "nnUNetXLSTMUNetTinyPlans"


@pytest.fixture
def make(make_trainer):
    """make(name, **keys) -> a trainer with the quick config; `architecture` as in plans, in place of the tiny one."""

    def _make(name, continuing=False, architecture=None, **keys):
        def edit(plans, _):
            plans["configurations"]["3d_fullres"] |= {"architecture": architecture} if architecture else {}

        return make_trainer(name, QUICK | keys, continuing=continuing, edit=edit)

    return _make


@pytest.fixture
def adapted(pretrained_file, nnunet_tree, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", str(nnunet_tree / "preprocessed"))
    path = tmp_path / "adapted.pth"
    assert main(["adapt", str(pretrained_file), "-d", "901", "-p", PLANS, "-o", str(path)]) == 0
    return path


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def changed(before, after):
    """Parts with a tensor that changed: "decoder", "stem", or the number of a stage."""
    found = set()
    for name in before:
        if not torch.equal(before[name], after[name]):
            _, kind, number, *_ = name.split(".")
            found.add("decoder" if name.startswith("decoder.") else number if kind == "stages" else kind)
    return found


@pytest.mark.parametrize(
    "name, keys, learns",
    [
        ("nnUNetTrainerFinetune", {}, {"stem", "0", "1", "2", "decoder"}),
        ("nnUNetTrainerFinetuneFrozen", {}, {"decoder"}),
        ("nnUNetTrainerFinetuneFrozen", {"optimizer": "sgd"}, {"decoder"}),
        ("nnUNetTrainerFinetuneBottom", {"optimizer": "adamw"}, {"2", "decoder"}),
    ],
)
def test_what_is_frozen_stays_bit_for_bit_under_weight_decay(name, keys, learns, make, adapted):
    trainer = make(name, num_epochs=1, **keys)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(adapted))
    before = state(trainer.network)
    trainer.run_training()
    assert changed(before, state(trainer.network)) == learns


STOCK = "dynamic_network_architectures.architectures.unet."


@pytest.mark.parametrize(
    "network, blocks, name, learns",
    [
        ("PlainConvUNet", "n_conv", "nnUNetTrainerFinetuneFrozen", {"decoder"}),
        ("ResidualEncoderUNet", "n_blocks", "nnUNetTrainerFinetuneBottom", {"2", "decoder"}),
    ],
)
def test_networks_of_nnunet_freeze_too_with_their_running_means(network, blocks, name, learns, make):
    kwargs = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        f"{blocks}_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.batchnorm.BatchNorm3d",
        "norm_op_kwargs": {},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {},
    }
    architecture = {"network_class_name": STOCK + network, "arch_kwargs": kwargs}
    architecture["_kw_requires_import"] = ["conv_op", "norm_op", "nonlin"]
    trainer = make(name, architecture=architecture, num_epochs=1)
    trainer.initialize()
    before = {k: v for k, v in state(trainer.network).items() if not k.startswith("decoder.encoder.")}
    trainer.run_training()
    assert changed(before, state(trainer.network)) == learns


def test_fine_tuning_starts_from_exactly_the_pretrained_features(make, adapted, pretrained_file):
    from nnunet_xlstm.nnunet.probing.frozen_encoder import Pretrained

    teacher = Pretrained.read(pretrained_file).encoder("trained", 0)
    trainer = make("nnUNetTrainerFinetune")
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(adapted))
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    teacher.to(memory_format=torch.channels_last_3d)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        for a, b in zip(teacher(image), trainer.network.encoder(image), strict=True):
            assert (a - b).abs().max() == 0


def test_the_decoder_learns_first(make, adapted):
    trainer = make("nnUNetTrainerFinetuneStaged", decoder_epochs=1)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(adapted))
    states = [state(trainer.network)]
    stock = trainer.on_epoch_end
    trainer.on_epoch_end = lambda: (states.append(state(trainer.network)), stock())
    trainer.run_training()
    assert changed(states[0], states[1]) == {"decoder"}
    assert changed(states[1], states[2]) == {"stem", "0", "1", "2", "decoder"}


def test_a_restart_in_the_second_stage_goes_on_exactly(make):
    whole = make("nnUNetTrainerFinetuneStaged", decoder_epochs=1, num_epochs=3, save_every=2)
    stock, kept = whole.on_epoch_end, {}

    def keep():
        stock()
        if whole.current_epoch == 2:
            kept["file"] = str(whole.output_folder) + "/checkpoint_latest.pth"
            kept["bytes"] = open(kept["file"], "rb").read()

    whole.on_epoch_end = keep
    whole.run_training()
    with open(kept["file"], "wb") as file:
        file.write(kept["bytes"])
    second = make("nnUNetTrainerFinetuneStaged", decoder_epochs=1, num_epochs=3, save_every=2, continuing=True)
    second.load_checkpoint(kept["file"])
    second.run_training()
    assert changed(state(whole.network), state(second.network)) == set()


def said(trainer):
    lines = []
    trainer.print_to_log_file = lambda *text, **_: lines.append(" ".join(map(str, text)))
    trainer.on_train_start()
    return " ".join(lines)


def test_a_random_encoder_is_said(make, adapted):
    assert "starts from scratch" in said(make("nnUNetTrainerFinetune"))
    assert "never trained" in said(make("nnUNetTrainerFinetuneFrozen"))
    trainer = make("nnUNetTrainerFinetuneFrozen")
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(adapted))
    assert "holds pre-trained weights" in said(trainer)


def test_a_run_continued_in_its_first_epoch_says_nothing_of_its_start(make):
    first = make("nnUNetTrainerFinetune")
    first.initialize()
    first.current_epoch = -1  # nnU-Net stores the next epoch
    first.save_checkpoint(first.output_folder + "/checkpoint_latest.pth")
    second = make("nnUNetTrainerFinetune", continuing=True)
    second.load_checkpoint(first.output_folder + "/checkpoint_latest.pth")
    text = said(second)
    assert second.current_epoch == 0 and "scratch" not in text and "pre-trained" not in text


def test_layers_near_the_image_learn_slower(make):
    trainer = make("nnUNetTrainerFinetune", layer_decay=0.5)
    trainer.initialize()
    trainer.lr_scheduler.set(3)
    rate = trainer.optimizer.param_groups[0]["lr"] / trainer.optimizer.param_groups[0]["lr_scale"]
    by_name = dict(trainer.network.named_parameters())
    found = {}
    for group in trainer.optimizer.param_groups:
        for name, parameter in by_name.items():
            if any(parameter is p for p in group["params"]):
                found[name] = group["lr"] / rate
    expected = {"decoder.": 1, "encoder.stages.2.": 0.5, "encoder.stages.0.": 0.125, "encoder.stem.": 0.0625}
    for prefix, share in expected.items():
        assert {round(v, 6) for n, v in found.items() if n.startswith(prefix)} == {share}
    assert len(found) == len(by_name)


def test_the_staged_schedule_by_hand():
    parameter = torch.nn.Parameter(torch.zeros(1))
    config = OptimizerKeys(initial_lr=1.0, lr_schedule="warmup_poly", warmup_fraction=0.5)
    schedule = StagedSchedule(torch.optim.SGD([parameter], 1.0), config, 10, 3)
    assert [schedule.factor(i) for i in range(3)] == [0.5, 1.0, 0.5]
    assert [round(schedule.factor(i), 3) for i in (3, 4, 5, 6)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule.factor(9) < 0.5


@pytest.mark.parametrize(
    "name, keys, words",
    [
        ("nnUNetTrainerFinetuneFrozen", {"decoder_epochs": 1}, "drop one"),
        ("nnUNetTrainerFinetune", {"decoder_epochs": 2}, "must be below num_epochs"),
        ("nnUNetTrainerFinetune", {"lr_schedule": "poly", "layer_decay": 0.9}, "use warmup_poly"),
        ("nnUNetTrainerFinetune", {"trainable": "top"}, "give one of all, decoder, bottleneck"),
    ],
)
def test_keys_that_do_not_fit(make, name, keys, words):
    with pytest.raises(ValueError, match=words):
        make(name, **keys).initialize()
