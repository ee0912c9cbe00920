"""The keys of the augmentation: nnU-Net's pipeline where they are silent, and what each one does."""

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunet_xlstm.trainers.nnUNetTrainerXLSTMUNet import nnUNetTrainerXLSTMUNet
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xlstm.config import SegmentationConfig, override
from nnunet_xlstm.config.augmentation import AUGMENTATIONS, AugmentationKeys, augmentation_values
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.loading import augmentation

THIRTY = math.radians(30)
SCALES_3D, SCALES_2D = ((1, 1, 1), (0.5, 0.5, 0.5)), ((1, 1), (0.5, 0.5))
# what nnU-Net calls get_training_transforms with
CASES = {
    "3d": {"patch_size": (16, 16, 16), "deep_supervision_scales": SCALES_3D, "mirror_axes": (0, 1, 2)},
    "2d": {"patch_size": (24, 24), "deep_supervision_scales": SCALES_2D, "mirror_axes": (0, 1)},
    "thick_slices": {
        "patch_size": (6, 24, 24),
        "deep_supervision_scales": ((1, 1, 1), (1, 0.5, 0.5)),
        "mirror_axes": (0, 1, 2),
        "do_dummy_2d_data_aug": True,
    },
    "cascade": {
        "patch_size": (16, 16, 16),
        "deep_supervision_scales": SCALES_3D,
        "mirror_axes": (0, 1, 2),
        "is_cascaded": True,
        "foreground_labels": [1, 2],
    },
    "regions": {
        "patch_size": (16, 16, 16),
        "deep_supervision_scales": SCALES_3D,
        "mirror_axes": (0, 1, 2),
        "regions": [(1, 2), (2,)],
        "ignore_label": 3,
    },
    "masked": {
        "patch_size": (16, 16, 16),
        "deep_supervision_scales": None,
        "mirror_axes": (0, 1, 2),
        "use_mask_for_norm": [True, False],
    },
}


def call(case):
    return {"rotation_for_DA": (-THIRTY, THIRTY), "do_dummy_2d_data_aug": False} | CASES[case]


def values_of(**keys):
    return augmentation_values(override(SegmentationConfig(), keys, "test"))


def changed(case="3d", **keys):
    return augmentation.change_transforms(nnUNetTrainer.get_training_transforms(**call(case)), values_of(**keys))


def only(case="3d", **keys):
    """The pipeline with everything off but what the keys turn on."""
    return changed(case, augmentation="none", **keys)


def sample(case="3d", seed=0, channels=2, margin=4):
    """A loaded patch: smooth channels around 0 with SD about 1, and nested labels."""
    rng = np.random.default_rng(seed)
    size = [n + (0 if i == 0 and case == "thick_slices" else margin) for i, n in enumerate(CASES[case]["patch_size"])]
    grid = np.meshgrid(*(np.linspace(-1.5, 1.5, n) for n in size), indexing="ij")
    image = np.stack([sum(grid) / len(size) * (1 + c) + rng.normal(0, 0.3, size) for c in range(channels)])
    label = (sum(g**2 for g in grid) < 1.2).astype(np.int16) + (sum(g**2 for g in grid) < 0.4)
    rows = [label] * (2 if case == "cascade" else 1)
    return {"image": torch.tensor(image).float(), "segmentation": torch.tensor(np.stack(rows))}


def draw(pipeline, seed, case="3d", **keys):
    np.random.seed(seed)
    torch.manual_seed(seed)
    for transform in pipeline.transforms:  # nnU-Net times two convolutions and takes the faster one
        inner = getattr(transform, "transform", transform)
        if isinstance(inner, GaussianBlurTransform):
            inner.benchmark = False
    return pipeline(**sample(case, **keys))


def description(transform):
    """Types and attributes, nested."""
    if isinstance(transform, ComposeTransforms):
        return [description(one) for one in transform.transforms]
    state = {k: v for k, v in vars(transform).items() if k not in ("_grid_cache", "benchmark_use_fft")}
    return type(transform).__name__, {
        k: description(v) if hasattr(v, "get_parameters") else repr(v) for k, v in state.items()
    }


def equal(a, b):
    lists = [list(x) if isinstance(x, (list, tuple)) else [x] for x in (a, b)]
    return len(lists[0]) == len(lists[1]) and all(torch.equal(x, y) for x, y in zip(*lists, strict=True))


# ---- nothing asked for: nnU-Net's pipeline

STOCK_NUMBERS = {
    "rotation_probability": 0.2,
    "scaling_probability": 0.2,
    "scaling_range": [0.7, 1.4],
    "noise_probability": 0.1,
    "noise_sd": [0, 0.1],
    "blur_probability": 0.2,
    "blur_sigma": [0.5, 1.0],
    "brightness_probability": 0.15,
    "brightness_factor": [0.75, 1.25],
    "contrast_probability": 0.15,
    "contrast_factor": [0.75, 1.25],
    "low_resolution_probability": 0.25,
    "low_resolution_scale": [0.5, 1],
    "gamma_probability": 0.3,
    "inverted_gamma_probability": 0.1,
    "gamma_range": [0.7, 1.5],
    "elastic_probability": 0.0,
    "shift_probability": 0.0,
}


@pytest.mark.parametrize("keys", [{}, STOCK_NUMBERS], ids=["defaults", "the numbers in brackets"])
@pytest.mark.parametrize("case", CASES)
def test_defaults_are_nnunets_pipeline_bit_for_bit(case, keys):
    """Also where its numbers are written out: those in the brackets of the reference page are true."""
    stock, ours = nnUNetTrainer.get_training_transforms(**call(case)), changed(case, **keys)
    assert description(stock) == description(ours)
    differing = 0
    for seed in range(8):
        a, b = draw(stock, seed, case), draw(ours, seed, case)
        assert a.keys() == b.keys()
        assert all(equal(a[k], b[k]) for k in a)
        differing += not torch.equal(a["image"], draw(only(case), seed, case)["image"])
    assert differing >= 4  # the pipeline does something


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shapes_and_labels_of_every_named_augmentation(case, name):
    for seed in range(3):
        out = draw(changed(case, augmentation=name), seed, case)
        patch = CASES[case]["patch_size"]
        assert out["image"].shape == (2 + (2 if case == "cascade" else 0), *patch) and out["image"].isfinite().all()
        target = out["segmentation"]
        first = target[0] if isinstance(target, list) else target
        assert first.shape == (3 if case == "regions" else 1, *patch)
        assert set(np.unique(first)) <= ({False, True} if case == "regions" else {0, 1, 2})


def test_pipelines_go_to_spawned_workers():
    pipeline = changed(elastic_probability=1.0, shift_probability=1.0, mirroring_probability=0.5, gamma_range=[0.5, 2])
    assert description(pickle.loads(pickle.dumps(pipeline))) == description(pipeline)


def test_a_pipeline_without_a_transform_that_keys_change_is_refused():
    stock = nnUNetTrainer.get_training_transforms(**call("3d"))
    stock.transforms = [
        t for t in stock.transforms if not isinstance(getattr(t, "transform", t), GaussianBlurTransform)
    ]
    with pytest.raises(RuntimeError, match="hold no GaussianBlurTransform: this nnU-Net differs"):
        augmentation.change_transforms(stock, values_of())


# ---- every key does what it says

CHANGES = ("rotation", "scaling", "elastic", "noise", "blur", "brightness", "contrast", "shift")
CHANGES += ("low_resolution", "gamma", "inverted_gamma")


def test_every_change_is_tested_here():
    probabilities = {f.name for f in dataclasses.fields(AugmentationKeys) if f.name.endswith("_probability")}
    assert probabilities == {f"{change}_probability" for change in (*CHANGES, "mirroring")}


@pytest.mark.parametrize("case", ["3d", "2d", "thick_slices"])
@pytest.mark.parametrize("change", CHANGES)
def test_probabilities(change, case):
    """Off: never; 1: always (blur and low resolution: each of two channels with 1/2); 1/2: in half of the draws."""
    still = draw(only(case), 0, case)["image"]

    def share(probability, n):
        pipeline = only(case, **{f"{change}_probability": probability})
        return np.mean([not torch.equal(draw(pipeline, seed, case)["image"], still) for seed in range(n)])

    expected = 0.75 if change in ("blur", "low_resolution") else 1.0
    assert share(0.0, 5) == 0
    assert share(1.0, 24) == pytest.approx(expected, abs=0.25 if expected < 1 else 0.0)
    assert share(0.5, 24) == pytest.approx(0.5 * expected, abs=0.3)


def test_nothing_is_left_of_none():
    for case in CASES:
        out, data = draw(only(case), 0, case), sample(case)
        patch = CASES[case]["patch_size"]
        starts = [(n - p) // 2 for n, p in zip(data["image"].shape[1:], patch, strict=True)]
        middle = tuple(slice(s, s + p) for s, p in zip(starts, patch, strict=True))
        if case not in ("cascade", "masked"):
            assert torch.equal(out["image"], data["image"][(slice(None), *middle)])


def ramp(case, axis, margin):
    """An image that holds its own coordinate along an axis, in voxels of the patch; label 1 on one half."""
    patch = CASES[case]["patch_size"]
    size = [n + (0 if i == 0 and case == "thick_slices" else 2 * margin) for i, n in enumerate(patch)]
    shift = (size[axis] - patch[axis]) // 2
    line = torch.arange(size[axis], dtype=torch.float32) - shift
    view = [1] * len(size)
    view[axis] = -1
    image = line.view(view).expand(size).clone()[None]
    return {"image": image, "segmentation": (image >= patch[axis] / 2).short()}


@pytest.mark.parametrize("case, axes", [("3d", (0, 1, 2)), ("2d", (0, 1)), ("thick_slices", (1, 2))])
def test_elastic_deformation_moves_voxels_as_far_as_it_says(case, axes):
    """The image holds coordinates, so its change is the displacement; the label follows the image."""
    magnitude = 0.125
    pipeline = only(case, elastic_probability=1.0, elastic_magnitude=[magnitude, magnitude], elastic_sigma=[0.15, 0.2])
    patch = CASES[case]["patch_size"]
    for axis in axes:
        torch.manual_seed(axis)
        data = ramp(case, axis, 8)
        still = only(case)(**{k: v.clone() for k, v in data.items()})["image"]
        out = pipeline(**data)
        moved = (out["image"] - still).abs().max().item()
        limit = magnitude * patch[axis]
        assert 0.4 * limit < moved < 1.6 * limit  # the field is centred after it was scaled
        labels = out["segmentation"][0] if isinstance(out["segmentation"], list) else out["segmentation"]
        agree = (labels == (out["image"] >= patch[axis] / 2 - 0.5)).float().mean()
        assert agree > 0.98


def test_elastic_deformation_leaves_thick_slices_in_place_and_alike():
    data = ramp("thick_slices", 0, 8)
    out = only("thick_slices", elastic_probability=1.0, elastic_magnitude=[0.2, 0.2])(**data)["image"][0]
    inner = out[:, 6:-6, 6:-6]
    assert torch.allclose(inner, torch.arange(6.0)[:, None, None].expand_as(inner), atol=1e-5)


def test_elastic_deformation_does_not_fold_with_its_defaults():
    pipeline = only(elastic_probability=1.0, elastic_magnitude=[0.05, 0.05], elastic_sigma=[0.1, 0.1])
    transform = pipeline.transforms[0]
    for seed in range(10):
        torch.manual_seed(seed)
        offsets = transform.get_parameters(image=torch.zeros(1, 16, 16, 16))["elastic_offsets"].numpy()
        jacobian = np.stack([np.stack(np.gradient(offsets[..., i]), -1) for i in range(3)], -2) + np.eye(3)
        assert np.linalg.det(jacobian).min() > 0


def test_smoothness_of_elastic_deformation():
    def roughness(sigma):
        transform = only(elastic_probability=1.0, elastic_magnitude=[0.1, 0.1], elastic_sigma=[sigma, sigma])
        torch.manual_seed(0)
        offsets = transform.transforms[0].get_parameters(image=torch.zeros(1, 16, 16, 16))["elastic_offsets"]
        return offsets.diff(dim=0).abs().mean().item()

    assert roughness(0.05) > 2 * roughness(0.2)


@pytest.mark.parametrize("case", ["3d", "2d", "thick_slices"])
def test_rotation_turns_by_the_given_angle(case):
    """About all axes at once, by a matrix that we write out; nnU-Net takes the angles from the trainer."""
    angle = math.radians(20)
    stock = call(case) | {"rotation_for_DA": (angle, angle)}
    pipeline = augmentation.change_transforms(
        nnUNetTrainer.get_training_transforms(**stock), values_of(augmentation="none", rotation_probability=1.0)
    )
    axis = len(CASES[case]["patch_size"]) - 1
    out = pipeline(**ramp(case, axis, 10))["image"][0]
    slope = out.diff(dim=axis)[tuple(slice(n // 3, n - n // 3) for n in out.shape)].mean().item()
    assert slope == pytest.approx(math.cos(angle) ** (2 if case == "3d" else 1), abs=0.02)


@pytest.mark.parametrize("case", ["3d", "2d", "thick_slices"])
@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_scaling(case, factor):
    axis = len(CASES[case]["patch_size"]) - 1
    out = only(case, scaling_probability=1.0, scaling_range=[factor, factor])(**ramp(case, axis, 8))["image"][0]
    assert out.diff(dim=axis).mean().item() == pytest.approx(factor, abs=0.01)  # above 1 structures shrink


@pytest.mark.parametrize("case", ["3d", "2d"])
def test_noise(case):
    noise = only(case, noise_probability=1.0, noise_sd=[0.5, 0.5])
    difference = draw(noise, 1, case)["image"] - draw(only(case), 1, case)["image"]
    assert difference.std().item() == pytest.approx(0.5, rel=0.1) and abs(difference.mean().item()) < 0.1


def test_blur():
    """A Gaussian of sigma s takes white noise to the variance (1 / (2 s sqrt(pi)))^3 in 3D."""
    pipeline = only(blur_probability=1.0, blur_sigma=[1.0, 1.0])
    torch.manual_seed(3)
    data = {"image": torch.randn(8, 20, 20, 20), "segmentation": torch.zeros(1, 20, 20, 20).short()}
    before = data["image"].clone()[:, 2:-2, 2:-2, 2:-2]
    out = pipeline(**data)["image"]
    blurred = [not torch.equal(a, b) for a, b in zip(before, out, strict=True)]
    assert 1 <= sum(blurred) <= 7  # each channel with 1/2
    variance = out[torch.tensor(blurred)].var().item()
    assert variance == pytest.approx((1 / (2 * math.sqrt(math.pi))) ** 3, rel=0.25)


def test_brightness_and_contrast_factors():
    """The draw is on one side of 1 as often as on the other."""
    still = draw(only(), 0)["image"]
    factors = {"brightness": [], "contrast": []}
    for change, found in factors.items():
        pipeline = only(**{f"{change}_probability": 1.0, f"{change}_factor": [0.5, 3.0]})
        for seed in range(60):
            image = draw(pipeline, seed)["image"][0]
            inside = (image > image.min()) & (image < image.max())  # contrast keeps the range
            x, y = still[0][inside], image[inside]
            found.append((((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()).item())
        assert 0.49 < min(found) < 0.7 and 1.9 < max(found) < 3.1
        assert 0.3 < np.mean(np.array(found) < 1) < 0.7


def test_shift_adds_one_number_per_channel():
    pipeline, still = only(shift_probability=1.0, shift_sd=0.4), draw(only(), 0)["image"]
    shifts = []
    for seed in range(100):
        difference = (draw(pipeline, seed)["image"] - still).flatten(1)
        assert difference.std(1).max() < 1e-6
        shifts.append(difference.mean(1).tolist())
    shifts = np.array(shifts)
    assert shifts.std() == pytest.approx(0.4, rel=0.2) and abs(shifts.mean()) < 0.12
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.3  # channels apart


@pytest.mark.parametrize("case", ["3d", "2d", "thick_slices"])
def test_low_resolution(case):
    """At a half, neighbours share their value before they are interpolated; slices keep their own."""
    pipeline = only(case, low_resolution_probability=1.0, low_resolution_scale=[0.5, 0.5])
    patch = CASES[case]["patch_size"]
    torch.manual_seed(0)
    data = {"image": torch.randn(8, *patch), "segmentation": torch.zeros(1, *patch).short()}
    before = data["image"].clone()
    out = pipeline(**data)["image"]
    done = torch.tensor([not torch.equal(a, b) for a, b in zip(before, out, strict=True)])
    kept = 1.0
    for n in patch[-2:] if case == "thick_slices" else patch:
        kept *= ((n - 2) * 0.625 + 2) / n  # 1/4 and 3/4 of two values, but at both ends
    assert out[done].var().item() == pytest.approx(kept, rel=0.15)
    if case == "thick_slices":
        corr = np.corrcoef(out[done][:, 0].flatten(), out[done][:, 1].flatten())[0, 1]
        assert abs(corr) < 0.2


def test_gamma_by_hand():
    """With mean and SD kept, the ranks stay and the shape changes as x^gamma on [0, 1] does; inverted the other way."""
    still = draw(only(), 0)["image"][0].flatten()

    def skewness(x):
        return (((x - x.mean()) / x.std()) ** 3).mean().item()

    results = {}
    for name in ("gamma", "inverted_gamma"):
        out = draw(only(**{f"{name}_probability": 1.0}, gamma_range=[1.0, 3.0]), 0)["image"][0].flatten()
        assert out[still.argsort()].diff().min() > -1e-5
        assert out.mean().item() == pytest.approx(still.mean().item(), abs=0.02)
        assert out.std().item() == pytest.approx(still.std().item(), rel=0.02)
        results[name] = skewness(out) - skewness(still)
    assert results["gamma"] > 0.05 and results["inverted_gamma"] < -0.05


@pytest.mark.parametrize("case", ["3d", "2d"])
def test_mirroring(case):
    """Each axis in half of the patches that may be mirrored; the label with the image."""
    still = draw(only(case), 0, case)
    n_axes = len(CASES[case]["patch_size"])
    subsets = [[i for i in range(n_axes) if mask >> i & 1] for mask in range(2**n_axes)]

    def shares(**keys):
        pipeline, n, flipped = only(case, **keys), 200, np.zeros(n_axes)
        for seed in range(n):
            out = draw(pipeline, seed, case)
            (axes,) = [
                axes for axes in subsets if torch.equal(still["image"].flip([a + 1 for a in axes]), out["image"])
            ]
            flipped[axes] += 1
            assert torch.equal(still["segmentation"][0].flip([a + 1 for a in axes]), out["segmentation"][0])
        return flipped / n

    assert shares(mirroring_probability=1.0) == pytest.approx(0.5, abs=0.12)
    assert shares(mirroring_probability=0.4) == pytest.approx(0.2, abs=0.12)


def flip(array, axes):
    return array.flip([axis + 1 for axis in axes])


# ---- in the trainer


@pytest.fixture
def make(nnunet_tree, tmp_path, monkeypatch):
    """make(configuration, **keys) -> nnUNetTrainerXLSTMUNet on the tiny tree."""

    def _make(configuration="3d_fullres", **keys):
        (tmp_path / "config.json").write_text(json.dumps({"patch_size": [16] * 3, "batch_size": 2, "seed": 7} | keys))
        monkeypatch.setenv("nnUNet_xlstm_config", str(tmp_path / "config.json"))
        monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
        folder = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids"
        plans = json.loads((folder / "nnUNetXLSTMUNetTinyPlans.json").read_text()) | {"continue_training": False}
        dataset = json.loads((folder / "dataset.json").read_text())
        return nnUNetTrainerXLSTMUNet(plans, configuration, 0, dataset, torch.device("cpu"))

    return _make


def geometry(trainer):
    rotation, dummy, size, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    return tuple(rotation), bool(dummy), [int(n) for n in size], axes


@pytest.mark.parametrize("patch", [[16, 16, 16], [4, 16, 16]])
def test_the_trainer_loads_what_nnunet_loads(make, patch):
    trainer = make(patch_size=patch)
    stock = nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(trainer)
    rotation, dummy, size, axes = stock
    assert geometry(trainer) == (tuple(rotation), bool(dummy), [int(n) for n in size], axes)
    assert trainer.inference_allowed_mirroring_axes == (0, 1, 2)


def test_larger_angles_and_deformations_load_more(make):
    stock = geometry(make())[2]
    rotation, _, turned, _ = geometry(make(rotation_degrees=[-45, 45]))
    assert rotation == pytest.approx((-math.pi / 4, math.pi / 4)) and min(turned) > max(stock)
    assert geometry(make(rotation_degrees=[-30, 30]))[2] == stock  # nnU-Net's own angles
    assert geometry(make(elastic_probability=0.1, elastic_magnitude=[0, 0.1]))[2] == [n + 4 for n in stock]
    _, dummy, size, _ = geometry(make(patch_size=[4, 16, 16], elastic_probability=0.1, rotation_degrees=[-5, 5]))
    assert dummy and size[0] == 4 and min(size[1:]) > 16


@pytest.mark.parametrize(
    "keys, axes",
    [
        ({}, (0, 1, 2)),
        ({"mirroring": False}, None),
        ({"mirroring_probability": 0}, None),
        ({"augmentation": "heartseg"}, None),
        ({"augmentation": "segsync"}, (0, 1, 2)),
        ({"mirroring_axes": [0, 2]}, (0, 2)),
        ({"mirroring_axes": []}, None),
        ({"mirroring_axes": [1], "mirroring": False}, None),
    ],
)
def test_prediction_mirrors_what_training_mirrors(make, keys, axes):
    trainer = make(**keys)
    assert geometry(trainer)[3] == axes == trainer.inference_allowed_mirroring_axes


def test_axes_that_the_patch_lacks(make):
    with pytest.raises(ConfigError, match=r"mirroring_axes \[0, 2\]: the patch has no axis 2; give axes from 0 to 1"):
        geometry(make("2d", patch_size=[16, 16], mirroring_axes=[0, 2]))


def test_the_trainer_trains_with_every_change(make):
    probabilities = {f"{change}_probability": 1.0 for change in CHANGES}
    trainer = make(**probabilities, mirroring_probability=0.5, dice_weight=0.5)
    trainer.on_train_start()
    batch = next(trainer.dataloader_train)
    assert batch["data"].shape == (2, 1, 16, 16, 16) and math.isfinite(trainer.train_step(batch)["loss"])


def test_weights_of_the_loss(make):
    """Dice alone plus cross-entropy alone is the loss; weights scale them."""

    def loss(**keys):
        trainer = make(**keys)
        trainer.label_manager, trainer.configuration_manager  # noqa: B018 (nnU-Net reads them)
        torch.manual_seed(0)
        logits = [torch.randn(2, 3, 16 // n, 16 // n, 16 // n) for n in (1, 2, 4)]
        labels = [torch.randint(0, 3, (2, 1, *z.shape[2:])).float() for z in logits]
        n = len(trainer._get_deep_supervision_scales())
        return trainer._build_loss()(logits[:n], labels[:n]).item()

    dice, ce, both = loss(ce_weight=0), loss(dice_weight=0), loss()
    assert both == pytest.approx(dice + ce) and dice < 0 < ce
    assert loss(dice_weight=2, ce_weight=0.5) == pytest.approx(2 * dice + 0.5 * ce)


def test_a_loss_of_nothing_is_refused(make):
    with pytest.raises(ConfigError, match="both 0, so there is no loss"):
        make(dice_weight=0, ce_weight=0)


@pytest.mark.parametrize(
    "keys, sentence",
    [
        ({"rotation_degrees": [30]}, "; give a range, \\[least, greatest\\]"),
        ({"rotation_degrees": [30, -30]}, "; give a range, \\[least, greatest\\]"),
        ({"rotation_degrees": [-200, 0]}, "each a number from -180 to 180"),
        ({"scaling_range": [0, 1]}, "each a number from 0.1 to 10"),
        ({"noise_probability": 1.5}, "is 1.5; give null, or a number from 0 to 1"),
        ({"gamma_range": [0.5, 0.9]}, "is \\[0.5, 0.9\\]; give a range around 1"),
        ({"mirroring_axes": [3]}, "mirroring_axes\\[0\\] is 3; give a whole number from 0 to 2"),
        ({"augmentation": "strong"}, "give one of nnunet, heartseg, segsync, none"),
        ({"elastic": True}, 'key "elastic" is unknown'),
    ],
)
def test_values_that_make_no_sense_are_refused(keys, sentence):
    with pytest.raises(ConfigError, match=sentence):
        values_of(**keys)


def test_named_augmentations():
    heartseg, segsync = (augmentation_values(SegmentationConfig(augmentation=n)) for n in ("heartseg", "segsync"))
    on = {k for k, v in heartseg.items() if k.endswith("_probability") and v != 0}
    assert on == {"rotation_probability", "elastic_probability"}
    off = {k for k, v in segsync.items() if k.endswith("_probability") and v == 0}
    assert off == {"low_resolution_probability", "inverted_gamma_probability"}
    assert segsync["shift_probability"] > 0 and segsync["noise_probability"] is None
    own = augmentation_values(SegmentationConfig(augmentation="heartseg", scaling_probability=0.3))
    assert own["scaling_probability"] == 0.3 and own["rotation_probability"] == 0.2
    for name, values in AUGMENTATIONS.items():
        override(SegmentationConfig(), values, name)  # they keep the rules of the keys


def test_random_mirroring_wraps_nnunets():
    (transform,) = [t for t in changed(mirroring_probability=0.3).transforms if "Mirror" in repr(t)]
    assert isinstance(transform, RandomTransform) and transform.apply_probability == 0.3
