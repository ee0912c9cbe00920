"""Which files are images, which belong to one, and what lies below a folder."""

import os

import pytest

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.image_files import companions, files_below, is_half_of_a_pair, is_image, relative_to, stem


def test_names():
    assert [stem(name) for name in ("a.nii.gz", "b.NII", "c.d.png", "e")] == ["a", "b", "c.d", "e"]
    assert companions("/x/a_0001.tif") == ["/x/a_0001.json", "/x/a.json"]
    assert companions("/x/a.mhd") == ["/x/a.raw", "/x/a.zraw"] and companions("/x/a.nii.gz") == []


def test_a_pair_is_one_image(tmp_path):
    for name in ("a.hdr", "a.img", "b.img"):
        (tmp_path / name).touch()
    assert is_image(tmp_path / "a.hdr") and not is_image(tmp_path / "a.img")
    assert is_half_of_a_pair(tmp_path / "a.img") and not is_half_of_a_pair(tmp_path / "b.img")


def test_an_accent_has_one_spelling(tmp_path):
    """macOS keeps it as a letter of its own."""
    assert relative_to(tmp_path / "Jose\u0301", tmp_path) == relative_to(tmp_path / "Jos\u00e9", tmp_path)


def test_files_below_in_order_once_and_without_hidden_ones(tmp_path):
    for name in ("b/2.txt", "b/1.txt", "a/3.txt", ".hidden", "._b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "round").symlink_to(tmp_path, target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ["a/3.txt", "b/1.txt", "b/2.txt"]


def test_a_folder_that_cannot_be_read_is_never_skipped_in_silence(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    stock = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return stock(path)

    monkeypatch.setattr(os, "scandir", scandir)
    unreadable = []
    assert not list(files_below(tmp_path, unreadable)) and unreadable[0][0] == str(tmp_path / "closed")
    with pytest.raises(DatasetError, match="closed: cannot be read"):
        list(files_below(tmp_path))
