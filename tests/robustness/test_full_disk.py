"""A full disk, for every command that writes: no broken file that a rerun keeps, and one line says it.

For `plan_like` and `adapt` see tests/nnunet/transfer/test_adapt.py, for trainings tests/nnunet/training/test_base.py,
for `study` tests/studies/test_full_disk.py, for `features` tests/cli/test_cmd_features.py.
`NNUNET_XLSTM_DISKS=10 pytest tests/robustness/test_full_disk.py` tries ten sizes; else two.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.image_files import body_image, tree, write
from support.jobs import JOBS, files, labelled, readable, start
from support.pool_predictions import ideal, make_dataset_json, write_case
from support.small_disk import DISKS, empty, resize, used

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.comparison import run as comparison
from nnunet_xlstm.comparison.plots import Job
from nnunet_xlstm.io.write import write_bytes

PAGE = 4096  # bytes; a tmpfs gives room by the page


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_the_disk_is_full_at(tmp_path, disk, name):
    job = JOBS[name]
    job.prepare(disk)
    before = used(disk)
    process = start(job, disk)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    wanted, after = files(job, disk), used(disk)
    for i in range(DISKS):
        empty(disk)
        job.prepare(disk)
        resize(disk, before + (after - before) * (i + 1) // (DISKS + 1))
        process = start(job, disk)
        output, _ = process.communicate()
        last = output.strip().splitlines()[-1]
        assert process.returncode == 1 and "Traceback" not in output, output
        assert any(word in last for word in ("No space left", "make room", "quota")), last
        readable(disk)
        resize(disk, 64 << 20)
        again = start(job, disk)
        output, _ = again.communicate()
        assert again.returncode == 0, output
        found = files(job, disk)
        assert found.keys() == wanted.keys()
        assert found == wanted


# Commands that judge: an earlier result is there, and the disk is too small for the new one -------------------------


def hearts(folder: Path) -> None:
    for i in range(6):
        for phase, width in (("ED", 9), ("ES", 7)):
            label = np.zeros((6, 24, 24), np.uint8)
            label[1:5, 3:15, 3 : 3 + width], label[1:5, 3:15, 14:20] = 1, 2
            write(folder / "ref" / f"p{i}_{phase}.nii.gz", label)
            write(folder / "pred" / f"p{i}_{phase}.nii.gz", np.roll(label, i % 3, axis=2))
            write(folder / "images" / f"p{i}_{phase}_0000.nii.gz", body_image(i, label.shape))
    (folder / "dataset.json").write_text(
        '{"labels": {"background": 0, "LV": 1, "RV": 2}, "channel_names": {"0": "MR"}}'
    )
    where = [f"-ref={folder}/ref", f"-pred={folder}/pred", f"-djfile={folder}/dataset.json"]
    assert main(["evaluate", *where, f"-o={folder}/summary.json"]) == 0


JUDGING = {  # command, and what makes its second result another one
    "evaluate": ("evaluate -ref {0}/ref -pred {0}/pred -djfile {0}/dataset.json -o {1}/summary.json", "--hd95 pooled"),
    "cardiac": ("cardiac -i {0}/pred -ref {0}/ref -djfile {0}/dataset.json -o {1}/cardiac.json", "--density 1.2"),
    "compare": ("compare A={0}/summary.json B={0}/summary.json -o {1} --metrics Dice", "--seed 2"),
    "mesh": ("mesh -i {0}/ref -djfile {0}/dataset.json -o {1}", "--smooth 3"),
    "view": ("view -i {0}/images -ref {0}/ref -djfile {0}/dataset.json -o {1} --cases p0_ED p1_ES", "--style filled"),
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    hearts(folder)
    return folder


def drawn(job: Job, folder: Path) -> list[Path]:
    """Drawing takes seconds; the page only packs the file."""
    write_bytes(folder / f"{job.name}.png", job.caption.encode() + bytes(30_000))
    return [folder / f"{job.name}.png"]


@pytest.mark.parametrize("name", JUDGING)
def test_an_earlier_result_survives_a_full_disk(judged, disk, name, capsys, monkeypatch):
    monkeypatch.setattr(comparison, "draw", drawn)
    command, change = (text.format(judged, disk).split() for text in JUDGING[name])
    assert main(command) == 0
    before, full = tree(disk), used(disk)
    shutil.copytree(disk, judged / f"old_{name}")
    assert main([*command, *change]) == 0  # what it would become
    after = {path: content for path, (content, _) in tree(disk).items()}
    changed = [-(-len(content) // PAGE) for path, content in after.items() if content != before[path][0]]
    pages = max(changed) if name == "view" else sum(changed)  # view puts each picture in place when it is drawn
    for i in range(DISKS + 1):
        resize(disk, 64 << 20)
        empty(disk)
        shutil.copytree(judged / f"old_{name}", disk, dirs_exist_ok=True)
        resize(disk, full + (pages - 1) * i // (DISKS + 1) * PAGE)
        capsys.readouterr()
        assert main([*command, *change]) == 1
        error = capsys.readouterr().err.strip().splitlines()
        assert str(disk) in error[-1] and "make room on that disk" in error[-1] and "staging" not in error[-1], error
        found = {path: content for path, (content, _) in tree(disk).items() if not path.endswith(".unfinished")}
        assert found.keys() == before.keys()
        if name == "view":  # a picture a case, each whole
            assert all(content in (before[path][0], after[path]) for path, content in found.items())
        else:
            assert found == {path: content for path, (content, _) in before.items()}
    resize(disk, 64 << 20)
    assert main([*command, *change]) == 0
    assert {path: content for path, (content, _) in tree(disk).items()} == after


# Commands that write little: there is no room at all ------------------------------------------------------------------


def for_split(folder: Path) -> str:
    labelled(folder, "Dataset001_One", 10)
    return f"split -d {folder}/nnunet/raw/Dataset001_One --folds 5 --overwrite"


def for_restrict(folder: Path) -> str:
    targets = {"liver": ("organ", ["CT", "MR"], ["abdomen"]), "tumor": ("lesion", ["CT"], ["abdomen"])}
    dataset = make_dataset_json(targets, {"Liver": {"liver": [1, 2], "tumor": [2]}}, [["liver", "tumor"]])
    native = np.random.default_rng(0).integers(0, 3, (4, 16, 16))
    write_case(folder / "pred", "a", dataset, ideal(dataset, "Liver", native))
    return f"restrict -i {folder}/pred -o {folder}/out"


SMALL = {"split": (for_split, "--seed 3"), "restrict": (for_restrict, "--modality MR")}  # as JUDGING


@pytest.mark.parametrize("name", SMALL)
def test_there_is_no_room(disk, name, capsys):
    prepare, change = SMALL[name]
    command, change = prepare(disk).split(), change.split()
    assert main(command) == 0
    before = tree(disk)
    resize(disk, used(disk))
    capsys.readouterr()
    assert main([*command, *change]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(disk) in error and "make room on that disk" in error
    assert {path: content for path, (content, _) in tree(disk).items()} == {p: c for p, (c, _) in before.items()}
    resize(disk, 64 << 20)
    assert main([*command, *change]) == 0
    assert tree(disk) != before
