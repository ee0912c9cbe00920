"""Writes small images; not a test."""

import numpy as np
import SimpleITK as sitk


def body_image(seed=0, shape=(10, 20, 24)):
    """A bright box in noise, (z, y, x) float32."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, shape)
    image[2:-2, 4:-4, 4:-4] += 50 + seed
    return image.astype(np.float32)


def write(path, array=None, spacing=(1.0, 1.0, 3.0), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(body_image() if array is None else array, **options)
    image.SetSpacing((*spacing, 1.0)[: image.GetDimension()])
    sitk.WriteImage(image, str(path))
    return path


def cine(frames=4, seed=0):
    """(t, z, y, x)"""
    return np.stack([body_image(seed + t) for t in range(frames)])


def tree(folder):
    """File -> (bytes, time of modification)."""
    return {
        p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file()
    }
