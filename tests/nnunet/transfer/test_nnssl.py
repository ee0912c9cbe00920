"""Published checkpoints of nnssl: a network in one word, no arguments, perhaps no spacing."""

import json

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.primus import PrimusB, PrimusL, PrimusM, PrimusS
from support import nnssl_files as nnssl
from torch import nn

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.errors import CheckpointError, ConfigError
from nnunet_xlstm.networks import Primus
from nnunet_xlstm.nnunet.planning.network import build_network
from nnunet_xlstm.nnunet.transfer import nnssl as nnssl_presets
from nnunet_xlstm.nnunet.transfer.nnssl import nnssl_architecture
from nnunet_xlstm.nnunet.transfer.source import read_source


def plan_and_adapt(run_plan_like, checkpoint, tmp_path, *options):
    """Both commands: the plans, the report and what they printed."""
    code, plans, text = run_plan_like(*options, checkpoint=checkpoint)
    assert code == 0, text
    out = tmp_path / "out.pth"
    assert main(["adapt", str(checkpoint), "-d", "901", "-p", "nnUNetLikePlans", "-o", str(out)]) == 0
    return plans, json.loads(out.with_suffix(".json").read_text()), text


@pytest.mark.parametrize("name", ["ResEncL", "NoSkipResEncL"])
def test_residual_encoders_named_in_one_word(name, run_plan_like, tmp_path):
    file = nnssl.saved(nnssl.of_resenc(name), tmp_path / "nnssl.pth")
    plans, report, text = plan_and_adapt(run_plan_like, file, tmp_path)
    row = plans["configurations"]["3d_fullres"]
    kwargs = row["architecture"]["arch_kwargs"]
    assert row["architecture"]["network_class_name"] == nnssl_presets.RESIDUAL_UNET
    assert kwargs["features_per_stage"] == [4, 6, 8] and kwargs["n_blocks_per_stage"] == [1, 2, 1]
    assert kwargs["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2]] and row["patch_size"] == [16, 16, 16]
    assert row["spacing"] == [1, 1, 1] and row["use_mask_for_norm"] == [False]
    assert report["share"] == 1.0 and not report["differences"]
    assert f"nnssl names {name} without sizes: read from the weights: features [4, 6, 8], blocks [1, 2, 1]" in text
    assert "assumed: strides of 2, a decoder of one convolution per stage" in text


@pytest.mark.parametrize("owner", ["", "encoder."])
def test_transformers_named_in_one_word(owner, run_plan_like, tmp_path):
    network = nnssl.primus()
    file = nnssl.saved(nnssl.of_primus("PrimusM", owner, network), tmp_path / "nnssl.pth")
    plans, report, text = plan_and_adapt(run_plan_like, file, tmp_path)
    row = plans["configurations"]["3d_fullres"]
    kwargs = row["architecture"]["arch_kwargs"]
    assert (kwargs["embed_dim"], kwargs["eva_depth"], kwargs["eva_numheads"]) == (72, 2, 12)
    assert kwargs["input_shape"] == row["patch_size"] == [16, 16, 16] and kwargs["strides"][1] == [8, 8, 8]
    assert report["share"] == 1.0 and "assumed: 12 heads (of PrimusM)" in text
    state = torch.load(tmp_path / "out.pth", weights_only=True)["network_weights"]
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items() if k.startswith("eva."))


def test_a_transformer_for_a_larger_patch_and_more_channels(run_plan_like, transfer_folder, tmp_path):
    """VoCo pre-trains on small crops and recommends larger patches: the position embedding is resampled."""
    content = nnssl.of_primus(patch=(16, 16, 16), recommended_downstream_patchsize=[24, 24, 32])
    file = nnssl.saved(content, tmp_path / "nnssl.pth")
    plans, report, text = plan_and_adapt(run_plan_like, file, tmp_path)
    row = plans["configurations"]["3d_fullres"]
    assert row["patch_size"] == row["architecture"]["arch_kwargs"]["input_shape"] == [24, 24, 32]
    assert {r["name"] for r in report["rows"] if r["action"] == "adapted"} == {"eva.pos_embed"}
    assert report["share"] == 1.0
    new = torch.load(tmp_path / "out.pth", weights_only=True)["network_weights"]["eva.pos_embed"]
    old = content["network_weights"]["eva.pos_embed"]
    grid = nn.functional.interpolate(old[0].T.reshape(1, 72, 2, 2, 2), (3, 3, 4), mode="trilinear")
    torch.testing.assert_close(new, grid.flatten(2).transpose(1, 2))


def test_no_spacing_falls_back_to_what_nnunet_plans(run_plan_like, tmp_path):
    file = nnssl.saved(nnssl.of_resenc(spacing=None, style="noresample"), tmp_path / "nnssl.pth")
    code, plans, text = run_plan_like(checkpoint=file)
    assert code == 0 and "the pre-training resampled nothing" in text
    assert plans["configurations"]["3d_fullres"]["spacing"] == [1, 1, 1]
    assert plans["pretrained"]["spacing_mode"] == "default"
    code, plans, text = run_plan_like("--spacing", "no_resample", checkpoint=file)
    assert code == 0 and "the pre-training resampled nothing" not in text


@pytest.mark.parametrize("short", [True, False])
def test_arguments_that_nnssl_gives(short, run_plan_like, tmp_path):
    """Dynamic architectures: the class by its bare name, layers by dotted names, and perhaps no list of these."""
    content = nnssl.of_resenc("ResidualEncoderUNet" if short else nnssl_presets.RESIDUAL_UNET)
    names = content["nnssl_adaptation_plan"]["architecture_plans"]
    kwargs, _ = nnssl_architecture(names | {"arch_class_name": "ResEncL"}, content["network_weights"], [16, 16, 16])
    names |= {"arch_kwargs": kwargs["arch_kwargs"], "arch_kwargs_requiring_import": ["conv_op", "norm_op", "nonlin"]}
    plans, report, text = plan_and_adapt(run_plan_like, nnssl.saved(content, tmp_path / "nnssl.pth"), tmp_path)
    assert report["share"] == 1.0 and "without sizes" not in text
    network = plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"]
    assert network == nnssl_presets.RESIDUAL_UNET


def test_arguments_of_a_transformer():
    """PrimusX of nnU-Net's fine-tuning trainers: other names, and a list for the layer scale."""
    given = {"embed_dim": 72, "patch_embed_size": [8, 8, 8], "encoder_eva_depth": 2, "encoder_eva_numheads": 12,
             "scale_attn_inner": True, "init_values": [0.1]}  # fmt: skip
    architecture, remark = nnssl_architecture({"arch_class_name": "PrimusX", "arch_kwargs": given}, {}, [16, 16, 16])
    network = build_network(architecture, 1, 2, "here")
    network.load_state_dict(nnssl.primus().state_dict() | {k: v for k, v in network.state_dict().items() if "up" in k})
    assert not remark


@pytest.mark.parametrize("kind", [PrimusS, PrimusB, PrimusM, PrimusL])
def test_presets_are_those_of_the_published_networks(kind):
    """On the meta device: the architecture that is read from the weights gives every tensor of the published one."""
    patch = (16, 16, 16)
    with torch.device("meta"):
        published = kind(input_channels=1, output_channels=1, patch_embed_size=(8, 8, 8), input_shape=patch)
        weights = {name: tensor for name, tensor in published.state_dict().items()}
        architecture, _ = nnssl_architecture({"arch_class_name": kind.__name__}, weights, patch)
        network = Primus(input_channels=1, num_classes=1, **architecture["arch_kwargs"])
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in weights.items()}
    heads = [block.attn.num_heads for block in published.eva.blocks]
    assert [block.attn.num_heads for block in network.eva.blocks] == heads


def test_resenc_l_at_its_published_size():
    """Sizes of `get_res_enc_l` in nnssl's architecture_registry.py."""
    features, blocks = [32, 64, 128, 256, 320, 320], [1, 3, 4, 6, 6, 6]
    with torch.device("meta"):
        weights = nnssl.resenc(features=features, blocks=blocks).state_dict()
    architecture, _ = nnssl_architecture({"arch_class_name": "ResEncL"}, weights, [160, 160, 160])
    kwargs = architecture["arch_kwargs"]
    assert (kwargs["features_per_stage"], kwargs["n_blocks_per_stage"]) == (features, blocks)
    assert kwargs["kernel_sizes"] == [[3, 3, 3]] * 6 and kwargs["strides"] == [[1, 1, 1], *[[2, 2, 2]] * 5]


def test_logits_are_those_of_the_published_transformer():
    published = nnssl.primus().eval()
    ours = Primus(1, 1, [8, 8, 8], [16, 16, 16], embed_dim=72, eva_depth=2, eva_numheads=12, init_values=0.1,
                  scale_attn_inner=True, deep_supervision=True).eval()  # fmt: skip
    ours.load_state_dict(published.state_dict())
    image = torch.randn(1, 1, 16, 16, 16)
    full, tokens = (x.detach() for x in ours(image))
    torch.testing.assert_close(full, published(image))
    assert tokens.shape == (1, 1, 2, 2, 2) and tokens[0, 0, 0, 0, 0] == pytest.approx(
        full[0, 0, :8, :8, :8].mean().item()
    )
    ours.decoder.deep_supervision = False
    torch.testing.assert_close(ours(image), full)
    with pytest.raises(ConfigError, match="made for"):
        ours(image[:, :, :8])


def test_what_nnunet_reads_from_the_strides_of_a_transformer():
    """Its loss gives the last scale no weight: training is on full resolution alone."""
    from nnunet_xlstm.networks.geometry import token_strides

    strides = token_strides([8, 8, 8])
    scales = (1 / np.cumprod(np.vstack(strides), axis=0))[:-1]  # as nnUNetTrainer._get_deep_supervision_scales
    assert scales.tolist() == [[1, 1, 1], [1 / 8] * 3]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c["nnssl_adaptation_plan"]["architecture_plans"].update(arch_class_name="SwinL"), "is unknown"),
        (lambda c: c["network_weights"].pop("encoder.stages.1.blocks.0.conv1.conv.weight"), "not those of a 3D"),
        (lambda c: c["nnssl_adaptation_plan"].update(pretrain_num_input_channels=0), "pretrain_num_input_channels"),
        (lambda c: c["nnssl_adaptation_plan"].pop("key_to_encoder"), "not complete"),
        (lambda c: c["nnssl_adaptation_plan"].update(recommended_downstream_patchsize=[1, "a"]), "patchsize"),
    ],
)
def test_odd_checkpoints_have_words(change, words, tmp_path):
    content = nnssl.of_resenc()
    content["network_weights"] = dict(content["network_weights"])
    change(content)
    with pytest.raises(CheckpointError, match=words):
        read_source(nnssl.saved(content, tmp_path / "odd.pth"))
    with pytest.raises(CheckpointError, match="not those of a Primus"):
        read_source(nnssl.saved(nnssl.of_resenc("PrimusM"), tmp_path / "odd.pth"))


def test_a_transformer_trains_with_stock_trainers(run_plan_like, tmp_path, transfer_folder):
    """One step of nnU-Net's own loss on the plans of `plan_like`."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    file = nnssl.saved(nnssl.of_primus(), tmp_path / "nnssl.pth")
    code, plans, _ = run_plan_like(checkpoint=file)
    assert code == 0
    dataset = json.loads((transfer_folder / "dataset.json").read_text())
    plans["continue_training"] = False
    trainer = nnUNetTrainer(plans, "3d_fullres", "all", dataset, torch.device("cpu"))
    network = trainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 1, 3, True)
    loss = trainer._build_loss()
    target = torch.zeros(1, 1, 16, 16, 16)
    value = loss(network(torch.randn(1, 1, 16, 16, 16)), [target, target[:, :, ::8, ::8, ::8]])
    value.backward()
    assert value.isfinite() and network.down_projection.proj.weight.grad.abs().sum() > 0
