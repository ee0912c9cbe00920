"""Checkpoints in the form that nnssl's trainers write, with small networks; not a test."""

import torch
from dynamic_network_architectures.architectures.primus import Primus
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import nn

RESENC_KEYS = {
    "key_to_encoder": "encoder.stages",
    "key_to_stem": "encoder.stem",
    "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
    "key_to_lpe": None,
}


def resenc(channels=1, features=(4, 6, 8), blocks=(1, 2, 1)):
    n = len(features)
    return ResidualEncoderUNet(
        input_channels=channels,
        num_classes=1,
        n_stages=n,
        features_per_stage=features,
        conv_op=nn.Conv3d,
        kernel_sizes=[[3, 3, 3]] * n,
        strides=[[1, 1, 1], *[[2, 2, 2]] * (n - 1)],
        n_blocks_per_stage=blocks,
        n_conv_per_stage_decoder=[1] * (n - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


def primus(heads=12, patch=(16, 16, 16), token=(8, 8, 8), depth=2):
    """The smallest width that rotary embeddings allow for so many heads."""
    return Primus(
        1, 6 * heads, token, 1, eva_depth=depth, eva_numheads=heads, input_shape=patch, init_values=0.1,
        scale_attn_inner=True,
    )  # fmt: skip


def primus_keys(owner=""):
    return {
        "key_to_encoder": f"{owner}eva",
        "key_to_stem": f"{owner}down_projection",
        "keys_to_in_proj": [f"{owner}down_projection.proj"],
        "key_to_lpe": f"{owner}eva.pos_embed",
    }


def checkpoint(name, weights, keys, patch=(16, 16, 16), spacing=(1, 1, 1), style="onemmiso", **plan):
    """What `AbstractTrainer.save_checkpoint` of nnssl saves, without the state of its training."""
    configuration = {
        "data_identifier": f"nnsslPlans_{style}",
        "preprocessor_name": "DefaultPreprocessor",
        "spacing_style": style,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": False,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_mask": "resample_data_or_seg_to_shape",
        "resampling_fn_mask_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "spacing": None if spacing is None else list(spacing),
        "patch_size": tuple(patch),
    }
    return {
        "network_weights": weights,
        "init_args": {"configuration_name": style, "fold": "all"},
        "trainer_name": "BaseMAETrainer",
        "nnssl_adaptation_plan": {
            "architecture_plans": {
                "arch_class_name": name,
                "arch_kwargs": None,
                "arch_kwargs_requiring_import": None,
            },
            "pretrain_plan": {
                "dataset_name": "Dataset745_OpenMind",
                "plans_name": "nnsslPlans",
                "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
                "image_reader_writer": "SimpleITKIO",
                "transpose_forward": [0, 1, 2],
                "transpose_backward": [0, 1, 2],
                "configurations": {style: configuration},
                "experiment_planner_used": "FixedResEncUNetPlanner",
            },
            "pretrain_num_input_channels": 1,
            "recommended_downstream_patchsize": (16, 16, 16),
            **keys,
            **plan,
        },
    }


def of_resenc(name="ResEncL", network=None, **options):
    network = network or resenc()
    return checkpoint(name, network.state_dict(), RESENC_KEYS, **options)


def of_primus(name="PrimusM", owner="", network=None, **options):
    """With `owner` "encoder." as SimCLR, VoCo and SwinUNETR keep it."""
    network = network or primus()
    weights = {f"{owner}{key}": tensor for key, tensor in network.state_dict().items()}
    return checkpoint(name, weights, primus_keys(owner), **options)


def saved(content, path):
    torch.save(content, path)
    return path
