"""Sources, adaptation and proof, on the tiny tree."""

import copy
import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
from support.image_files import tree

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.io.read import sha256
from nnunet_xlstm.nnunet.checkpoints import pretraining
from nnunet_xlstm.nnunet.transfer.differences import architecture_differences
from nnunet_xlstm.nnunet.transfer.source import read_source
from nnunet_xlstm.nnunet.transfer.target import Target

PLANS = "nnUNetXLSTMUNetTinyPlans"


def change(folder, plans=lambda p: None, dataset=lambda d: None):
    for name, function in ((f"{PLANS}.json", plans), ("dataset.json", dataset)):
        content = json.loads((folder / name).read_text())
        function(content)
        (folder / name).write_text(json.dumps(content))


def kwargs(plans):
    return plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]


def weights(path):
    return torch.load(path, weights_only=True)["network_weights"]


def encoder(state):
    return {k: v for k, v in state.items() if k.startswith("encoder.")}


def test_the_encoder_arrives_whole_and_the_decoder_starts_anew(run_adapt, pretrained_file, tmp_path, transfer_folder):
    code, report, text = run_adapt()
    assert code == 0 and report["share"] == 1.0 and "equal" in text
    old, new = weights(pretrained_file), weights(tmp_path / "adapted.pth")
    assert all(torch.equal(old[k], v) for k, v in encoder(new).items())
    fresh = Target.read("901", PLANS, "3d_fullres").network(0).state_dict()
    assert all(torch.equal(fresh[k], v) for k, v in new.items() if k.startswith("decoder."))
    assert {row["action"] for row in report["rows"] if row["stage"] == "decoder"} == {"missing"}
    own = torch.load(tmp_path / "adapted.pth", weights_only=True)["nnunet_xlstm"]
    assert own["report"]["share"] == 1.0 and own["lineage"][-1]["sha256"] == sha256(pretrained_file)
    run_adapt("--seed", 3)
    other = weights(tmp_path / "adapted.pth")
    assert not all(torch.equal(new[k], v) for k, v in other.items() if k.startswith("decoder."))


def test_more_channels_more_classes_another_patch(run_adapt, transfer_folder, pretrained_file, tmp_path):
    def dataset(content):
        content["channel_names"] = {"0": "MR", "1": "T2", "2": "FLAIR"}
        content["labels"] |= {"third": 3, "fourth": 4}

    def plans(content):
        content["configurations"]["3d_fullres"]["patch_size"] = [16, 32, 16]

    change(transfer_folder, plans, dataset)
    code, report, text = run_adapt()
    assert code == 0 and report["share"] == 1.0
    adapted = {row["name"] for row in report["rows"] if row["action"] == "adapted"}
    assert len(adapted) == 2 and all(name.startswith("encoder.stem.") for name in adapted)
    assert "MR from MR, T2 from MR, FLAIR from MR" in text
    old, new = weights(pretrained_file), weights(tmp_path / "adapted.pth")
    for name in adapted:
        torch.testing.assert_close(new[name], old[name].expand(-1, 3, -1, -1, -1) / 3)
    assert new["decoder.seg_layers.0.weight"].shape[0] == 5
    # where all channels show one image, the encoder answers as before
    target = Target.read("901", PLANS, "3d_fullres").network(1)
    target.load_state_dict(new)
    image = torch.randn(1, 1, 16, 16, 16)
    single = copy.deepcopy(target.encoder)
    for name in adapted:
        module, _, _ = name.removeprefix("encoder.").rpartition(".")
        layer = single.get_submodule(module)
        layer.weight = torch.nn.Parameter(old[name])
        layer.in_channels = 1
    for a, b in zip(single(image), target.encoder(image.expand(1, 3, -1, -1, -1)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_channels_by_hand(run_adapt, transfer_folder, pretrained_file, tmp_path):
    change(transfer_folder, dataset=lambda d: d.update(channel_names={"0": "a", "1": "b"}))
    code, _, text = run_adapt("--channels", "0=0", "1=4")
    assert code == 1 and "channel map 1=4" in text
    assert run_adapt("--channels", "0=0", "x=1")[0] == 1
    assert run_adapt("--channels", "1=0")[0] == 0


def test_another_topology_is_refused_and_force_says_what_is_lost(run_adapt, transfer_folder):
    def plans(content):
        kwargs(content)["kernel_sizes"][0] = [1, 3, 3]
        kwargs(content)["strides"][1] = [1, 2, 2]

    change(transfer_folder, plans)
    code, _, text = run_adapt()
    assert code == 1
    assert "kernel_sizes of stage 0: [3, 3, 3] there, [1, 3, 3] here" in text
    assert "strides of stage 1: [2, 2, 2] there, [1, 2, 2] here" in text and "--force" in text
    code, report, text = run_adapt("--force")
    assert code == 0 and report["forced"] and "what it knew along the changed axes is lost" in text


def test_fewer_blocks_are_refused_and_force_names_what_is_left_out(run_adapt, transfer_folder, stock_file):
    content = torch.load(stock_file, weights_only=False)
    kwargs(content["init_args"]["plans"]).update(n_conv_per_stage=[2, 1, 1])
    extra = {f"encoder.stages.0.convs.1.{i}": torch.ones(3) for i in range(2)}
    content["network_weights"] |= extra
    torch.save(content, stock_file)
    code, _, text = run_adapt(checkpoint=stock_file)
    assert code == 1 and "blocks of stage 0: 2 there, 1 here" in text
    code, report, text = run_adapt("--force", checkpoint=stock_file)
    assert code == 0 and {row["name"] for row in report["rows"] if row["target_shape"] is None} == set(extra)
    assert report["differences"] == ["blocks of stage 0: 2 there, 1 here"]


@pytest.mark.parametrize("name", ["n_conv_per_stage", "n_blocks_per_stage"])
def test_one_depth_in_two_forms_is_no_difference(name):
    stages = {"network_class_name": "a.Net", "arch_kwargs": {"strides": [1, 2], "n_conv_per_stage": [2, 2]}}
    number = {"network_class_name": "b.Net", "arch_kwargs": {"strides": [1, 2], name: 2}}
    assert architecture_differences(stages, number) == []


def test_a_part_that_gets_nothing_is_refused(run_adapt, stock_file):
    content = torch.load(stock_file, weights_only=False)
    kept = {k: v for k, v in content["network_weights"].items() if not k.startswith("encoder.stem.")}
    torch.save(content | {"network_weights": kept}, stock_file)
    code, _, text = run_adapt(checkpoint=stock_file)  # 97 % of the encoder, without the layer that sees the image
    assert code == 1 and "nothing in the source fits encoder.stem" in text
    assert run_adapt("--force", checkpoint=stock_file)[0] == 0


def test_weights_that_are_not_finite_are_refused(run_adapt, stock_file):
    content = torch.load(stock_file, weights_only=False)
    next(iter(content["network_weights"].values()))[:] = float("nan")
    torch.save(content, stock_file)
    code, _, text = run_adapt(checkpoint=stock_file)
    assert code == 1 and "holds NaN" in text


def test_no_file_is_lost(run_adapt, transfer_folder, pretrained_file, tmp_path):
    """The report has the checkpoint's name with .json: no plans, no data set and no file of others may lie there."""
    folder = transfer_folder
    before = pretrained_file.read_bytes(), tree(folder)
    (tmp_path / "own.json").write_text("{}")
    for out, words in (
        (pretrained_file, "would replace"),
        (folder / f"{PLANS}.pth", "would replace"),
        (folder / ".." / folder.name / "dataset.pth", "would replace"),
        (tmp_path / "own.pth", "no file that this command wrote"),
        (tmp_path / "a.json", "ends in .pth"),
    ):
        code, _, text = run_adapt("-o", out)
        assert code == 1 and words in text
    assert (pretrained_file.read_bytes(), tree(folder)) == before and not (tmp_path / "a.json").exists()


def test_what_adapt_made_is_no_source(run_adapt, tmp_path):
    run_adapt()
    shutil.copy(tmp_path / "adapted.pth", tmp_path / "copy.pth")
    code, _, text = run_adapt(checkpoint=tmp_path / "copy.pth")
    assert code == 1 and "give what it came from, checkpoint_final.pth" in text


def test_an_ablation_is_another_network(run_adapt, transfer_folder):
    change(transfer_folder, lambda p: kwargs(p).update(xlstm_from_stage=None))
    code, _, text = run_adapt()
    assert code == 1 and "xlstm_from_stage" in text
    code, report, text = run_adapt("--force")
    assert code == 0 and {row["note"] for row in report["rows"] if row["target_shape"] is None} == {"has no place here"}


def test_too_little_arrives(run_adapt, transfer_folder):
    change(transfer_folder, lambda p: kwargs(p).update(features_per_stage=[8, 16, 24]))
    code, _, text = run_adapt()
    assert code == 1 and "of the parameters in the encoder come from the source" in text and "--min-loaded" in text
    code, report, _ = run_adapt("--min-loaded", "0.01")
    assert code == 0 and 0.01 < report["share"] < 0.9
    assert {"loaded", "skipped"} <= {row["action"] for row in report["rows"]}


def test_the_bottom_alone(run_adapt, pretrained_file, tmp_path):
    code, report, _ = run_adapt("--scope", "bottleneck")
    assert code == 0 and report["wanted"] == ["encoder.stages.2"]
    old, new = weights(pretrained_file), weights(tmp_path / "adapted.pth")
    last = [k for k in encoder(new) if k.startswith("encoder.stages.2.")]
    assert last and all(torch.equal(old[k], new[k]) for k in last)
    first = [k for k in encoder(new) if k.startswith("encoder.stages.0") and k.endswith("conv1.all_modules.0.weight")]
    assert first and not torch.equal(old[first[0]], new[first[0]])


def test_a_checkpoint_of_nnunet_with_its_decoder(run_adapt, stock_file, tmp_path):
    code, report, _ = run_adapt("--scope", "all", checkpoint=stock_file)
    assert code == 0 and report["source"]["kind"] == "nnU-Net"
    old = torch.load(stock_file, weights_only=False)["network_weights"]
    new = weights(tmp_path / "adapted.pth")
    kept = [k for k in new if "seg_layers" not in k]
    assert all(torch.equal(old[k], new[k]) for k in kept)
    assert not torch.equal(old["decoder.seg_layers.0.weight"], new["decoder.seg_layers.0.weight"])


class Anything:
    pass


def test_objects_need_allow_pickle(run_adapt, stock_file):
    content = torch.load(stock_file, weights_only=False) | {"extra": Anything()}
    torch.save(content, stock_file)
    code, _, text = run_adapt(checkpoint=stock_file)
    assert code == 1 and "--allow-pickle" in text
    assert run_adapt("--allow-pickle", checkpoint=stock_file)[0] == 0


def test_teacher_or_student(pretrained_file, tmp_path):
    content = torch.load(pretrained_file, weights_only=True)
    own = content["nnunet_xlstm"]
    own["method"] = {f"student.{k}": v + 1 for k, v in encoder(content["network_weights"]).items()}
    own["export_branch"] = "teacher"
    torch.save(content, tmp_path / "both.pth")
    offered, student = (read_source(tmp_path / "both.pth", branch) for branch in (None, "student"))
    for name, tensor in student.weights.items():
        assert torch.equal(tensor, offered.weights[name] + 1)
    assert student.origin["weights"] == "student"


def test_tsfm_arrives_whole_with_another_patch_and_more_channels(run_adapt, transfer_folder, stock_file, tmp_path):
    """All but the heads; the position embedding gets the new grid, the first convolution the new channels."""

    def plans(grid):
        content = json.loads((transfer_folder / f"{PLANS}.json").read_text())
        row = content["configurations"]["3d_fullres"]["architecture"]
        stages = {k: row["arch_kwargs"][k] for k in ("n_stages", "kernel_sizes", "strides", "conv_op", "norm_op")}
        vit = {"vit": {"dim": 12, "layers": 2, "heads": 3}, "vit_grid": grid, "features_per_stage": [4, 8, 8]}
        kwargs = stages | vit | {"n_conv_per_stage": 1, "n_conv_per_stage_decoder": 1, "nonlin": "torch.nn.LeakyReLU"}
        return row | {"network_class_name": "nnunet_xlstm.networks.TSFM", "arch_kwargs": kwargs,
                      "_kw_requires_import": ["conv_op", "norm_op", "nonlin"]}  # fmt: skip

    content = torch.load(stock_file, weights_only=False)
    there, here = plans([2, 3, 4]), plans([4, 2, 5])
    change(transfer_folder, lambda p: p["configurations"]["3d_fullres"].update(architecture=there))
    content["network_weights"] = Target.read("901", PLANS, "3d_fullres").network(9).state_dict()
    content["init_args"]["plans"] = json.loads((transfer_folder / f"{PLANS}.json").read_text())
    torch.save(content, stock_file)
    change(
        transfer_folder,
        lambda p: p["configurations"]["3d_fullres"].update(architecture=here),
        lambda d: d.update(channel_names={"0": "MR", "1": "T2"}, labels=d["labels"] | {"third": 3}),
    )
    code, report, text = run_adapt("--scope", "all", checkpoint=stock_file)
    assert code == 0 and report["share"] == 1.0 and not report["differences"]
    old, new = content["network_weights"], weights(tmp_path / "adapted.pth")
    position = "encoder.stages.2.vit.position"
    actions = {row["name"]: row["action"] for row in report["rows"]}
    assert {k for k, v in actions.items() if v == "adapted"} == {position, "encoder.stem.weight"}
    assert {k for k, v in actions.items() if v == "skipped"} == {k for k in new if ".seg_layers." in k}
    assert all(torch.equal(old[k], new[k]) for k, v in actions.items() if v == "loaded")
    expected = torch.nn.functional.interpolate(old[position], (4, 2, 5), mode="trilinear")
    torch.testing.assert_close(new[position], expected)
    torch.testing.assert_close(new["encoder.stem.weight"], old["encoder.stem.weight"].expand(-1, 2, -1, -1, -1) / 2)


def test_a_state_dict_with_names_of_its_own(run_adapt, pretrained_file, tmp_path):
    tensors = {
        f"module.teacher.trunk.{k.removeprefix('encoder.')}": v for k, v in encoder(weights(pretrained_file)).items()
    }
    torch.save({"state_dict": tensors}, tmp_path / "bare.pth")
    code, _, text = run_adapt("--rename", "module.teacher.trunk.=encoder.", checkpoint=tmp_path / "bare.pth")
    assert code == 1 and "no tensor's name starts so" in text  # the wrapper's prefix is already gone
    code, report, text = run_adapt("--rename", "teacher.trunk.=encoder.", checkpoint=tmp_path / "bare.pth")
    assert code == 0 and report["share"] == 1.0 and "names neither architecture" in text
    code, _, text = run_adapt(checkpoint=tmp_path / "bare.pth")
    assert code == 1 and "only 0.0%" in text and "--rename" in text


def test_the_second_name_of_an_encoder_never_wins(tmp_path):
    good, old = torch.ones(3), torch.zeros(3)
    torch.save({"encoder.stem.x": good, "decoder.encoder.stem.x": old}, tmp_path / "twice.pth")
    assert torch.equal(read_source(tmp_path / "twice.pth").weights["encoder.stem.x"], good)


def test_a_checkpoint_of_nnssl(run_adapt, pretrained_file, tmp_path, transfer_folder):
    plans = json.loads((transfer_folder / f"{PLANS}.json").read_text())
    network = Target.read("901", PLANS, "3d_fullres").network(4)
    plan = pretraining.adaptation_plan(plans, "3d_fullres", plans["configurations"]["3d_fullres"], network, 1)
    content = {"network_weights": encoder(network.state_dict()), "nnssl_adaptation_plan": plan}
    torch.save(pretraining.plain(content), tmp_path / "nnssl.pth")
    code, report, text = run_adapt(checkpoint=tmp_path / "nnssl.pth")
    assert code == 0, text
    assert report["source"]["kind"] == "nnssl" and "does not name its input channels" in text


@pytest.mark.parametrize(
    "options, words",
    [
        (["-p", "nnUNetNoPlans"], f"it has {PLANS}"),
        (["-c", "2d_other"], "-c 2d_other"),
        (["-d", "777"], "-d 777"),
        (["--min-loaded", "2"], "--min-loaded 2"),
        (["--seed", "-1"], "--seed -1"),
        (["--weights", "student"], "does not hold the student"),
    ],
)
def test_wrong_options(run_adapt, options, words):
    code, _, text = run_adapt(*options)
    assert code == 1 and words in text


def test_files_that_are_no_checkpoints(run_adapt, tmp_path):
    (tmp_path / "text.pth").write_text("no")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": 1}, tmp_path / "empty.pth")
    torch.save({"state_dict": [1]}, tmp_path / "numbers.pth")
    torch.save({"network_weights": {}, "init_args": {}}, tmp_path / "part.pth")
    torch.save({"weights": torch.ones(1000)}, tmp_path / "half.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "half.pth").read_bytes()[:2000])
    for name, words in (
        ("text.pth", "not a readable checkpoint"),
        ("list.pth", "holds a list"),
        ("empty.pth", "no state dict of tensors"),
        ("numbers.pth", "no state dict of tensors"),
        ("part.pth", "not complete"),
        ("half.pth", "not a readable checkpoint"),
        ("absent.pth", "no such file"),
    ):
        code, _, text = run_adapt(checkpoint=tmp_path / name)
        assert code == 1 and words in text, text


# ---- plan_like


def test_plans_like_a_checkpoint(run_plan_like, pretrained_file, transfer_folder):
    source = read_source(pretrained_file)
    (transfer_folder / "dataset.json").unlink()  # a fingerprint is enough: planning copies it
    code, plans, text = run_plan_like()
    assert code == 0 and list(plans["configurations"]) == ["3d_fullres"]
    row = plans["configurations"]["3d_fullres"]
    assert row["architecture"] == source.architecture and row["spacing"] == source.row["spacing"]
    assert row["normalization_schemes"] == source.row["normalization_schemes"]
    divisor = np.prod(source.architecture["arch_kwargs"]["strides"], axis=0)
    assert all(
        p % d == 0 and p <= q for p, d, q in zip(row["patch_size"], divisor, source.row["patch_size"], strict=True)
    )
    assert "nnUNetv2_preprocess -d 901" in text
    adapted = str(transfer_folder / "a.pth")
    assert main(["adapt", str(pretrained_file), "-d", "901", "-p", "nnUNetLikePlans", "-o", adapted]) == 0


def test_spacing_modes(run_plan_like):
    row = run_plan_like("--spacing", "fixed", "--target-spacing", "3", "2", "1")[1]["configurations"]["3d_fullres"]
    assert row["spacing"] == [3, 2, 1]
    assert run_plan_like("--spacing", "default")[1]["configurations"]["3d_fullres"]["spacing"] == [1, 1, 1]
    row = run_plan_like("--spacing", "no_resample")[1]["configurations"]["3d_fullres"]
    assert row["resampling_fn_data"] == "no_resampling_hack"
    assert row["median_image_size_in_voxels"] == [20, 24, 28]
    for wrong in (
        ["--spacing", "fixed"],
        ["--target-spacing", "1", "1", "1"],
        ["--spacing", "fixed", "--target-spacing", "1"],
        ["--spacing", "fixed", "--target-spacing", "nan", "1", "1"],
        ["--spacing", "fixed", "--target-spacing", "1", "1", "3"],
        ["-p", "../elsewhere"],
    ):
        assert run_plan_like(*wrong)[0] == 1


def test_spacing_of_slices_in_2d(run_plan_like, pretrained_file, tmp_path):
    content = torch.load(pretrained_file, weights_only=True)
    plans = content["init_args"]["plans"]
    row = plans["configurations"]["3d_fullres"] | {"patch_size": [16, 16], "spacing": [2.0, 4.0]}
    content["nnunet_xlstm"]["architecture"]["arch_kwargs"]["strides"] = [[1, 1], [2, 2], [2, 2]]
    plans["configurations"] = {"2d": row}
    content["init_args"]["configuration"] = "2d"
    torch.save(content, tmp_path / "2d.pth")
    for options, spacing in (([], [2, 4]), (["--spacing", "fixed", "--target-spacing", "3", "1"], [3, 1])):
        code, plans, _ = run_plan_like(*options, checkpoint=tmp_path / "2d.pth")
        assert code == 0 and plans["configurations"]["2d"]["spacing"] == spacing
        assert plans["transpose_forward"] == [0, 1, 2] and list(plans["configurations"]) == ["2d"]
    assert list(run_plan_like()[1]["configurations"]) == ["3d_fullres"]  # of older plans nothing is left


def test_plans_of_others_stay(run_plan_like, transfer_folder):
    plans = transfer_folder / f"{PLANS}.json"
    before = plans.read_bytes()
    code, _, text = run_plan_like("-p", PLANS)
    assert code == 1 and "was not made by plan_like" in text and plans.read_bytes() == before


def test_a_full_disk_leaves_earlier_plans_and_checkpoints(run_plan_like, run_adapt, tmp_path, monkeypatch):
    assert run_plan_like()[0] == 0 == run_adapt()[0]
    made = [*tmp_path.glob("adapted.*"), *tmp_path.rglob("nnUNetLikePlans.json")]
    before = [path.read_bytes() for path in made]

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nnunet_xlstm.io.write._flush", full)  # of every file, before it takes its name
    for command in (lambda: run_plan_like("--spacing", "default"), lambda: run_adapt("--seed", 3)):
        code, _, text = command()
        assert code == 1 and "make room on that disk" in text
    assert len(made) == 3 and [path.read_bytes() for path in made] == before
    assert not list(tmp_path.rglob(".*.tmp*"))


def test_a_raw_data_set_that_is_none(run_plan_like, monkeypatch, tmp_path):
    raw = tmp_path / "raw" / "Dataset901_Ellipsoids"
    raw.mkdir(parents=True)
    (raw / "dataset.json").write_text("{}")
    monkeypatch.setattr(
        "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner.nnUNet_raw", str(raw.parent)
    )
    code, _, text = run_plan_like()
    assert code == 1 and "nnU-Net cannot use its raw data set" in text and "file_ending" in text


def test_a_fingerprint_is_needed(run_plan_like, transfer_folder):
    (transfer_folder / "dataset_fingerprint.json").unlink()
    code, _, text = run_plan_like()
    assert code == 1 and "nnUNetv2_extract_fingerprint -d 901" in text
