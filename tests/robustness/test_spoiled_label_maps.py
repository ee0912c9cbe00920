"""A label map that is not whole, holds NaN or has no geometry is refused by every command that judges, by its name."""

import gzip

import nibabel
import numpy as np
import pytest

from nnunet_xlstm.cli.main import main

COMMANDS = {
    "evaluate": "evaluate -ref {0}/ref -pred {0}/pred -djfile {0}/dataset.json -o {0}/out/s.json",
    "cardiac": "cardiac -i {0}/pred -ref {0}/ref -djfile {0}/dataset.json -o {0}/out/c.json",
    "mesh": "mesh -i {0}/pred -o {0}/out",
    "view": "view -i {0}/images -ref {0}/ref -pred {0}/pred -o {0}/out --cases a_ED b_ED",
}


def save(path, array, shear=0.0):
    affine = np.diag([-1.5, -1.5, 5.0, 1.0])
    affine[0, 1] = shear
    path.parent.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(array, None)
    image.set_sform(affine, 1)
    image.header.set_zooms((1.5, 1.5, 5.0))
    nibabel.save(image, path)


def heart(kind=np.uint8):
    array = np.zeros((16, 14, 6), kind)
    array[3:12, 3:8, 1:5], array[3:12, 8:11, 1:5] = 1, 2
    return array


@pytest.fixture
def work(tmp_path):
    for case in ("a_ED", "a_ES", "b_ED", "b_ES"):
        for folder in ("ref", "pred"):
            save(tmp_path / folder / f"{case}.nii.gz", heart())
        save(tmp_path / "images" / f"{case}_0000.nii.gz", heart(np.float32) * 100)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "LV": 1, "RV": 2}}')
    return tmp_path


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def cut_unzipped(path):
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw[: len(raw) * 6 // 10]))


def voxel(value):
    def spoil(path):
        array = heart(np.float64)
        array[5, 5, 3] = value
        save(path, array)

    return spoil


def pixdim(value):
    def spoil(path):
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[84:88] = np.float32(value).tobytes()
        path.write_bytes(gzip.compress(bytes(raw)))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut, "damaged or cut off"),
        (cut_unzipped, "cut off"),
        (voxel(np.nan), "holds NaN"),
        (voxel(1.0000001), "holds 1.0000001, which is no whole number"),
        (pixdim(0), "pixdim = [1.5, 0.0, 5.0]"),
        (pixdim(np.nan), "pixdim = [1.5, nan, 5.0]"),
    ],
    ids=["cut", "cut, zipped again", "NaN", "1.0000001", "pixdim 0", "pixdim NaN"],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_refused_by_name(work, capsys, command, spoil, words):
    spoil(work / "pred" / "b_ED.nii.gz")
    assert main(COMMANDS[command].format(work).split()) == 1
    error = capsys.readouterr().err
    assert f"{work}/pred/b_ED.nii.gz: " in error and words in error
    assert error.count(words) == 1  # once, and no page of a library's warnings
    assert "1 of" in error


@pytest.mark.parametrize("command", COMMANDS)
def test_read_as_nnunet_reads_them(work, capfd, command):
    """Axes that are not at right angles, and floats that are whole numbers."""
    for case in ("a_ED", "a_ES", "b_ED", "b_ES"):
        for folder in ("ref", "pred"):
            save(work / folder / f"{case}.nii.gz", heart(np.float64 if case == "a_ED" else np.uint8), shear=0.03)
        save(work / "images" / f"{case}_0000.nii.gz", heart(np.float32) * 100, shear=0.03)
    assert main(COMMANDS[command].format(work).split()) == 0
    assert "sform" not in capfd.readouterr().err  # ITK's warning
