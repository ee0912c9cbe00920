"""Writes small DICOM series; not a test."""

import locale

import numpy as np
import SimpleITK as sitk

AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)


def write_series(
    folder, array, *, uid=1, cosines=AXIAL, skip=(), modality="CT", patient="P1", gap=3.0, tags=None, start=0
):
    """One file per slice of `array` (z, y, x) int16, stacked along the normal. tags: function of z -> more tags."""
    before = locale.setlocale(locale.LC_CTYPE)
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(cosines[:3], cosines[3:])
    for z in range(len(array)):
        if z in skip:
            continue
        image = sitk.GetImageFromArray(np.asarray(array[z], np.int16))
        image.SetSpacing((1.5, 1.5))
        position = normal * gap * z + (10, 20, 30)
        meta = {
            "0008|0060": modality,
            "0010|0020": patient,
            "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.1.{uid}",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{uid}.{start + z + 1}",
            "0020|0011": str(uid),
            "0008|103e": "thorax",
            "0020|0013": str(start + z + 1),
            "0020|0032": "\\".join(f"{v:.6f}" for v in position),
            "0020|0037": "\\".join(map(str, cosines)),
        } | (tags(z) if tags else {})
        for key, value in meta.items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"s{uid}_{start + z:03d}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_CTYPE, before)  # writing DICOM changes it for the whole process


def volume(seed=0, shape=(6, 12, 14)):
    return np.random.default_rng(seed).integers(-1000, 900, shape).astype(np.int16)
