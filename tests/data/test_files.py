"""Small files: complete, or not there at all."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from nnunet_xlstm.data.files import write_text


def test_writers_of_one_file_do_not_meet(tmp_path):
    """The jobs of an array write what they share at the same time."""
    path = tmp_path / "shared.json"
    texts = [str(number) * 1000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda turn: write_text(path, texts[turn % 8]), range(400)))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "taken"
    path.mkdir()  # a folder, which no file can replace
    with pytest.raises(OSError):
        write_text(path, "text")
    assert list(tmp_path.iterdir()) == [path]
