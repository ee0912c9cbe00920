"""Inputs are never outputs."""

import os

import pytest

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.protect import protect_inputs
from nnunet_xlstm.io.write import (
    write_json,
)


def test_no_input_is_an_output(tmp_path):
    source = tmp_path / "data" / "a.json"
    write_json(source, {})
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "b.json").symlink_to(source)
    os.link(source, tmp_path / "c.json")
    other_ways = ("link/a.json", "b.json", "c.json", "x/../data/a.json")
    for output in (source, *(tmp_path / way for way in other_ways)):
        with pytest.raises(ConfigError, match=r"-o: .* would replace .*a\.json, which this command reads"):
            protect_inputs([output], [source])
    protect_inputs([tmp_path / "data" / "new.json"], [source, tmp_path / "missing"])
    for gone in (tmp_path / "missing", tmp_path / "link" / "gone"):  # not there yet is no excuse
        with pytest.raises(ConfigError):
            protect_inputs([gone], [tmp_path / "missing", tmp_path / "data" / "gone"])
