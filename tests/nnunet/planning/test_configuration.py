"""Inherited configurations and plans before nnU-Net 2.4, in pre-training and in transfer."""

import json
from pathlib import Path

import pytest
import torch
from support.old_plans import PLAIN_UNET, before_2_4, of_plain_unet, with_inheritance

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.errors import CheckpointError, ConfigError
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.planning.configuration import resolve_configuration
from nnunet_xlstm.nnunet.planning.network import build_network
from nnunet_xlstm.nnunet.probing.frozen_encoder import Pretrained
from nnunet_xlstm.nnunet.transfer.source import read_source

PLANS = "nnUNetXLSTMUNetTinyPlans"
FORMS = {"inherited": (with_inheritance, "3d_leaf"), "old": (before_2_4, "3d_fullres")}
QUICK = {
    "num_epochs": 1, "num_iterations_per_epoch": 1, "num_val_iterations_per_epoch": 1, "patch_size": [16, 16, 16],
    "batch_size": 2, "gradient_accumulation": 1, "n_prototypes": 16, "n_prototypes_inner": 16, "head_hidden": 16,
    "head_bottleneck": 8, "queue_size": 8, "monitor_vectors": 16, "dense_points": 8, "seed": 1,
}  # fmt: skip


@pytest.fixture
def tiny_plans(nnunet_tree):
    return json.loads((nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids" / f"{PLANS}.json").read_text())


@pytest.fixture
def pretrainer(make_trainer):
    """pretrainer(plans, configuration) -> a pre-training trainer of one step."""

    def _make(changed, configuration):
        def edit(plans, description):
            plans.clear()
            plans.update(changed | {"continue_training": False})
            description["modality"] = description.pop("channel_names")  # as older data sets name it

        return make_trainer("nnUNetTrainerDINO", QUICK, configuration=configuration, fold="all", edit=edit)

    return _make


@pytest.mark.parametrize("form", FORMS)
def test_pretraining_writes_a_checkpoint_that_all_read(form, pretrainer, tiny_plans, nnunet_tree):
    change, configuration = FORMS[form]
    trainer = pretrainer(change(tiny_plans), configuration)
    trainer.run_training()
    trainer.perform_actual_validation()
    file = Path(trainer.output_folder) / "checkpoint_final.pth"
    content = checkpoints.read(file)
    source = read_source(file)
    network = PLAIN_UNET if form == "old" else "nnunet_xlstm.networks.XLSTMUNet"
    assert source.architecture["network_class_name"] == network and source.row["spacing"] == [1, 1, 1]
    Pretrained.read(file).encoder("trained", 0)
    plan = content[checkpoints.ADAPTATION]
    named = plan["architecture_plans"]["arch_class_name"]
    assert named.endswith("PlainConvUNet" if form == "old" else "ResidualEncoderUNet")  # what nnU-Net master takes
    assert plan["recommended_downstream_patchsize"] == [16, 16, 16]
    assert plan["pretrain_plan"]["configurations"][configuration]["patch_size"] == [16, 16, 16]


def test_what_cannot_be_written_is_said_before_the_first_epoch(pretrainer, tiny_plans, monkeypatch):
    trainer = pretrainer(tiny_plans, "3d_fullres")
    trainer.initialize()
    del trainer.plans_manager.plans["image_reader_writer"]
    steps = []
    monkeypatch.setattr(type(trainer), "train_step", lambda self, batch: steps.append(1))
    with pytest.raises(KeyError, match="image_reader_writer"):
        trainer.run_training()
    assert not steps


def stock_checkpoint(plans, configuration, path, dataset):
    row = resolve_configuration(plans, configuration, "here")
    network = build_network(row["architecture"], 1, 3, "here")
    arguments = {"plans": plans, "configuration": configuration, "fold": 0, "dataset_json": dataset}
    content = {"network_weights": network.state_dict(), "init_args": arguments, "trainer_name": "nnUNetTrainer"}
    torch.save(content, path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_plan_like_and_adapt(form, tiny_plans, tmp_path, transfer_folder, run_plan_like):
    change, configuration = FORMS[form]
    dataset = json.loads((transfer_folder / "dataset.json").read_text())
    file = stock_checkpoint(change(tiny_plans), configuration, tmp_path / "stock.pth", dataset)
    code, plans, text = run_plan_like(checkpoint=file)
    assert code == 0, text
    row = plans["configurations"]["3d_fullres"]
    if form == "inherited":
        assert row["patch_size"] == [16, 16, 16] and row["batch_size"] == 2
    arguments = ["adapt", str(file), "-d", "901", "-p", "nnUNetLikePlans", "-o", str(tmp_path / "a.pth")]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["share"] == 1.0 and not report["differences"]
    # the check of kernels is not skipped
    row["architecture"]["arch_kwargs"]["kernel_sizes"][0] = [1, 3, 3]
    (transfer_folder / "nnUNetLikePlans.json").write_text(json.dumps(plans))
    assert main(arguments) == 1


def test_adapt_to_plans_of_other_forms(tiny_plans, tmp_path, transfer_folder, capsys):
    """Targets too: an old plans file, and a configuration that inherits."""
    dataset = json.loads((transfer_folder / "dataset.json").read_text())
    for name, (change, configuration) in FORMS.items():
        plans = change(tiny_plans)
        file = stock_checkpoint(plans, configuration, tmp_path / f"{name}.pth", dataset)
        (transfer_folder / f"{name}Plans.json").write_text(json.dumps(plans))
        arguments = ["-d", "901", "-p", f"{name}Plans", "-c", configuration, "-o", str(tmp_path / "a.pth")]
        assert main(["adapt", str(file), *arguments]) == 0
        assert main(["cost", str(transfer_folder / f"{name}Plans.json"), "-c", configuration]) == 0
    assert "UNet_class_name" not in capsys.readouterr().err


def test_old_plans_of_an_unknown_network(tiny_plans):
    plans = before_2_4(tiny_plans)
    plans["configurations"]["3d_fullres"]["UNet_class_name"] = "TheirUNet"
    with pytest.raises(CheckpointError, match="TheirUNet"):
        resolve_configuration(plans, "3d_fullres", "here")


def test_a_pretraining_run_does_not_predict(pretrainer, tiny_plans):
    trainer = pretrainer(tiny_plans, "3d_fullres")
    arguments = (trainer.plans_manager, trainer.configuration_manager, 1, 3)
    with pytest.raises(ConfigError, match="cannot predict; fit its encoder to a labelled data set"):
        trainer.build_network_architecture(*arguments, enable_deep_supervision=False)
    assert trainer.build_network_architecture(*arguments, enable_deep_supervision=True) is not None


def test_of_plain_unet_is_what_the_old_form_means(tiny_plans):
    new, old = (resolve_configuration(f(tiny_plans), "3d_fullres", "here") for f in (of_plain_unet, before_2_4))
    assert new["architecture"] == old["architecture"]
