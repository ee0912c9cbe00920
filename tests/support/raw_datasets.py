"""Small raw data sets of nnU-Net, and damage to their files; not a test."""

import gzip
import json
import struct

import numpy as np

from support.image_files import body_image, write


def raw_dataset(folder, cases, *, channels=("CT",), ending=".nii.gz", labels=None, values=(1, 2), **more):
    """imagesTr, labelsTr and dataset.json; every label map holds a box of each of `values`."""
    for i, case in enumerate(cases):
        for c in range(len(channels)):
            write(folder / "imagesTr" / f"{case}_{c:04d}{ending}", body_image(10 * i + c))
        write(folder / "labelsTr" / f"{case}{ending}", boxes(*values))
    write_dataset_json(folder, channels, len(cases), ending, labels or {"liver": 1, "tumour": 2}, **more)
    return folder


def write_dataset_json(folder, channels, n, ending, labels, **more):
    content = {
        "channel_names": {str(c): name for c, name in enumerate(channels)},
        "labels": {"background": 0} | labels,
        "numTraining": n,
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(content | more))


def change(folder, **keys):
    """Set keys of dataset.json."""
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def boxes(*values, kind=np.uint8):
    """A box of each value in background, on the grid of `body_image`."""
    label = np.zeros((10, 20, 24), kind)
    for i, value in enumerate(values):
        label[3:7, 5:15, 4 + 4 * i : 8 + 4 * i] = value
    return label


def cut(path, share=0.6):
    """Keep the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def patch_nifti(path, offset, kind, *values):
    """Overwrite fields of a NIfTI-1 header."""
    zipped = path.name.endswith(".gz")
    data = bytearray(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
    struct.pack_into("<" + kind, data, offset, *values)
    path.write_bytes(gzip.compress(bytes(data), mtime=0) if zipped else bytes(data))
    return path


def zero_pixdim(path):
    return patch_nifti(path, 80, "f", 0.0)


def sheared(path, angle=0.02):
    """Axes that are not at right angles, in the sform alone, as some converters write it."""
    patch_nifti(path, 252, "hh", 0, 1)
    return patch_nifti(path, 280, "4f", 1.0, angle, 0.0, 0.0)


def claiming(path, edge=900, size=28_000):
    """A small NIfTI file whose header claims edge^3 voxels."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, edge, edge, edge, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(bytes(header) + rng.bytes(size), mtime=0))
    return path
