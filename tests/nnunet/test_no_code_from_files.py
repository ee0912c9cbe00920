"""No data file runs code: names in plans and checkpoints, and pickled objects."""

import json

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from support.hostile import RunsCode, Trap
from torch import nn

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.networks import XLSTMUNet
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.planning import code_names
from nnunet_xlstm.nnunet.planning.configuration import resolve_configuration

PLANS = "nnUNetXLSTMUNetTinyPlans"
REFUSED = "of a package that files may not name"


@pytest.fixture
def trap(tmp_path):
    return Trap(tmp_path / "trap")


def test_cost_of_hostile_plans(trap, tmp_path, transfer_folder, capsys):
    plans = trap.in_plans(json.loads((transfer_folder / f"{PLANS}.json").read_text()))
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    assert main(["cost", str(tmp_path / "plans.json")]) == 1
    text = capsys.readouterr().err
    assert REFUSED in text and "plans.json" in text and "--allow-import torch" in text and not trap.sprung
    # the flag admits networks of a package, not its functions
    assert main(["cost", str(tmp_path / "plans.json"), "--allow-import", "torch"]) == 1
    assert "must name a subclass of torch.nn.Module" in capsys.readouterr().err and not trap.sprung


def test_adapt_to_hostile_plans(trap, transfer_folder, run_adapt):
    path = transfer_folder / f"{PLANS}.json"
    path.write_text(json.dumps(trap.in_plans(json.loads(path.read_text()))))
    code, _, text = run_adapt()
    assert code == 1 and REFUSED in text and not trap.sprung


@pytest.mark.parametrize("key", ["conv_op", "norm_op"])
def test_an_argument_that_names_a_function(key, trap, transfer_folder, run_adapt):
    path = transfer_folder / f"{PLANS}.json"
    plans = json.loads(path.read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"][key] = "os.system"
    path.write_text(json.dumps(plans))
    code, _, text = run_adapt()
    assert code == 1 and f"{key} 'os.system': {REFUSED}" in text


def of_ours(trap, content):
    content["nnunet_xlstm"]["architecture"] = trap.architecture()
    return content


def of_nnunet(trap, content):
    del content["nnunet_xlstm"]
    content["init_args"]["plans"] = trap.in_plans(content["init_args"]["plans"])
    return content


def of_nnssl(trap, content):
    plans, network = content["init_args"]["plans"], nn.Identity()
    row = plans["configurations"]["3d_fullres"] | {"architecture": trap.architecture()}
    plan = checkpoints.adaptation_plan(plans, "3d_fullres", row, network, 1)
    return {"network_weights": content["network_weights"], checkpoints.ADAPTATION: plan}


@pytest.mark.parametrize("make", [of_ours, of_nnunet, of_nnssl])
def test_hostile_checkpoints(make, trap, pretrained_file, tmp_path, run_adapt, run_plan_like, capsys):
    content = make(trap, torch.load(pretrained_file, weights_only=True))
    torch.save(content, tmp_path / "hostile.pth")
    for command in (run_adapt, run_plan_like):
        code, _, text = command(checkpoint=tmp_path / "hostile.pth")
        assert code == 1 and REFUSED in text and "hostile.pth" in text, text
    if make is of_ours:
        arguments = ["--checkpoint", str(tmp_path / "hostile.pth"), "-d", "901", "-o", str(tmp_path / "out")]
        assert main(["features", *arguments]) == 1
        assert REFUSED in capsys.readouterr().err
    assert not trap.sprung


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("preprocessor_name", "Pool", "has no DefaultPreprocessor"),
        ("preprocessor_name", ["x"], "not a name"),
        ("normalization_schemes", ["np"], "has no ImageNormalization"),
        ("resampling_fn_data", "partial", "no resampling function"),
        ("resampling_fn_seg_kwargs", {"command": 1}, "not arguments of"),
        ("resampling_fn_seg_kwargs", None, "not arguments of"),
    ],
)
def test_names_that_nnunet_looks_for(key, value, words, pretrained_file, tmp_path, capsys, nnunet_tree, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(nnunet_tree / "raw"))
    content = torch.load(pretrained_file, weights_only=True)
    content["init_args"]["plans"]["configurations"]["3d_fullres"][key] = value
    torch.save(content, tmp_path / "odd.pth")
    assert main(["features", "--checkpoint", str(tmp_path / "odd.pth"), "-d", "901", "-o", str(tmp_path / "o")]) == 1
    assert words in capsys.readouterr().err
    if key == "normalization_schemes":  # plan_like would write it into new plans
        assert main(["plan_like", str(tmp_path / "odd.pth"), "-d", "901"]) == 1
        assert words in capsys.readouterr().err


def test_readers_and_label_managers():
    for name in ("SimpleITKIO", "None"):
        code_names.check_reader({"overwrite_image_reader_writer": name}, "here")
    code_names.check_reader({}, "here")
    code_names.check_label_manager({"label_manager": "LabelManager"}, "here")
    for check in (
        lambda: code_names.check_reader({"overwrite_image_reader_writer": "sitk"}, "here"),
        lambda: code_names.check_label_manager({"label_manager": "join"}, "here"),
    ):
        with pytest.raises(CheckpointError, match="here: .*nnU-Net has no"):
            check()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("nnunet_xlstm.networks.XLSTMUNet", XLSTMUNet),
        ("nnunet_xlstm.networks.XLSTMResidualEncoderUNet", XLSTMUNet),
        ("dynamic_network_architectures.architectures.unet.PlainConvUNet", PlainConvUNet),
        ("dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet", ResidualEncoderUNet),
        ("ResidualEncoderUNet", ResidualEncoderUNet),
    ],
)
def test_networks_that_plans_name(name, expected):
    found = code_names.resolve_network(name, "here")
    assert found is expected and code_names.resolve_network(code_names.dotted(found), "here") is expected


@pytest.mark.parametrize(
    "name, words",
    [
        ("os.system", REFUSED),
        ("torch.nn.Linear", REFUSED),  # a layer, not a network
        ("nnunet_xlstm.cli.main.main", REFUSED),
        ("nnunet_xlstm.networksX.Y", REFUSED),
        ("nnunet_xlstm.networks.presets.get_preset", "must name a subclass"),
        ("nnunet_xlstm.networks.unet.torch.hub.load", "must name a subclass"),
        ("nnunet_xlstm.networks.unet.torch.nn.Linear", "must name a subclass"),
        ("dynamic_network_architectures.architectures.unet.np", "must name a subclass"),
        ("nnunet_xlstm.networks.Absent", "there is no such class here"),
        ("Absent", "there is no such class here"),
        ("torch", "must name a subclass|no such class"),
        ("", "not the dotted name"),
        ("a..b", "not the dotted name"),
        ("os; import x", "not the dotted name"),
        (7, "not the dotted name"),
        (None, "not the dotted name"),
    ],
)
def test_networks_that_files_may_not_name(name, words):
    with pytest.raises(CheckpointError, match=f"here: network_class_name .*({words})"):
        code_names.resolve_network(name, "here")


@pytest.mark.parametrize(
    "name", ["torch.nn.LeakyReLU", "torch.nn.modules.conv.Conv3d", "timm.layers.RotaryEmbeddingCat"]
)
def test_arguments_that_plans_name(name):
    assert code_names.resolve_argument(name, "here", "conv_op").__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize("name", ["torch.nn.functional.relu", "torch.hub.load", "torch.nn.modules.module.functools"])
def test_arguments_that_files_may_not_name(name):
    with pytest.raises(CheckpointError, match="here: conv_op"):
        code_names.resolve_argument(name, "here", "conv_op")


def test_another_package_needs_the_flag(tmp_path, monkeypatch):
    (tmp_path / "their_package.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    pass\ndef make(**kwargs):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="--allow-import their_package"):
        code_names.resolve_network("their_package.Net", "here")
    assert code_names.resolve_network("their_package.Net", "here", ["their_package"]).__name__ == "Net"
    with pytest.raises(CheckpointError, match="must name a subclass"):
        code_names.resolve_network("their_package.make", "here", ["their_package"])


@pytest.mark.parametrize("where", ["top", "logging"])
def test_pickled_objects_are_not_unpickled(where, pretrained_file, tmp_path, run_adapt, run_plan_like, capsys):
    content = torch.load(pretrained_file, weights_only=True)
    (content if where == "top" else content.setdefault("logging", {}))["x"] = RunsCode(tmp_path / "ran")
    torch.save(content, tmp_path / "objects.pth")
    for command in (run_adapt, run_plan_like):
        code, _, text = command(checkpoint=tmp_path / "objects.pth")
        assert code == 1 and "can run any code" in text and "--allow-pickle" in text
    assert main(["features", "--checkpoint", str(tmp_path / "objects.pth"), "-d", "901", "-o", str(tmp_path)]) == 1
    text = capsys.readouterr().err
    assert "can run any code" in text and "weights_only" not in text and "--allow-pickle" not in text
    assert not (tmp_path / "ran").exists()
    run_adapt("--allow-pickle", checkpoint=tmp_path / "objects.pth")
    assert (tmp_path / "ran").exists()  # the trap works


def test_a_cycle_of_inheritance_has_words():
    plans = {"configurations": {"a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}}}
    with pytest.raises(CheckpointError, match="here: configuration 'a' cannot be resolved"):
        resolve_configuration(plans, "a", "here")


def test_plans_of_a_network_that_no_memory_holds(transfer_folder, run_adapt):
    """By its size: refused before it is built; by its number of layers: before the first is made."""
    path = transfer_folder / f"{PLANS}.json"
    plans = json.loads(path.read_text())
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    for key, value, words in (
        ("features_per_stage", [2**18 * 32] * len(arguments["features_per_stage"]), "this machine has"),
        ("n_conv_per_stage", [10**9] * arguments["n_stages"], "give at most 10000 layers"),
    ):
        wrong = json.loads(json.dumps(plans))
        wrong["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"][key] = value
        path.write_text(json.dumps(wrong))
        code, _, text = run_adapt()
        assert code == 1 and words in text and path.name in text
