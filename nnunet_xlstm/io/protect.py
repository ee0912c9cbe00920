"""Outputs that are no inputs: nothing that a command reads is replaced by what it writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.io.read import read_json


def protect_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to replace a file that is read, also where a link or another spelling of its path leads to it.

    Args:
        outputs: files, there or not.
        inputs: files that are read.

    Raises:
        ConfigError: an output is an input.
    """
    taken: dict[Any, Path] = {}
    for path in inputs:
        for key in _identities(path):
            taken.setdefault(key, path)
    for path in outputs:
        for key in _identities(path):
            if key in taken:
                raise ConfigError(
                    f"-o: {path} would replace {taken[key]}, which this command reads; give another name or folder"
                )


def protect_other_json(path: Path, key: str) -> None:
    """Refuse to replace a JSON file of another kind, such as a dataset.json or plans.json.

    Args:
        path: of the file to write.
        key: that every file of this kind has.

    Raises:
        ConfigError: the file is there, is not empty, and does not have the key.
    """
    try:
        if not Path(path).is_file() or not os.path.getsize(path) or key in read_json(path, dict):
            return
    except DatasetError:
        pass
    raise ConfigError(
        f"-o: {path} is there, and no file that this command wrote (it has no '{key}'); give another name, or "
        "move it away"
    )


def _identities(path: Path) -> Iterator[Any]:
    path = Path(path)
    yield path.parent.resolve() / path.name
    if path.exists():
        facts = path.stat()
        yield path.resolve()
        yield facts.st_dev, facts.st_ino
