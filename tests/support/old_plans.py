"""Other forms of nnU-Net's plans: inherited configurations, and the form before nnU-Net 2.4; not a test."""

import copy

PLAIN_UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def with_inheritance(plans):
    """`3d_leaf` inherits from `3d_middle`, which inherits from `3d_fullres`."""
    plans = copy.deepcopy(plans)
    plans["configurations"] |= {
        "3d_middle": {"inherits_from": "3d_fullres", "batch_size": 2},
        "3d_leaf": {"inherits_from": "3d_middle", "patch_size": [16, 16, 16]},
    }
    return plans


def of_plain_unet(plans):
    """The same plans with nnU-Net's PlainConvUNet as 3d_fullres."""
    plans = copy.deepcopy(plans)
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    ours = architecture["arch_kwargs"]
    n = ours["n_stages"]
    architecture["network_class_name"] = PLAIN_UNET
    architecture["arch_kwargs"] = {
        "n_stages": n,
        "features_per_stage": [8 * 2**s for s in range(n)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": ours["kernel_sizes"],
        "strides": ours["strides"],
        "n_conv_per_stage": [1] * n,
        "n_conv_per_stage_decoder": [1] * (n - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    architecture["_kw_requires_import"] = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    return plans


def before_2_4(plans):
    """`of_plain_unet` in the form of nnU-Net before 2.4, in which TotalSegmentator's weights come."""
    plans = of_plain_unet(plans)
    row = plans["configurations"]["3d_fullres"]
    kwargs = row.pop("architecture")["arch_kwargs"]
    plans["configurations"]["3d_fullres"] = row | {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 8,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
        "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [2, 2, 2],
        "pool_op_kernel_sizes": kwargs["strides"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
    }
    return plans
