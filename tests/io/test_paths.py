"""Names from files, before they become paths."""

import pytest

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.paths import FILE_NAME, PATH, inside, is_file_name, is_path
from nnunet_xlstm.io.validate import check

GOOD = ["case_01", "p 1", "Größe", "a.b", "a..b", "$HOME", "c" * 200, "-x", "~"]
BAD = ["", " ", ".", "..", ".hidden", "a/b", "../a", "/a", "a\\b", "a\nb", "a\0b", "\x7f", "\ud800", None, 3, ["a"]]


def test_names():
    assert all(map(is_file_name, GOOD)) and not any(map(is_file_name, BAD))
    assert all(map(is_path, [*GOOD, "/a/b", "../a"])) and not any(map(is_path, ["", "a\0", "\ud800/a", None, ["a"]]))
    assert [FILE_NAME.holds("a"), PATH.holds("/a/b"), PATH.holds("a\0")] == [True, True, False]
    with pytest.raises(DatasetError, match=r'here: name is "\.\./a"; give the name of a file: a text without /'):
        check("../a", FILE_NAME, "here", path="name")


def test_paths_that_lead_out(tmp_path):
    folder, other = tmp_path / "in", tmp_path / "other"
    (folder / "labels").mkdir(parents=True)
    other.mkdir()
    (other / "x").write_text("precious")
    for good in ("a", "labels/a", "new/deep/a", "labels/../a"):
        assert inside(folder, good, "here") == folder / good
    bad = ("../a", "labels/../../a", str(other / "x"), "..", "labels/..", "", ".", "a\0/b", f"../in2/{'x' * 5}")
    for name in bad:
        with pytest.raises(DatasetError, match="here: .* leads out of"):
            inside(folder, name, "here")
    (folder / "link").symlink_to(other)
    with pytest.raises(DatasetError, match="leads out of"):
        inside(folder, "link/x", "here")
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(DatasetError, match="leads out of"):
        inside(folder, "loop/x", "here")
    (folder / "file").symlink_to(other / "x")
    inside(folder, "file", "here").unlink()  # the link itself, not what it leads to
    assert (other / "x").read_text() == "precious"
    alias = tmp_path / "alias"
    alias.symlink_to(folder)  # a data set that is itself reached through a link
    assert inside(alias, "labels/a", "here") == alias / "labels/a"
