"""Data sets that come from elsewhere: what their files name, and how much memory they may take."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import pytest
from support.image_files import body_image, tree, write
from support.pool_predictions import ideal, make_dataset_json, write_case
from support.raw_datasets import change, claiming, raw_dataset

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.pools.build import build_pool
from nnunet_xlstm.pools.restrict.folder import restrict_folder
from nnunet_xlstm.pools.restrict.painting import Request

POOL = {
    "name": "Mix",
    "targets": [{"name": "liver"}, {"name": "tumour", "group": "lesion"}],
    "hierarchy": [["liver", "tumour"]],
    "sources": [{"dataset": "Dataset001_A", "modality": "CT", "targets": {"liver": [1, 2], "tumour": [2]}}],
}


@pytest.fixture
def pool(nnunet_folders, tmp_path):
    """POOL.json over one raw data set, and files elsewhere that nobody may touch."""
    raw_dataset(nnunet_folders / "raw" / "Dataset001_A", ["a", "b"])
    (nnunet_folders / "raw" / "precious.txt").write_text("precious")
    (tmp_path / "precious.txt").write_text("precious")
    path = tmp_path / "POOL.json"
    path.write_text(json.dumps(POOL))
    return path


def edit(path, function):
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def outside(tmp_path, folder):
    """All files but those of the data set."""
    mine = {str(folder.relative_to(tmp_path)), str(folder.relative_to(tmp_path)).replace("raw", "preprocessed")}
    return {name: seen for name, seen in tree(tmp_path).items() if not any(name.startswith(m) for m in mine)}


# Names ----------------------------------------------------------------------------------------------------------------


def images_elsewhere(content):
    content["dataset"]["Dataset001_A_a"]["images"] = ["../../../precious.txt"]


def label_elsewhere(content):
    content["dataset"]["Dataset001_A_a"]["label"] = "labelsTr/../../precious.txt"


def label_in_another_folder(content):
    content["dataset"]["Dataset001_A_a"]["label"] = "splits_final.json"


def case_elsewhere(content):
    content["dataset"]["../../x"] = content["dataset"]["Dataset001_A_a"]


def table_is_a_list(content):
    content["dataset"] = list(content["dataset"].values())


DATASET_JSON = [images_elsewhere, label_elsewhere, label_in_another_folder, case_elsewhere, table_is_a_list]


def name_elsewhere(content):
    for memory in content["inputs"].values():
        memory["name"] = "../../../escaped"
        memory["fingerprint"] = "another"


def name_with_a_folder(content):
    for memory in content["inputs"].values():
        memory["name"] = "/tmp/escaped"


def no_name(content):
    for memory in content["inputs"].values():
        del memory["name"]


def cases_elsewhere(content):
    for memory in content["inputs"].values():
        memory["cases"] = ["../../x"]


def cases_are_a_text(content):
    for memory in content["inputs"].values():
        memory["cases"] = "Dataset001_A_a"


def inputs_are_a_list(content):
    content["inputs"] = []


def row_elsewhere(content):
    content["cases"]["../../../x"] = content["cases"].pop("Dataset001_A_a")


def hidden_row(content):
    content["cases"][".x"] = content["cases"].pop("Dataset001_A_a")


def images_are_a_number(content):
    content["cases"]["Dataset001_A_a"]["images"] = 5


POOL_CASES = [
    name_elsewhere, name_with_a_folder, no_name, cases_elsewhere, cases_are_a_text, inputs_are_a_list, row_elsewhere,
    hidden_row, images_are_a_number,
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "attack"),
    [("dataset.json", a) for a in DATASET_JSON] + [("pool_cases.json", a) for a in POOL_CASES],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("forget", [False, True])
def test_nothing_outside_of_the_data_set_is_written_or_deleted(pool, tmp_path, file, attack, forget):
    """A data set that someone else made ready: building it again, with its inputs or without one of them."""
    dataset, _ = build_pool(pool, 50)
    edit(dataset.folder / file, attack)
    if forget:
        edit(pool, lambda content: content["sources"][0].update(exclude=["a"]))
    before = outside(tmp_path, dataset.folder)
    with pytest.raises(DatasetError, match=str(dataset.folder)):
        build_pool(pool, 50)
    assert outside(tmp_path, dataset.folder) == before


@pytest.mark.parametrize("name", ["imagesTr", "labelsTr"])
def test_a_folder_that_is_a_link_leads_nowhere(pool, tmp_path, name):
    dataset, _ = build_pool(pool, 50)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f".x.{os.uname().nodename}-99999999.abc.tmp").write_text("not ours")
    folder = dataset.folder / name
    if folder.is_dir():
        folder.rename(tmp_path / "moved")
    folder.symlink_to(elsewhere)
    with pytest.raises(DatasetError, match=f"{name}/file' leads out of"):
        build_pool(pool, 50)
    assert len(list(elsewhere.iterdir())) == 1


def test_a_label_map_that_is_a_link_is_replaced_itself(pool, tmp_path):
    dataset, _ = build_pool(pool, 50)
    label = dataset.folder / "labelsTr" / "Dataset001_A_a.nii.gz"
    label.unlink()
    label.symlink_to(tmp_path / "precious.txt")
    build_pool(pool, 50)
    assert not label.is_symlink() and (tmp_path / "precious.txt").read_text() == "precious"


def test_folds_that_are_damaged(pool):
    dataset, _ = build_pool(pool, 50)
    for text in ('{"a": 1}', '[{"train": 3}]', "[" * 100_000):
        (dataset.folder / "splits_final.json").write_text(text)
        with pytest.raises(DatasetError, match=r"splits_final\.json"):
            build_pool(pool, 50)


@pytest.mark.parametrize("name", ["../../x", ".x", "a/b", "a\\b", ""])
def test_names_of_sources_become_names_of_files(pool, name):
    edit(pool, lambda content: content["sources"][0].update(name=name))
    with pytest.raises(DatasetError, match="name is .*; give the name of a file"):
        build_pool(pool, 50)


def test_predictions_name_nothing_outside(tmp_path):
    dataset = make_dataset_json({"liver": "organ"}, {"S": {"liver": [1]}})
    folder = write_case(tmp_path / "in", "a", dataset, ideal(dataset, "S", np.ones((2, 3, 4), int)))
    for change_ in ({"file_ending": "/../../x.nii.gz"}, {"file_ending": 3}):
        (folder / "dataset.json").write_text(json.dumps(dataset | change_))
        with pytest.raises(DatasetError, match="file_ending is"):
            restrict_folder(folder, tmp_path / "out", Request())
    text = json.dumps(dataset).replace('"liver"', '"../../liver"')
    (folder / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match="name is .*; give the name of a file"):
        restrict_folder(folder, tmp_path / "out", Request())
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "masks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="masks/liver/file' leads out of"):
        restrict_folder(folder, tmp_path / "out", Request())
    assert not list((tmp_path / "elsewhere").iterdir())


def test_studies_and_features_name_nothing_outside(pool):
    """They name links, predictions and pictures after the cases of a raw data set."""
    from nnunet_xlstm.nnunet.loading.raw_images import RawImages

    folder = pool.parent / "nnunet" / "raw" / "Dataset001_A"
    assert list(RawImages.find(str(folder)).images) == ["a", "b"]
    row = {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"}
    for keys, said in (
        ({"dataset": {"../../escaped": row}}, 'dataset has the key "../../escaped"; give the name of a file'),
        ({"dataset": {"a": row}, "file_ending": "/../../escaped.nii.gz"}, "file_ending is"),
    ):
        change(folder, **keys)
        with pytest.raises(DatasetError, match=said):
            RawImages.find(str(folder))


LATIN = b"caf\xe9"  # a name from an old disk


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="the file system takes no such name")
def test_names_that_are_no_text_do_not_end_the_process(pool):
    """SimpleITK, given such a name, ends the interpreter; so this runs in one of its own."""
    folder = pool.parent / "nnunet" / "raw" / "Dataset001_A"
    for part, end in (("imagesTr", b"_0000.nii.gz"), ("labelsTr", b".nii.gz")):
        os.rename(folder / part / ("a" + end.decode()), os.fsencode(folder / part) + b"/" + LATIN + end)
    for command, said in (
        (["check", "-d", "1"], "caf\\udce9_0000.nii.gz: its name is not UTF-8, so it cannot be opened; rename it"),
        (["pool", "build", str(pool), "-d", "50"], "its name is not UTF-8"),
    ):
        run = subprocess.run(
            [sys.executable, "-m", "nnunet_xlstm", *command], capture_output=True, encoding="utf-8", env=os.environ
        )
        assert run.returncode == 1 and said in run.stdout + run.stderr and "Traceback" not in run.stderr, run.stderr


# Memory ---------------------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from pathlib import Path
from nnunet_xlstm.catalogue.convert import convert
from nnunet_xlstm.pools.build import build_pool
from nnunet_xlstm.datasets.check import check_dataset
from nnunet_xlstm.pools.restrict.painting import Request
from nnunet_xlstm.pools.restrict.folder import restrict_folder
from nnunet_xlstm.errors import DatasetError

peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for call in sys.argv[1:]:
    said = ""
    try:
        eval(call)
    except DatasetError as error:
        said = " ".join(str(error).split())
    before, peak = peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((peak - before) * (1 if sys.platform == "darwin" else 1024) / 1e6, said)
"""
LIMIT = 60  # MB; what the files claim is 400 to 3000


def measured(*calls):
    """Of each call, the MB that it raises the peak of memory by, and the error."""
    # elsewhere than in the clone, whose package lacks what is installed into it
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, *calls], capture_output=True, text=True, cwd=tempfile.gettempdir()
    )
    assert process.returncode == 0, process.stderr
    lines = [line.partition(" ") for line in process.stdout.splitlines()]
    return [(float(megabytes), said) for megabytes, _, said in lines]


def prediction(folder, what):
    """A prediction of 24 voxels with probabilities, or a label map, that claim or unpack to more."""
    dataset = make_dataset_json({"liver": "organ"}, {"S": {"liver": [1]}})
    write_case(folder, "a", dataset, ideal(dataset, "S", np.ones((2, 3, 4), int)))
    if what == "label map":
        claiming(folder / "a.nii.gz")
        return
    shape = (1, 900, 900, 900) if what == "shape" else (1, 2, 3, 4)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    if what == "header":
        start = b"\x93NUMPY\x02\x00" + (2**30).to_bytes(4, "little")
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("probabilities.npy", "w", force_zip64=True) as file:
            file.write(start)
            for _ in range(400):  # 400 MB of zeros in 0.4 MB
                file.write(bytes(1_000_000))


@pytest.mark.skipif(sys.platform == "win32", reason="needs the module resource")
def test_what_small_files_claim_costs_no_memory(pool, tmp_path):
    source = pool.parent / "nnunet" / "raw" / "Dataset001_A"
    claiming(source / "labelsTr/a.nii.gz")
    claiming(source / "imagesTr/b_0000.nii.gz")
    native = tmp_path / "native"
    claiming(native / "ct_train/ct_train_1001_label.nii.gz")
    write(native / "ct_train/ct_train_1001_image.nii.gz", body_image())
    claiming(native / "ct_train/ct_train_1002_image.nii.gz")
    write(native / "ct_train/ct_train_1002_label.nii.gz", body_image().astype(np.int16))
    restrict = {
        "label map": "its header claims 900 x 900 x 900 voxels",
        "shape": "has the shape (1, 900, 900, 900)",
        "header": "version (2, 0) of NumPy's format",
        "longer": "longer than its header says",
    }
    calls = {
        f"build_pool(Path({str(pool)!r}), 50)": "labelsTr/a.nii.gz: its header claims 900 x 900 x 900 voxels, 729 MB",
        f"check_dataset(Path({str(source)!r}))": "",
        f"convert('MMWHS_CT', Path({str(native)!r}), 60)": "none of 2 inputs can be used",
    }
    for what, said in restrict.items():
        prediction(tmp_path / what, what)
        calls[f"restrict_folder(Path({str(tmp_path / what)!r}), Path({str(tmp_path / 'out')!r}), Request())"] = said
    for (call, expected), (megabytes, said) in zip(calls.items(), measured(*calls), strict=True):
        assert megabytes < LIMIT and expected in said and bool(expected) == bool(said), (call, megabytes, said)
