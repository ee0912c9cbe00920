"""Checkpoints and plans of strangers given to plan_like, adapt, features and cost: success or words, never a traceback.

`NNUNET_XLSTM_FUZZ=100000 pytest -m fuzz` tries that many inputs.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import nnssl_files
from support.image_files import body_image
from support.mutations import spoiled

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.planning.network import build_network
from nnunet_xlstm.nnunet.transfer.source import read_source

pytestmark = pytest.mark.fuzz
TOTAL = int(os.environ.get("NNUNET_XLSTM_FUZZ", "3000"))
DATASET = "Dataset001_Raw"
CONFIGURATION = "3d_fullres"


def few(share: float) -> settings:
    return settings(
        max_examples=max(10, int(TOTAL * share)), deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def plans() -> dict[str, Any]:
    architecture = {
        "network_class_name": "nnunet_xlstm.networks.XLSTMUNet",
        "arch_kwargs": {
            "n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
            "n_conv_per_stage_decoder": [1], "conv_bias": True, "norm_op": "torch.nn.InstanceNorm3d",
            "norm_op_kwargs": {"affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}, "xlstm_from_stage": -1,
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }  # fmt: skip
    kinds = ("data", "seg", "probabilities")
    base = {
        "data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [8, 16, 16],
        "spacing": [2.0, 1.0, 1.0], "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False],
        "median_image_size_in_voxels": [10, 20, 24], "batch_dice": False, "architecture": architecture,
        **{f"resampling_fn_{kind}": "resample_data_or_seg_to_shape" for kind in kinds},
        **{f"resampling_fn_{kind}_kwargs": {"is_seg": False, "order": 1} for kind in kinds},
    }  # fmt: skip
    intensities = {"mean": 1.0, "std": 1.0, "percentile_00_5": 0.0, "percentile_99_5": 9.0}
    return {
        "dataset_name": DATASET, "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager", "original_median_spacing_after_transp": [3, 1, 1],
        "original_median_shape_after_transp": [10, 20, 24], "experiment_planner_used": "ExperimentPlanner",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {"base": base, CONFIGURATION: {"inherits_from": "base"}},
    }  # fmt: skip


DATASET_JSON = {
    "channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "numTraining": 3, "file_ending": ".nii.gz"
}  # fmt: skip


def weights() -> dict[str, torch.Tensor]:
    return build_network(plans()["configurations"]["base"]["architecture"], 1, 2, "here").state_dict()


def of_nnunet() -> dict[str, Any]:
    arguments = {"plans": plans(), "configuration": CONFIGURATION, "fold": 0, "dataset_json": DATASET_JSON}
    return {"network_weights": weights(), "init_args": arguments, "trainer_name": "nnUNetTrainer", "current_epoch": 1}


def of_ours() -> dict[str, Any]:
    own = {
        "format": checkpoints.FORMAT, "kind": "pretraining", "dataset": DATASET, "channel_names": {"0": "CT"},
        "architecture": plans()["configurations"]["base"]["architecture"], "lineage": [], "export_branch": "teacher",
    }  # fmt: skip
    return of_nnunet() | {checkpoints.KEY: own}


def of_nnssl() -> dict[str, Any]:
    content = nnssl_files.of_resenc()
    return content | {"network_weights": dict(content["network_weights"])}


KINDS = {"nnU-Net": of_nnunet, "pre-training": of_ours, "nnssl": of_nnssl, "Primus": nnssl_files.of_primus}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """nnUNet_raw and nnUNet_preprocessed with a data set of three images, its fingerprint and its plans."""
    root = tmp_path_factory.mktemp("transfer")
    raw, preprocessed = root / "raw" / DATASET, root / "preprocessed" / DATASET
    for folder in (raw / "imagesTr", raw / "labelsTr", preprocessed):
        folder.mkdir(parents=True)
    for case in range(3):
        image = sitk.GetImageFromArray(body_image(case))
        sitk.WriteImage(image, str(raw / "imagesTr" / f"c{case}_0000.nii.gz"))
        sitk.WriteImage(sitk.Cast(image > 20, sitk.sitkUInt8), str(raw / "labelsTr" / f"c{case}.nii.gz"))
    fingerprint = {
        "spacings": [[3, 1, 1]] * 3, "shapes_after_crop": [[10, 20, 24]] * 3, "median_relative_size_after_cropping": 1,
        "foreground_intensity_properties_per_channel": plans()["foreground_intensity_properties_per_channel"],
    }  # fmt: skip
    for path, content in (
        (raw / "dataset.json", DATASET_JSON),
        (preprocessed / "dataset.json", DATASET_JSON),
        (preprocessed / "dataset_fingerprint.json", fingerprint),
        (preprocessed / "nnUNetPlans.json", plans()),
    ):
        path.write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(root / name))
        planner = "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner"
        patch.setattr(f"{planner}.nnUNet_preprocessed", str(root / "preprocessed"))
        patch.setattr(f"{planner}.nnUNet_raw", str(root / "raw"))
        yield root


def command(*argv: Any) -> int:
    """Run a command; a user's mistake is exit status 1 or 2 and a message, never an exception."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            status = main([str(word) for word in argv])
        except SystemExit as stop:  # of argparse
            status = stop.code
    assert status in (0, 1, 2), output.getvalue()
    assert status == 0 or "error: " in output.getvalue()
    assert "weights_only" not in output.getvalue()
    return status


def without(content: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in content.items() if k != key}


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_of_strangers(kind, tree):
    good = KINDS[kind]()
    file, out = tree / "stranger.pth", tree / "adapted.pth"

    def commands():
        return [
            ("plan_like", file, "-d", "1"),
            ("adapt", file, "-d", "1", "-p", "nnUNetPlans", "-o", out, "--force", "--min-loaded", "0"),
            ("features", "--checkpoint", file, "-d", "1", "-o", tree / "features", "--spacing", "1"),
        ]

    torch.save(good, file)
    assert [command(*words) for words in commands()[:2]] == [0, 0]

    @few(1 / 300)
    @given(content=spoiled(without(good, "network_weights")), what=st.integers(0, 9))
    def attack(content, what):
        if isinstance(content, dict):
            content = content | {"network_weights": good["network_weights"]}
        with contextlib.suppress(UnicodeEncodeError):  # torch cannot save half a character
            torch.save(content, file)
        # planning is slow: most inputs are read alone
        for words in commands()[what : what + 1] if what < 3 else ():
            command(*words)
        if what >= 3:
            with contextlib.suppress(ValueError):
                read_source(file)

    attack()


@few(1 / 300)
@given(content=spoiled(plans()))
def test_target_plans_of_strangers(tree, content):
    path = tree / "preprocessed" / DATASET / "nnUNetOddPlans.json"
    path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    file = tree / "good.pth"
    if not file.is_file():
        torch.save(of_nnunet(), file)
    words = ("-d", "1", "-p", "nnUNetOddPlans", "-o", tree / "adapted.pth", "--force", "--min-loaded", "0")
    command("adapt", file, *words)
    command("cost", path)
    path.unlink()


@few(1 / 300)
@given(content=spoiled(plans()["configurations"]["base"]["architecture"]))
def test_architectures_of_strangers(tree, content):
    """Arguments alone, which reach the constructors of networks."""
    whole = copy.deepcopy(plans())
    whole["configurations"]["base"]["architecture"] = content
    path = tree / "plans.json"
    path.write_text(json.dumps(whole), encoding="utf-8", errors="surrogatepass")
    command("cost", path)


@few(1 / 300)
@given(content=spoiled(DATASET_JSON))
def test_target_data_sets_of_strangers(tree, content):
    folder = tree / "preprocessed" / DATASET
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    file = tree / "good.pth"
    torch.save(of_nnunet(), file)
    try:
        command("adapt", file, "-d", "1", "-p", "nnUNetPlans", "-o", tree / "adapted.pth", "--min-loaded", "0")
    finally:
        shutil.copyfile(tree / "raw" / DATASET / "dataset.json", folder / "dataset.json")


def test_scratch_is_small(tree):
    assert sum(path.stat().st_size for path in Path(tree).rglob("*") if path.is_file()) < 10_000_000
