"""Writes small DICOM files; not a test."""

import warnings

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

ROOT = "1.2.826.0.1.3680043.2.1125.1"
AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)


def volume(seed=0, shape=(6, 12, 14)):
    return np.random.default_rng(seed).integers(-1000, 900, shape).astype(np.int16)


def write_series(
    folder, array, *, uid=1, cosines=AXIAL, skip=(), modality="CT", patient="P1", gap=3.0, tags=None, start=0
):
    """One file per slice of `array` (z, y, x) int16, stacked along the normal.

    tags: function of z -> {keyword: value}; None: without it.
    """
    normal = np.cross(cosines[:3], cosines[3:])
    for z in range(len(array)):
        if z in skip:
            continue
        dataset = _dataset(array[z], CTImageStorage if modality == "CT" else MRImageStorage, uid, start + z + 1)
        position = [float(v) for v in normal * gap * z + (10, 20, 30)]
        elements = {
            "Modality": modality,
            "PatientID": patient,
            "PixelSpacing": [1.5, 1.5],
            "ImagePositionPatient": position,
            "ImageOrientationPatient": [float(v) for v in cosines],
        }
        _set(dataset, elements | (tags(z) if tags else {}))
        save(dataset, folder / f"s{uid}_{start + z:03d}.dcm")


def write_enhanced(path, array, frames, *, uid=1, patient="P1", shared=None, **elements):
    """One enhanced MR file; array (n, y, x) int16.

    frames: for every frame {keyword: value}; shared: the same, of all frames; the functional group follows from the
    keyword. elements: of the file itself.
    """
    dataset = _dataset(array, EnhancedMRImageStorage, uid, 1)
    dataset.NumberOfFrames = len(array)
    groups = {"PixelSpacing": [1.5, 1.5], "SliceThickness": 3.0, "ImageOrientationPatient": [float(v) for v in AXIAL]}
    dataset.SharedFunctionalGroupsSequence = [_groups(groups | (shared or {}))]
    dataset.PerFrameFunctionalGroupsSequence = [_groups(frame) for frame in frames]
    _set(dataset, {"Modality": "MR", "PatientID": patient} | elements)
    save(dataset, path)


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are written on purpose
        dataset.save_as(path, enforce_file_format=True)


def item(**elements):
    """An item of a sequence."""
    return _set(Dataset(), elements)


def _groups(elements):
    from nnunet_xlstm.imaging.dicom.headers import GROUPS

    groups: dict[str, dict] = {}
    for keyword, value in elements.items():
        group = next(name for name, keywords in GROUPS.items() if keyword in keywords)
        groups.setdefault(group, {})[keyword] = value
    return item(**{name: [item(**inner)] for name, inner in groups.items()})


def _dataset(array, storage, uid, number):
    array = np.ascontiguousarray(array, np.int16)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return _set(
        dataset,
        {
            "SOPClassUID": storage,
            "SOPInstanceUID": f"{ROOT}.{uid}.{number}",
            "StudyInstanceUID": ROOT,
            "SeriesInstanceUID": f"{ROOT}.{uid}",
            "SeriesNumber": uid,
            "SeriesDescription": "thorax",
            "InstanceNumber": number,
            "Rows": array.shape[-2],
            "Columns": array.shape[-1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "PixelData": array.tobytes(),
        },
    )


def _set(dataset, elements):
    for keyword, value in elements.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset
