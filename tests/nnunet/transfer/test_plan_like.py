"""What plan_like refuses before it writes anything."""

import json

import pytest
import torch
from support.nnssl_files import of_resenc, resenc, saved


def change_fingerprint(folder, **changes):
    path = folder / "dataset_fingerprint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("options", [[], ["--spacing", "default"], ["--spacing", "no_resample"]])
@pytest.mark.parametrize("shape", [[1, 64, 64], [64, 64, 1]])
def test_a_network_for_volumes_and_images_of_one_slice(options, shape, run_plan_like, transfer_folder):
    """nnU-Net gives slices of 2D images a distance of 999 mm, of which 999 slices of 1 mm were made."""
    change_fingerprint(transfer_folder, shapes_after_crop=[shape] * 6, spacings=[[999.0, 1.0, 1.0]] * 6)
    before = files(transfer_folder)
    code, _, text = run_plan_like(*options)
    assert code == 1 and "is of a network for volumes" in text and "2D network" in text
    assert files(transfer_folder) == before


@pytest.mark.parametrize("options", [[], ["--spacing", "no_resample"]])
def test_strides_that_leave_one_cell(options, run_plan_like, tmp_path, transfer_folder):
    """Five strides of 2 on images of 20^3 voxels."""
    change_fingerprint(transfer_folder, shapes_after_crop=[[20, 20, 20]] * 6)
    deep = resenc(features=(2, 2, 2, 2, 2, 2), blocks=(1,) * 6)
    content = of_resenc(network=deep, patch=(64, 64, 64), recommended_downstream_patchsize=[64, 64, 64])
    file = saved(content, tmp_path / "deep.pth")
    code, _, text = run_plan_like(*options, checkpoint=file)
    assert code == 1 and "leaves a single cell of these images ([20, 20, 20] voxels" in text and "finer spacing" in text
    assert not (transfer_folder / "nnUNetLikePlans.json").exists()
    change_fingerprint(transfer_folder, shapes_after_crop=[[20, 20, 40]] * 6)
    code, plans, _ = run_plan_like(*options, checkpoint=file)
    assert code == 0 and plans["configurations"]["3d_fullres"]["patch_size"] == [32, 32, 64]  # two cells


def test_a_checkpoint_that_lacks_what_plans_need(run_plan_like, pretrained_file, tmp_path):
    for key, words in (
        ("normalization_schemes", "lacks 'normalization_schemes'"),
        ("patch_size", "lacks 'patch_size'"),
    ):
        content = torch.load(pretrained_file, weights_only=True)
        del content["init_args"]["plans"]["configurations"]["3d_fullres"][key]
        torch.save(content, tmp_path / "part.pth")
        code, _, text = run_plan_like(checkpoint=tmp_path / "part.pth")
        assert code == 1 and words in text and "part.pth" in text


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("patch_size", [16, 0, 16], "patch_size[1] is 0; give a whole number from 1 on"),
        ("patch_size", "16", 'patch_size is "16"; give null, or a list of 2 or 3 entries'),
        ("spacing", [1.0, float("nan"), 1.0], "spacing[1] is NaN; give a number from 0.0001 to 100000"),
        ("spacing", [1.0, 1.0], "differ in their number of axes"),
        ("use_mask_for_norm", [True, False], "one entry for each of the 1 channels"),
        ("batch_size", 0, "batch_size is 0; give null, or a whole number from 1 on"),
        ("architecture", {"network_class_name": "a.B"}, 'architecture: key "arch_kwargs" is missing; give an object'),
    ],
)
def test_odd_values_have_words(key, value, words, run_plan_like, pretrained_file, tmp_path):
    content = torch.load(pretrained_file, weights_only=True)
    content["init_args"]["plans"]["configurations"]["3d_fullres"][key] = value
    torch.save(content, tmp_path / "odd.pth")
    code, _, text = run_plan_like(checkpoint=tmp_path / "odd.pth")
    assert code == 1 and words in text, text
