"""The planners, on fingerprints written by hand."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_xlstm import registry
from nnunet_xlstm.networks.cost import count_parameters
from nnunet_xlstm.networks.presets import PRESETS

SETS = {
    "isotropic": ((120, 160, 140), (1.0, 1.0, 1.0), 20),
    "anisotropic": ((12, 320, 300), (10.0, 1.4, 1.4), 20),
    "large": ((400, 512, 512), (0.8, 0.8, 0.8), 40),
}


def planner_class(name):
    return getattr(importlib.import_module(registry.PLANNERS[name]), name)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    def _dataset(kind):
        shape, spacing, n = SETS[kind]
        name = "Dataset950_Planned"
        for folder in ("raw", "preprocessed", "results"):
            (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
            monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
        monkeypatch.setenv("nnUNet_n_proc_DA", "1")  # stock planners fail with 0
        cases = {f"c{i}": {"images": [f"c{i}_0000.nii.gz"], "label": f"c{i}.nii.gz"} for i in range(n)}
        (tmp_path / "raw" / name / "dataset.json").write_text(
            json.dumps(
                {
                    "channel_names": {"0": "MR"},
                    "labels": {"background": 0, "a": 1},
                    "numTraining": n,
                    "file_ending": ".nii.gz",
                    "dataset": cases,
                    "overwrite_image_reader_writer": "SimpleITKIO",
                }
            )
        )
        statistics = {k: 1.0 for k in ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")}
        (tmp_path / "preprocessed" / name / "dataset_fingerprint.json").write_text(
            json.dumps(
                {
                    "spacings": [spacing] * n,
                    "shapes_after_crop": [shape] * n,
                    "foreground_intensity_properties_per_channel": {"0": statistics},
                    "median_relative_size_after_cropping": 1.0,
                }
            )
        )
        return 950

    return _dataset


def plan(name, dataset_id, **kwargs):
    return planner_class(name)(dataset_id, **kwargs).plan_experiment()


def test_names_and_presets():
    used = {planner_class(name).preset for name in registry.PLANNERS}
    assert used == set(PRESETS)
    for name in registry.PLANNERS:
        body = {k for k in planner_class(name).__dict__ if not k.startswith("__")}
        assert body == {"preset"}, "planner classes hold a preset and nothing else"


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("name", [n for n in registry.PLANNERS if PRESETS[planner_class(n).preset].control_of])
def test_control_has_the_same_patch_batch_and_topology(name, kind, dataset):
    row = PRESETS[planner_class(name).preset]
    partner = next(n for n in registry.PLANNERS if planner_class(n).preset == row.control_of)
    identifier = dataset(kind)
    control, full = (plan(n, identifier)["configurations"] for n in (name, partner))
    assert control.keys() == full.keys()
    for c in full:
        for key in ("patch_size", "batch_size", "spacing", "data_identifier", "batch_dice"):
            assert control[c].get(key) == full[c].get(key)
        ours, theirs = control[c]["architecture"], full[c]["architecture"]
        for key in ("strides", "kernel_sizes", "features_per_stage", "n_stages"):
            assert ours["arch_kwargs"][key] == theirs["arch_kwargs"][key]
        assert (ours["network_class_name"], ours["arch_kwargs"]) != (
            theirs["network_class_name"],
            theirs["arch_kwargs"],
        )


def test_plans_build_the_network_and_follow_stock_names(dataset):
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    identifier = dataset("anisotropic")
    ours = plan("nnUNetPlannerXLSTMUNetSmall", identifier)
    stock = ExperimentPlanner(identifier).plan_experiment()
    assert ours["plans_name"] == "nnUNetXLSTMUNetSmallPlans"
    assert ours["configurations"].keys() == stock["configurations"].keys() == {"2d", "3d_fullres"}
    for c in stock["configurations"]:
        mine, theirs = ours["configurations"][c], stock["configurations"][c]
        assert mine.keys() == theirs.keys()
        same = [k for k in theirs if k not in ("patch_size", "batch_size", "architecture")]
        assert {k: mine[k] for k in same if k != "spacing"} == {k: theirs[k] for k in same if k != "spacing"}
        assert np.array_equal(mine["spacing"], theirs["spacing"])
        manager = PlansManager(ours).get_configuration(c)
        network = get_network_from_plans(
            manager.network_arch_class_name,
            manager.network_arch_init_kwargs,
            manager.network_arch_init_kwargs_req_import,
            1,
            2,
            deep_supervision=True,
        )
        assert len(network.decoder.seg_layers) == len(manager.pool_op_kernel_sizes) - 1 == 3
    assert max(ours["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["strides"][1]) == 2
    assert ours["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["kernel_sizes"][0] == (1, 3, 3)


def test_large_images_get_lowres_and_cascade(dataset):
    configurations = plan("nnUNetPlannerXLSTMUNet", dataset("large"))["configurations"]
    assert set(configurations) == {"2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"}
    assert configurations["3d_lowres"]["data_identifier"] == "nnUNetXLSTMUNetPlans_3d_lowres"
    assert configurations["3d_fullres"]["data_identifier"] == "nnUNetPlans_3d_fullres"


def test_memory_target_and_xlstm_count(dataset):
    identifier = dataset("large")
    sizes = [
        plan("nnUNetPlannerXLSTMUNetEnc", identifier, gpu_memory_target_in_gb=gb)["configurations"]["3d_fullres"]
        for gb in (4, 8, 24)
    ]
    voxels = [int(np.prod(c["patch_size"])) * c["batch_size"] for c in sizes]
    assert voxels[0] < voxels[1] < voxels[2]
    planner = planner_class("nnUNetPlannerXLSTMUNetEnc")(identifier)
    estimates = {}
    for preset in ("enc", "enc_no_xlstm"):
        planner.planned = PRESETS[preset]
        c = sizes[1]["architecture"]
        estimates[preset] = planner.static_estimate_VRAM_usage(
            sizes[1]["patch_size"], 1, 2, c["network_class_name"], c["arch_kwargs"], c["_kw_requires_import"]
        )
    assert estimates["enc"] > 1.1 * estimates["enc_no_xlstm"]


def test_data_are_shared_only_where_equal(dataset):
    identifier = dataset("isotropic")
    configurations = {
        spacing: plan(name, identifier, overwrite_target_spacing=spacing)["configurations"]["3d_fullres"]
        for name in ("nnUNetPlannerXLSTMUNetSmall", "nnUNetPlannerXLSTMUNetSmallNoXLSTM")
        for spacing in (None, (2.0, 2.5, 2.5))
    }
    assert {s: c["data_identifier"] for s, c in configurations.items()} == {
        None: "nnUNetPlans_3d_fullres",
        (2.0, 2.5, 2.5): "nnUNetPlans_2x2.5x2.5_3d_fullres",
    }


def test_images_too_small_for_three_stages_still_plan():
    from nnunet_xlstm.networks.presets import arch_kwargs_for

    stock = {"n_stages": 2, "kernel_sizes": [3, 3], "strides": [1, 2]}
    assert arch_kwargs_for(PRESETS["enc"], stock, (8, 8, 8))["xlstm_from_stage"] == 1
    assert arch_kwargs_for(PRESETS["heartseg_30m"], stock, (8, 8, 8))["xlstm_from_stage"] == -1


def test_tsfm_is_planned_for_the_patch_of_its_recipe(dataset):
    from nnunet_xlstm.config import SegmentationConfig
    from nnunet_xlstm.nnunet.training.run_config import with_overrides

    plans = plan("nnUNetPlannerTSFM_S", dataset("large"), gpu_memory_target_in_gb=24)
    row = plans["configurations"]["3d_fullres"]
    kwargs = row["architecture"]["arch_kwargs"]
    assert plans["plans_name"] == "nnUNetTSFM_SPlans" and kwargs["n_stages"] <= 6
    strides = np.prod(kwargs["strides"], axis=0)
    assert kwargs["vit_grid"] == (np.array(row["patch_size"]) // strides).tolist()
    assert len(plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["vit_grid"]) == 2
    patch = SegmentationConfig(patch_size=[112, 160, 192], batch_size=2)
    changed = with_overrides(plans, "3d_fullres", patch)["configurations"]["3d_fullres"]
    assert changed["patch_size"] == [112, 160, 192] and changed["batch_size"] == 2


# preset -> gigabytes -> parameters in millions, stages, patch, batch, tokens; of a CT's fingerprint, two classes
TSFM_PLANS = {
    "S": {
        8: (20, 6, "128x192x160", 2, "8x6x5"),
        24: (20, 6, "192x256x256", 2, "12x8x8"),
        40: (20, 6, "256x256x256", 3, "16x8x8"),
        80: (20, 6, "256x256x256", 5, "16x8x8"),
    },
    "B": {
        8: (80, 6, "112x128x128", 2, "7x4x4"),
        24: (80, 6, "160x192x192", 2, "10x6x6"),
        40: (80, 6, "192x256x224", 2, "12x8x7"),
        80: (80, 6, "256x256x256", 3, "16x8x8"),
    },
    "L": {
        8: (188, 5, "96x128x112", 2, "6x8x7"),  # said in the line that is printed
        24: (334, 6, "160x192x192", 2, "10x6x6"),
        40: (334, 6, "192x256x224", 2, "12x8x7"),
        80: (335, 6, "256x256x256", 3, "16x8x8"),
    },
    "1p6B": dict.fromkeys((8, 24, 40, 80), (1569, 6, "112x160x192", 2, "7x5x6")),
}


@pytest.mark.parametrize("size", TSFM_PLANS)
def test_what_tsfm_planners_plan(size, dataset, capsys):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    identifier = dataset("large")
    found = {}
    for gigabytes in (8, 24, 40, 80):
        plans = plan(f"nnUNetPlannerTSFM_{size}", identifier, gpu_memory_target_in_gb=gigabytes)
        row = PlansManager(plans).get_configuration("3d_fullres")
        kwargs = row.network_arch_init_kwargs
        with torch.device("meta"):
            network = get_network_from_plans(
                row.network_arch_class_name, kwargs, row.network_arch_init_kwargs_req_import, 1, 2, True
            )
        patch = "x".join(str(n) for n in row.patch_size)
        grid = "x".join(str(n) for n in kwargs["vit_grid"])
        parameters = round(count_parameters(network) / 1e6)
        found[gigabytes] = parameters, kwargs["n_stages"], patch, row.batch_size, grid
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("3d_fullres: ")]
        assert lines[0].startswith(
            f"3d_fullres: tsfm_{size.lower()}, {count_parameters(network) / 1e6:.1f} M parameters"
        )
        assert f"patch {patch}, batch {row.batch_size}, transformer on {grid} tokens; training needs about" in lines[0]
    assert found == TSFM_PLANS[size]


def test_the_largest_keeps_its_size_and_says_what_it_needs(dataset, capsys):
    """Whatever the memory and the images: six stages, the paper's patch, batch 2; also small and anisotropic images."""
    for kind in ("isotropic", "anisotropic"):
        for name in ("nnUNetPlannerTSFM_1p6B", "nnUNetPlannerTSFM_1p6BNoViT"):
            row = plan(name, dataset(kind))["configurations"]["3d_fullres"]
            kwargs = row["architecture"]["arch_kwargs"]
            assert row["patch_size"] == [112, 160, 192] and row["batch_size"] == 2
            assert kwargs["n_stages"] == 6 and kwargs["features_per_stage"] == [64, 128, 256, 512, 1024, 2048]
            assert kwargs["strides"] == [[1, 1, 1], *[[2, 2, 2]] * 4, [1, 2, 2]]
            assert kwargs["kernel_sizes"] == [(3, 3, 3)] * 6
            assert kwargs.get("vit_grid", [7, 5, 6]) == [7, 5, 6]
    assert "GB (weights, gradients and optimizer 18.8" in capsys.readouterr().out


def test_too_little_memory_for_the_weights_still_plans_and_says_so(dataset, capsys):
    plan("nnUNetPlannerTSFM_L", dataset("isotropic"), gpu_memory_target_in_gb=4)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("3d_fullres: ")]
    assert "5 of 6 stages (the patch has room for no more)" in line
    assert line.endswith("more than -gpu_memory_target 4")


def test_the_grid_of_the_transformer_follows_the_patch_of_the_config(dataset):
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_xlstm.config import SegmentationConfig
    from nnunet_xlstm.nnunet.training.run_config import with_overrides

    plans = plan("nnUNetPlannerTSFM_S", dataset("isotropic"))
    plans["configurations"]["mine"] = {"inherits_from": "3d_fullres"}
    before = json.dumps(plans)
    for configuration in ("3d_fullres", "mine"):
        for patch, grid in (([112, 160, 192], [7, 5, 6]), ([32, 64, 96], [2, 2, 3])):
            changed = with_overrides(plans, configuration, SegmentationConfig(patch_size=patch))
            row = PlansManager(changed).get_configuration(configuration)
            assert row.patch_size == patch and row.network_arch_init_kwargs["vit_grid"] == grid
            assert row.network_arch_class_name == "nnunet_xlstm.networks.TSFM"
    assert json.dumps(plans) == before
    plain = plan("nnUNetPlannerXLSTMUNetTiny", dataset("isotropic"))
    changed = with_overrides(plain, "3d_fullres", SegmentationConfig(patch_size=[32, 32, 32]))
    architectures = [p["configurations"]["3d_fullres"]["architecture"] for p in (plain, changed)]
    assert architectures[0] == architectures[1]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux alone tells the peak of a process so")
def test_planning_the_largest_network_allocates_nothing(dataset, tmp_path):
    """Weights alone would be 6.3 GB. In a process of its own, which tells its peak; seconds of CPU."""
    identifier = dataset("large")
    code = (
        "import time; from nnunet_xlstm.planners.nnUNetPlannerTSFM import nnUNetPlannerTSFM_1p6B as P\n"
        f"s = time.process_time(); P({identifier}, gpu_memory_target_in_gb=80).plan_experiment()\n"
        # not ru_maxrss, which starts at the parent's
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(time.process_time() - s, int(peak) / 1e6)"
    )
    # from elsewhere: in a clone, the folder of the sources would hide the installed package
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    seconds, gigabytes = map(float, run.stdout.splitlines()[-1].split())
    assert seconds < 60 and gigabytes < 2
