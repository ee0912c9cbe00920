"""Presets as data, import-free: what a planner writes into the plans and what `cost` counts.

A preset with `control_of` is planned exactly like that preset (same patch, batch and topology) and then changed: the
difference in results is the difference in the network, by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.networks.geometry import token_grid

XLSTM_UNET = "nnunet_xlstm.networks.XLSTMUNet"
TSFM = "nnunet_xlstm.networks.TSFM"
PLAIN_UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


@dataclass(frozen=True)
class Preset:
    """A network and how to plan it.

    Attributes:
        summary: one line for people.
        base_features: features are min(base * 2^stage, max).
        max_features_3d: features are min(base * 2^stage, max).
        max_features_2d: features are min(base * 2^stage, max).
        max_stages: stages kept of the topology nnU-Net finds; None keeps all.
        blocks_encoder: residual (or convolution) blocks per stage.
        blocks_decoder: residual (or convolution) blocks per stage.
        arch_kwargs: our own keys of the network.
        network_class: dotted path, resolved by nnU-Net.
        control_of: name of the preset that this one is the control of.
        patch_3d: a 3D patch that the strides of every plan divide (those that would not are left out), and that `cost`
            counts; None: any, and 128^3.
        pinned_batch: 3D plans have patch_3d, this batch and all stages, whatever the memory; None: memory decides.
    """

    summary: str
    base_features: int = 32
    max_features_3d: int = 320
    max_features_2d: int = 512
    max_stages: int | None = None
    blocks_encoder: int = 1
    blocks_decoder: int = 1
    arch_kwargs: Mapping = field(default_factory=dict)
    network_class: str = XLSTM_UNET
    control_of: str | None = None
    patch_3d: tuple[int, int, int] | None = None
    pinned_batch: int | None = None


_SHARED_PAIR = {
    "xlstm_from_stage": -1,
    "xlstm_block": "vil",
    "xlstm_blocks_per_stage": 1,
    "scan_orders": "pair",
    "scan_mode": "parallel",
    "xlstm_kwargs": {"conv": "dw", "share_weights": True},
}
_OWN_PAIR = _SHARED_PAIR | {"xlstm_blocks_per_stage": 2, "scan_mode": "alternate"}
_ENC = _OWN_PAIR | {"xlstm_from_stage": 2, "scan_orders": "six"}
# 3D-SegSync, section 2.2.2: its own block. The text flips one mLSTM and calls it bidirectional: read to the letter, and
# as it was meant. The paper leaves the place of the block open: the bottleneck, as in 3D-Heart_Seg.
_SEGSYNC = {
    "xlstm_from_stage": -1,
    "xlstm_block": "segsync",
    "xlstm_blocks_per_stage": 1,
    "scan_orders": "reverse",
    "scan_mode": "parallel",
    "xlstm_kwargs": {"merge": "mul", "share_weights": False},
}

_WITH_XLSTM = {
    "tiny": Preset("8..64 features, 4 stages, one bidirectional block at the bottleneck: demo and tests", 8, 64, 64, 4,
                   arch_kwargs=_SHARED_PAIR),
    "small": Preset("16..128 features, 4 stages, pairs of blocks from stage 2 on: studies on a CPU", 16, 128, 128, 4,
                    arch_kwargs=_ENC),
    "heartseg_30m": Preset("3D-Heart_Seg: one bottleneck block scanned both ways with shared weights, 30.9 M",
                           arch_kwargs=_SHARED_PAIR),
    "heartseg_bi": Preset("as heartseg_30m with a pair of blocks, own weights per direction, 31.6 M",
                          arch_kwargs=_OWN_PAIR),
    "enc": Preset("xLSTM in every encoder stage from stage 2 on, six scan orders", arch_kwargs=_ENC),
    "large": Preset("48..512 features, two blocks per stage, xLSTM from stage 2 on", 48, 512, 768, None, 2, 1,
                    arch_kwargs=_ENC),
    "segsync": Preset("3D-SegSync to the letter: its block at the bottleneck, one reverse scan", arch_kwargs=_SEGSYNC),
    "segsync_bi": Preset("as segsync, scanned both ways with own weights per direction",
                         arch_kwargs=_SEGSYNC | {"scan_orders": "pair"}),
}  # fmt: skip

NO_XLSTM = "_no_xlstm"


def _control(name: str, preset: Preset, summary: str, **changed) -> Preset:
    """Return a preset's control: `changed` are the keys of the network that differ."""
    return replace(preset, summary=f"{name} {summary}", arch_kwargs={**preset.arch_kwargs, **changed}, control_of=name)


def _ablation(name: str, preset: Preset) -> Preset:
    if preset.arch_kwargs["xlstm_block"] == "segsync":  # its convolution stays: the xLSTM alone makes the difference
        block = preset.arch_kwargs["xlstm_kwargs"] | {"cell": False}
        return _control(name, preset, "with the convolution of its block alone", xlstm_kwargs=block)
    return _control(name, preset, "with the xLSTM blocks left out", xlstm_from_stage=None)


TSFM_PATCH = (112, 160, 192)  # its recipe's: 7 x 5 x 6 tokens at the bottleneck
TSFM_STAGES = 6


def _tsfm(text: str, base: int, depth: int, dim: int, heads: int, widest: int = 16, recompute: bool = False) -> Preset:
    """Return base * [1, 2, 4, 8, 16, widest] features, `depth` blocks per stage and a transformer."""
    kwargs = {"vit": {"dim": dim, "layers": 12, "heads": heads}, "block": "preact", "recompute": recompute}
    top = base * widest
    return Preset(text, base, top, top, TSFM_STAGES, depth, depth, kwargs, TSFM, patch_3d=TSFM_PATCH)


_WITH_VIT = {
    "tsfm_s": _tsfm("TSFM 16..256 features and a transformer of 192, 20 M", 16, 1, 192, 3),
    "tsfm_b": _tsfm("TSFM 32..512 features and ViT-S, 80 M", 32, 1, 384, 6),
    "tsfm_l": _tsfm("TSFM 48..768 features, two blocks per stage and ViT-B, 334 M", 48, 2, 768, 12, recompute=True),
    "tsfm_1p6b": replace(
        _tsfm("TSFM of the paper: 64..2048 features, four blocks per stage and ViT-B, 1.6 B",
              64, 4, 768, 12, widest=32, recompute=True),
        pinned_batch=2,
    ),
}  # fmt: skip

NO_VIT, NO_VIT_TEXT = "_novit", "with the transformer left out"

PRESETS: dict[str, Preset] = {
    **_WITH_XLSTM,
    **{name + NO_XLSTM: _ablation(name, preset) for name, preset in _WITH_XLSTM.items()},
    "small_shuffled": _control(
        "small",
        _WITH_XLSTM["small"],
        "with one fixed random scan order: does the order matter, or only the parameters?",
        scan_orders="shuffled",
    ),
    "small_plain": replace(
        _WITH_XLSTM["small"],
        summary="nnU-Net's own PlainConvUNet with the features and the plan of small",
        blocks_encoder=2,
        blocks_decoder=2,
        arch_kwargs={},
        network_class=PLAIN_UNET,
        control_of="small",
    ),
    **_WITH_VIT,
    **{name + NO_VIT: _control(name, preset, NO_VIT_TEXT, vit=None) for name, preset in _WITH_VIT.items()},
}


def get_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        ConfigError: unknown name; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset '{name}' is unknown; use one of {', '.join(PRESETS)}")
    return PRESETS[name]


def arch_kwargs_for(preset: Preset, arch_kwargs: Mapping, patch_size: Sequence[int]) -> dict:
    """Fit the plan's `arch_kwargs` to a preset: limit stages, set features, blocks and our keys.

    Args:
        preset: that the network becomes.
        arch_kwargs: as nnU-Net's planner makes them.
        patch_size: of the plan, voxels per axis.
    """
    result = dict(arch_kwargs)
    dim = len(patch_size)
    stages = list(zip(result["kernel_sizes"], result["strides"], strict=True))
    if preset.patch_3d and dim == 3:
        stages = _that_divide(preset.patch_3d, stages)
    stages = stages[: preset.max_stages]
    n = len(stages)
    top = preset.max_features_2d if dim == 2 else preset.max_features_3d
    result.update(
        n_stages=n,
        features_per_stage=[min(preset.base_features * 2**s, top) for s in range(n)],
        kernel_sizes=[kernel for kernel, _ in stages],
        strides=[stride for _, stride in stages],
        n_conv_per_stage=[preset.blocks_encoder] * n,
        n_conv_per_stage_decoder=[preset.blocks_decoder] * (n - 1),
        **preset.arch_kwargs,
    )
    if result.get("xlstm_from_stage") is not None:  # small images have few stages
        result["xlstm_from_stage"] = min(result["xlstm_from_stage"], n - 1)
    if result.get("vit") is not None:
        result["vit_grid"] = token_grid(result["strides"], patch_size)
    return result


def _that_divide(patch: Sequence[int], stages: Sequence[tuple]) -> list[tuple]:
    """Return (kernel, stride) of each stage, without strides that do not divide `patch` and stages left without any."""
    rest = list(patch)
    result: list[tuple] = []
    for kernel, stride in stages:
        own = [int(t) if size % int(t) == 0 else 1 for size, t in zip(rest, stride, strict=True)]
        if max(own) > 1 or not result:
            result.append((kernel, own))
            rest = [size // t for size, t in zip(rest, own, strict=True)]
    return result
