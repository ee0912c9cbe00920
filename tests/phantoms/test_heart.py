"""Phantoms: repeatable, complete, beating, written right, and not separable by intensity."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.phantoms import heart, intensity_baseline
from nnunet_xlstm.phantoms.dataset import _subject_seeds, write_dataset
from nnunet_xlstm.phantoms.heart import LV, MYO, PHASES, RV, make_case
from nnunet_xlstm.phantoms.intensity_baseline import intensity_classifier_dice

SEEDS = range(4)


def arrays(seed: int, modality: str, phase: float) -> tuple[np.ndarray, np.ndarray]:
    return tuple(sitk.GetArrayFromImage(image) for image in make_case(seed, modality, phase))


@pytest.fixture(scope="module")
def cases():
    return {
        (seed, modality, phase): make_case(seed, modality, phase)
        for seed in SEEDS
        for modality in heart.MODALITIES
        for phase in PHASES
    }


def test_equal_seeds_give_equal_bits_and_others_do_not():
    first, again, other = (arrays(seed, "MR", 0.25) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].shape != other[0].shape or np.abs(first[0] - other[0]).max() > 0


def test_cycle_closes():
    np.testing.assert_array_equal(arrays(1, "CT", 0.0)[1], arrays(1, "CT", 1.0)[1])


@pytest.mark.parametrize(
    ("modality", "phase", "message"), [("PET", 0.0, "Valid modalities are"), ("MR", 1.5, "outside the cardiac cycle")]
)
def test_wrong_arguments(modality, phase, message):
    with pytest.raises(ValueError, match=message):
        make_case(0, modality, phase)


def test_every_case_holds_all_structures(cases):
    for key, (image, label) in cases.items():
        assert image.GetPixelID() == sitk.sitkFloat32 and label.GetPixelID() == sitk.sitkUInt8
        assert np.isfinite(sitk.GetArrayViewFromImage(image)).all()
        voxels = np.bincount(sitk.GetArrayViewFromImage(label).ravel(), minlength=8)
        assert len(voxels) == 8 and voxels.min() > 50, (key, voxels)


def test_structures_are_in_one_piece(cases):
    for key, (_, label) in cases.items():
        for structure in range(1, 8):
            parts = sitk.RelabelComponent(sitk.ConnectedComponent(label == structure, True))
            sizes = np.bincount(sitk.GetArrayViewFromImage(parts).ravel())[1:]
            assert sizes[0] > 0.9 * sizes.sum(), (key, structure, sizes)


def test_anatomy_is_where_it_belongs(cases):
    """Centres of mass in patient axes: x to the left, y to the back, z to the head."""
    for _, label in cases.values():
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(label)
        myo, lv, rv, la, ra, ao, pa = (np.array(shape.GetCentroid(i)) for i in range(1, 8))
        assert np.linalg.norm(myo - lv) < 15  # the wall is round the cavity
        assert rv[0] < lv[0] and ra[0] < la[0]  # the right heart is on the right
        assert rv[1] < lv[1] < la[1]  # RV in front, LA at the back
        assert min(ao[2], pa[2]) > max(lv[2], rv[2])  # great vessels on top


def test_volumes_beat(cases):
    for seed in SEEDS:
        for modality in heart.MODALITIES:
            diastole, systole = (_volumes_ml(cases[seed, modality, phase][1]) for phase in PHASES)
            assert 0.4 < 1 - systole[LV] / diastole[LV] < 0.75  # ejection fraction
            assert 0.3 < 1 - systole[RV] / diastole[RV] < 0.75
            # the wall keeps about its volume round a smaller cavity: it thickens
            assert 0.75 < systole[MYO] / diastole[MYO] < 1.25


def _volumes_ml(label: sitk.Image) -> np.ndarray:
    counts = np.bincount(sitk.GetArrayViewFromImage(label).ravel(), minlength=8)
    return counts * np.prod(label.GetSpacing()) / 1000


def test_grids_vary(cases):
    images = [image for image, _ in cases.values()]
    spacing = np.array([image.GetSpacing() for image in images])
    assert (spacing.max(1) / spacing.min(1) > 1.3).any() and (spacing.max(1) / spacing.min(1) == 1).any()
    assert len({image.GetSize() for image in images}) > 5
    identity = [np.allclose(image.GetDirection(), np.eye(3).ravel()) for image in images]
    assert any(identity) and not all(identity)
    assert all(min(image.GetSize()) >= 20 and max(image.GetSize()) <= 42 for image in images)


def test_intensity_alone_finds_nothing(cases):
    """Also with one classifier per modality, and with one fitted on the very case that it labels."""
    for modalities in (("CT",), ("MR",), ("CT", "MR")):
        numbers = {seed: _arrays(cases, seed, modalities) for seed in SEEDS}
        train = [case for seed in SEEDS[:3] for case in numbers[seed]]
        test = [case for seed in SEEDS[3:] for case in numbers[seed]]
        assert intensity_classifier_dice(train, test)["mean"] < 0.6
        assert all(intensity_classifier_dice([case], [case])["mean"] < 0.6 for case in test)


def _arrays(cases, seed, modalities):
    return [
        tuple(sitk.GetArrayFromImage(image) for image in cases[seed, modality, phase])
        for modality in modalities
        for phase in PHASES
    ]


def test_intensity_classifier_by_hand():
    """Eight voxels of four grey values; the rules can be checked on paper.

    Structure 1 is all of the third value and half of the fourth, structure 2 the other half. With the third and fourth
    bins structure 1 scores 2*3/(3+4), with the third alone 2*2/(3+2) = 0.8; structure 2 scores 2*1/(1+2).
    """
    image = np.array([0, 0, 1, 1, 2, 2, 3, 3], float)
    label = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    result = intensity_classifier_dice([(image, label)], [(image, label)])
    assert result["rule"] == "best bins per structure"
    assert result["per_structure"] == pytest.approx({1: 6 / 7, 2: 2 / 3})
    assert result["mean"] == pytest.approx((6 / 7 + 2 / 3) / 2)


def test_intensity_classifier_is_perfect_where_intensity_is_the_label():
    label = np.random.default_rng(0).integers(0, 4, (6, 6, 6))
    assert intensity_classifier_dice([(10.0 * label, label)], [(3.0 * label + 7, label)])["mean"] == 1


def test_best_bins_beat_every_other_choice():
    rng = np.random.default_rng(1)
    for _ in range(20):
        own = rng.integers(0, 9, 6).astype(float)
        own[0] += 1
        total = own + rng.integers(0, 9, 6)
        masks = [np.array([m >> i & 1 for i in range(6)], bool) for m in range(1, 64)]
        best = max(2 * own[m].sum() / (own.sum() + total[m].sum()) for m in masks if total[m].sum())
        chosen = intensity_baseline._best_bins(own, total)
        assert 2 * own[chosen].sum() / (own.sum() + total[chosen].sum()) == pytest.approx(best)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("raw") / "Dataset900_HeartPhantom", n_train=10, n_test=3, seed=5)


def test_dataset_is_complete(dataset):
    facts = json.loads((dataset / "dataset.json").read_text())
    assert facts["channel_names"] == {"0": "MR"} and facts["numTraining"] == 10
    assert list(facts["labels"].values()) == list(range(8))
    for part, n in (("Tr", 10), ("Ts", 3)):
        images = sorted(path.name for path in (dataset / f"images{part}").iterdir())
        labels = sorted(path.name for path in (dataset / f"labels{part}").iterdir())
        assert len(images) == n and images == [name.replace(".nii.gz", "_0000.nii.gz") for name in labels]


def test_folds_keep_subjects_together(dataset):
    splits = json.loads((dataset / "splits_final.json").read_text())
    names = {path.name.removesuffix(".nii.gz") for path in (dataset / "labelsTr").iterdir()}
    assert len(splits) == 5
    for fold in splits:
        assert set(fold["train"]) | set(fold["val"]) == names
        assert not {name[:5] for name in fold["train"]} & {name[:5] for name in fold["val"]}
    assert sorted(name for fold in splits for name in fold["val"]) == sorted(names)


def test_geometry_survives_the_file(dataset):
    image, label = make_case(_subject_seeds(5, 0, 1)[0], "CT", 0.5)
    for made, folder, name in ((image, "imagesTr", "_0000"), (label, "labelsTr", "")):
        read = sitk.ReadImage(str(dataset / folder / f"tr000_ct_phase050{name}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(made))
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(read, get)(), getattr(made, get)(), atol=1e-5)


def test_too_few_cases(tmp_path):
    with pytest.raises(ValueError, match="use 10 images or more"):
        write_dataset(tmp_path / "Dataset900_HeartPhantom", n_train=8, n_test=2)
