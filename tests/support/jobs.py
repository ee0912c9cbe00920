"""Commands that write large results from inputs of their own, to be cut off at any moment; not a test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .image_files import body_image, cine, write


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        prepare: makes its inputs in a folder. argv: its arguments. results: folders whose content must be equal.
    """

    prepare: Callable[[Path], None]
    argv: Callable[[Path], list[str]]
    results: tuple[str, ...]


def labelled(folder: Path, name: str, cases: int) -> None:
    raw = folder / "nnunet" / "raw" / name
    for i in range(cases):
        write(raw / "imagesTr" / f"c{i}_0000.nii.gz", body_image(i))
        label = np.zeros((10, 20, 24), np.uint8)
        label[3:7, 5:15, 4:8], label[3:7, 5:15, 8 : 10 + i % 3] = 1, 2
        write(raw / "labelsTr" / f"c{i}.nii.gz", label)
    facts = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}
    (raw / "dataset.json").write_text(json.dumps(facts | {"numTraining": cases, "file_ending": ".nii.gz"}))


def for_unlabelled(folder: Path) -> None:
    for i in range(12):
        write(folder / "in" / f"s{i}.nii.gz", cine(6, seed=i), isVector=False)


def for_pool(folder: Path) -> None:
    labelled(folder, "Dataset001_One", 40)
    source = {"dataset": "Dataset001_One", "modality": "MR", "targets": {"liver": [1, 2], "tumour": [2]}}
    pool = {"name": "P", "targets": [{"name": "liver"}, {"name": "tumour"}], "hierarchy": [["liver", "tumour"]]}
    (folder / "POOL.json").write_text(json.dumps(pool | {"sources": [source]}))


def for_convert(folder: Path) -> None:
    for i in range(40):
        values = np.where(np.arange(24) < 10 + i % 5, 500, 0).astype(np.int16) * np.ones((10, 20, 1), np.int16)
        part = folder / "in" / "ct_train"
        write(part / f"ct_train_{1001 + i}_image.nii.gz", body_image(i))
        write(part / f"ct_train_{1001 + i}_label.nii.gz", values)


def for_evaluate(folder: Path) -> None:
    labelled(folder, "Dataset001_One", 40)
    labels = folder / "nnunet" / "raw" / "Dataset001_One" / "labelsTr"
    for i, path in enumerate(sorted(labels.iterdir())):
        image = sitk.ReadImage(str(path))
        array = np.roll(sitk.GetArrayFromImage(image), i % 3, axis=2)
        write(folder / "pred" / path.name, array)


def evaluate(folder: Path) -> list[str]:
    raw = folder / "nnunet" / "raw" / "Dataset001_One"
    command = ["evaluate", "-ref", str(raw / "labelsTr"), "-pred", str(folder / "pred")]
    return [*command, "-djfile", str(raw / "dataset.json"), "-o", str(folder / "out" / "summary.json")]


JOBS = {
    "unlabelled": Job(
        for_unlabelled, lambda f: ["unlabelled", "-i", str(f / "in"), "--modality", "MR", "-d", "7"], ("nnunet",)
    ),
    "pool build": Job(for_pool, lambda f: ["pool", "build", str(f / "POOL.json"), "-d", "9"], ("nnunet",)),
    "convert": Job(for_convert, lambda f: ["convert", "MMWHS_CT", "-i", str(f / "in"), "-d", "60"], ("nnunet",)),
    "evaluate": Job(for_evaluate, evaluate, ("out", "pred")),
}


def start(job: Job, folder: Path) -> subprocess.Popen:
    variables = {f"nnUNet_{name}": str(folder / "nnunet" / name) for name in ("raw", "preprocessed", "results")}
    for path in variables.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "nnunet_xlstm", *job.argv(folder)]
    env = os.environ | variables | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=env, cwd=folder, start_new_session=True, **pipes)


def files(job: Job, folder: Path) -> dict[str, bytes]:
    """File below the results -> its content, with the folder's own name taken out."""
    found = {}
    for name in job.results:
        for path in sorted((folder / name).rglob("*")):
            if path.is_file():
                data = path.read_bytes().replace(str(folder).encode(), b"ROOT")
                # times of change of the inputs are theirs, not the command's
                data = re.sub(rb'"fingerprint": "[0-9a-f]+"', b'"fingerprint": ""', data)
                found[path.relative_to(folder).as_posix()] = data
    return found


def readable(folder: Path) -> None:
    """Whatever is there under its own name is whole."""
    from nnunet_xlstm.imaging.integrity import check_whole

    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            if path.name.endswith(".nii.gz"):
                check_whole(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
