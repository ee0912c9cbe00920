"""Cost of our networks, their ablations without xLSTM, and nnU-Net's own, in one run.

    python benchmarks/network.py [--patch 128] [--time-patch 64] [--repeats 5] [--networks enc enc_no_xlstm ...]

Counts (`params_m`, `gmac`, `activation_mb`: one image, 1 channel, 8 classes) are made on fake tensors at --patch;
`step_s` is one training step (forward, backward, SGD; batch 1, fp32, median) at --time-patch; networks take turns.
nnU-Net's ResEnc L is ResEnc M planned for a larger GPU: at one patch they are one network.
The last line is one JSON object: `networks` and `xlstm_share`, the share of the xLSTM in the step time of each preset.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_xlstm.networks.build import build_network, default_strides
from nnunet_xlstm.networks.cost import count_cost
from nnunet_xlstm.networks.presets import NO_XLSTM, PRESETS

LAID_OUT_FOR = (128, 128, 128)  # one network for all patches


def stock(kind: str, patch: tuple[int, ...]) -> nn.Module:
    """nnU-Net's own 3D network with the features and blocks its planners give it."""
    strides = default_strides(LAID_OUT_FOR)
    n = len(strides)
    kwargs = {
        "input_channels": 1,
        "num_classes": 8,
        "n_stages": n,
        "features_per_stage": [min(32 * 2**s, 320) for s in range(n)],
        "conv_op": nn.Conv3d,
        "kernel_sizes": 3,
        "strides": strides,
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    if kind == "PlainConvUNet":
        return PlainConvUNet(**kwargs, n_conv_per_stage=2, n_conv_per_stage_decoder=2)
    return ResidualEncoderUNet(**kwargs, n_blocks_per_stage=[1, 3, 4, 6, 6, 6][:n], n_conv_per_stage_decoder=1)


def preset(name: str, patch: tuple[int, ...]) -> nn.Module:
    return build_network(name, patch, strides=default_strides(LAID_OUT_FOR))


BUILDERS = {name: partial(preset, name) for name in PRESETS} | {
    name: partial(stock, name) for name in ("PlainConvUNet", "ResidualEncoderUNet_M", "ResidualEncoderUNet_L")
}

COMPARED = [name for name in BUILDERS if not name.startswith("tsfm")]  # TSFM needs the memory of a GPU


def one_step(network: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> float:
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    network(x).square().mean().backward()
    optimizer.step()
    return time.perf_counter() - start


def time_steps(names: list[str], patch: tuple[int, ...], repeats: int) -> dict[str, float]:
    """Median seconds of a step; a warm-up each, then the networks in turn."""
    x = torch.randn(1, 1, *patch)
    times: dict[str, list[float]] = {name: [] for name in names}
    ready = {}
    for name in names:
        network = BUILDERS[name](patch).to(memory_format=torch.channels_last_3d)
        ready[name] = (network, torch.optim.SGD(network.parameters(), 1e-3, momentum=0.99, nesterov=True))
        one_step(*ready[name], x)
    for _ in range(repeats):
        for name in names:
            times[name].append(one_step(*ready[name], x))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, default=128, help="edge of the cube that is counted")
    parser.add_argument("--time-patch", type=int, default=64, help="edge of the cube that is timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=COMPARED, choices=list(BUILDERS))
    args = parser.parse_args()
    counted, timed = (args.patch,) * 3, (args.time_patch,) * 3
    steps = time_steps(args.networks, timed, args.repeats)
    networks = {}
    for name in args.networks:
        cost = count_cost(partial(BUILDERS[name], counted), (1, 1, *counted))
        networks[name] = {
            "params_m": round(cost.params / 1e6, 3),
            "gmac": round(cost.macs / 1e9, 2),
            "activation_mb": round(cost.activation_bytes / 1e6, 1),
            "step_s": round(steps[name], 4),
        }
        print(name, networks[name], flush=True)
    share = {name: round(1 - steps[name + NO_XLSTM] / steps[name], 4) for name in steps if name + NO_XLSTM in steps}
    print(
        json.dumps(
            {
                "networks": networks,
                "xlstm_share": share.get("enc"),
                "xlstm_share_of": share,
                "patch": args.patch,
                "time_patch": args.time_patch,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
