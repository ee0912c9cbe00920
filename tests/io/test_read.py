"""JSON of strangers."""

import pytest

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.read import read_json


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[" * 100_000, "nested too deeply"), (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
     (b"\xff\xfe", "UTF-8"), (b"{", "not valid JSON"), (b"9" * 10_000, "not valid JSON"), (b"[1]", "holds a list"),
     (b'{"labels": {"a": 1, "b": 2, "a": 3}}', "it has 'a' twice")],
)  # fmt: skip
def test_json_that_is_not_usable(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_json(tmp_path / "a.json", dict)


def test_json_that_is_not_there(tmp_path):
    for path in (tmp_path / "a.json", tmp_path):
        with pytest.raises(DatasetError, match=f"{path}: cannot be read"):
            read_json(path)
